"""Exact bounds of shares, which hold for any number of cases. Score intervals that promise an error of 5 % may reach 8 % with few cases.

*A single share.* Of n cases h are hits; the bounds are those of Clopper and Pearson (Biometrika 26, 1934), quantiles of beta distributions.
Counts may be fractions, as effective numbers of cases are (Korn and Graubard, Survey Methodology 24, 1998).

*Difference of two shares of the same cases.* Of n cases b were right and are wrong, c were wrong and are right. The upper bound is the
largest drop d that the cases do not rule out (Buehler, Journal of the American Statistical Association 52, 1957; Chan and Zhang, Biometrics
55, 1999): with results ordered by Tango's upper bound U,

    sup over q of P(U(B, C) <= U(b, c)) > alpha,      (B, C, n - B - C) multinomial with shares d + q, q, 1 - d - 2 q.

Example: 2 of 150 cases were lost and none was gained, at alpha = 5 %. Tango's bound of the drop is 3.9 pp, the exact one 4.2 pp: if 4.2 %
of all cases were truly lost, results as good as (2, 0) or better would still have a chance of 5 %.

The share q of gained cases is not known, so the largest chance over all q counts. Only values of q in its interval of confidence 1 - alpha
/ 50 are tried, and alpha / 50 is taken off alpha in return (Berger and Boos, Journal of the American Statistical Association 89, 1994). The
lower bound is the upper bound of the swapped models with its sign turned. Effective numbers of cases are fractions; the border between
results is then a fraction, too, and is never chosen in favour of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, floor, sqrt

import numpy as np
from scipy.special import bdtr, bdtrik, betainc, betaincinv, gammaln, ndtr, ndtri, xlog1py, xlogy

from optimize.guard.score_intervals import Booleans, Doubles, Interval, tango_high

NUISANCE = 0.02
"""Share of alpha that is spent on the range of the unknown share q of gained cases."""
GRID = 17
"""Number of values of q that are tried."""
PRECISION = 1e-6
TAIL_DEVIATIONS, TAIL_CASES = 5.0, 6.0
"""Results further from the expected count than this many standard deviations plus this many cases are left out."""
MAX_NUISANCE_SEARCHES = 6
MAX_EXACT_CASES = 20_000
"""Number of cases above which a chance is computed with the normal distribution."""
MAX_STEPS = 30
MIN_SECANT_CASES = 30
"""Number of cases below which the bound is found by bisection instead of the secant method."""


def clopper_pearson(hits: float, cases: float, alpha: float) -> Interval:
    """The bounds of Clopper and Pearson for a share, each one-sided.

    Args:
        hits: number of cases that count.
        cases: number of cases; with 0 the bounds are 0 and 1.
        alpha: chance that a bound misses.
    """
    if cases <= 0:
        return 0.0, 1.0
    # 95 hits of 100 at alpha = 5 % give 0.898 and 0.980; 50 of 50 give 0.942 and 1: only hits rule out no high share.
    low = float(betaincinv(hits, cases - hits + 1, alpha)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, cases - hits, 1 - alpha)) if hits < cases else 1.0
    return low, high


def paired(lost: float, gained: float, cases: float, alpha: float) -> Interval:
    """The exact bounds of the drop of a share, each one-sided.

    Args:
        lost: cases that were right and are wrong.
        gained: cases that were wrong and are right.
        cases: number of cases; with 0 the bounds are -1 and 1.
        alpha: chance that a bound misses.
    """
    return -paired_high(gained, lost, cases, alpha), paired_high(lost, gained, cases, alpha)


@lru_cache(maxsize=4096)
def paired_high(lost: float, gained: float, cases: float, alpha: float) -> float:
    """The upper bound of `paired`; the arguments are the same. Cached, since reports ask for the same counts again and again."""
    if cases <= 0 or lost >= cases:
        return 1.0
    # Tango's bound comes first: it ranks the results, and it is a good first guess of the exact bound.
    start = tango_high(lost, gained, cases, -float(ndtri(alpha)))
    if start >= 1:
        return 1.0
    # All results that Tango's bound ranks as at least as good as this one. Its edge is this result's own bound, so the result is in it.
    region = _Region(start, gained, cases, alpha, whole=all(float(count).is_integer() for count in (lost, gained, cases)))
    return max(region.boundary(sqrt(max(1.0, lost + gained)) / cases), (lost - gained) / cases)


def pass_chance(lost: float, gained: float, cases: int, alpha: float, limit: float) -> float:
    """The chance that the upper bound of the drop lies within a limit: the power of a test with this many cases.

    Args:
        lost: share of the cases that will be lost.
        gained: share of the cases that will be gained.
        cases: number of cases of the future test.
        alpha: chance that the bound misses.
        limit: the largest drop that passes.
    """
    if cases > MAX_EXACT_CASES:
        # Each case counts 1, 0 or -1, so its variance is b + c - (b - c)^2 with shares b and c. One case at least keeps it above 0.
        spread = sqrt(max(lost + gained - (lost - gained) ** 2, 1 / cases) / cases)
        return float(ndtr((limit - lost + gained) / spread + ndtri(alpha)))
    # Tango's bound is rarely wider than the exact one, so the border between what passes and what does not lies at `limit` or just below.
    low, high = max(-1.0, limit - 1.0), limit
    for _ in range(MAX_STEPS):
        # A result passes when the chance of all results up to it is at most alpha at a drop of `limit`. The results are ordered by Tango's
        # bound, so one value of it separates those that pass from the rest: bisection finds it.
        middle = (low + high) / 2
        region = _Region(middle, gained * cases, cases, alpha, whole=True)
        low, high = (middle, high) if region.chances_at_drop(limit).max(initial=0.0) <= region.target else (low, middle)
        if high - low < 0.002 / cases:
            break
    return _Region(low, gained * cases, cases, alpha, whole=True).chance(lost, gained)


def drop_passes(lost: int, gained: int, cases: int, alpha: float, limit: float) -> bool:
    """Whether the upper bound of the drop lies within a limit: what `paired_high` decides, without the search for the bound itself.

    Args:
        lost: cases that were right and are wrong.
        gained: cases that were wrong and are right.
        cases: number of cases.
        alpha: chance that the bound misses.
        limit: the largest drop that passes.
    """
    if cases <= 0 or lost >= cases or lost - gained > limit * cases + 1e-9:
        return limit >= 1.0
    # Tango's bound is hardly ever wider than the exact one, and is found far more quickly: most results that do not pass end here.
    edge = tango_high(lost, gained, cases, -float(ndtri(alpha)))
    if edge > limit:
        return False
    region = _Region(edge, gained, cases, alpha, whole=True)
    return bool(region.chances_at_drop(limit).max(initial=0.0) <= region.target * (1 + 1e-4))


def hits_chance(share: float, cases: int, alpha: float, limit: float) -> float:
    """The chance that the upper bound of a share lies within a limit.

    Args:
        share: share of the cases that will count.
        cases: number of cases of the future test.
        alpha: chance that the bound misses.
        limit: the largest share that passes.
    """
    if limit >= 1:
        return 1.0
    # Example: 100 cases, a limit of 5 %, alpha = 5 %. At a true share of 5 % one hit or none has chance 3.7 %, two or fewer 11.8 %: so at
    # most one hit passes. With up to 58 cases even 0 hits has a chance above 5 %, and nothing passes.
    most = float(bdtrik(alpha, cases, limit)) if limit > 0 else -1.0  # solves P(hits <= most) = alpha
    most = floor(most + 1e-9) if bdtr(0, cases, max(limit, 0.0)) <= alpha else -1
    return float(bdtr(most, cases, share)) if most >= 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Region:
    """All results (B, C) whose upper bound by Tango is at most `edge`.

    Args:
        edge: largest bound of a result in the region.
        gained: number of cases gained in the sample; the interval of the unknown share q is around it.
        cases: number of cases.
        alpha: chance that the exact bound may miss.
        whole: whether results are whole numbers of cases; False for effective numbers, which are fractions.
    """

    edge: float
    gained: float
    cases: float
    alpha: float
    whole: bool

    @property
    def target(self) -> float:
        """The part of alpha that is left for the bound itself."""
        return self.alpha * (1 - NUISANCE)

    @cached_property
    def range(self) -> Interval:
        """Interval of the unknown share q of gained cases."""
        return clopper_pearson(self.gained, self.cases, NUISANCE * self.alpha / 2)

    @cached_property
    def borders(self) -> tuple[Doubles, Doubles]:
        """Numbers of gained cases that are likely enough to matter, and the largest number of lost cases in the region for each."""
        low, high = (self.cases * bound for bound in self.range)
        # 5 standard deviations of a Poisson count, and 6 cases for small counts, leave out only results of negligible chance.
        first = max(0, floor(low - TAIL_DEVIATIONS * sqrt(low) - TAIL_CASES))
        last = min(floor(self.cases), ceil(high + TAIL_DEVIATIONS * sqrt(high) + TAIL_CASES))
        # One number of lost cases for each number of gained ones describes the whole region, since fewer lost cases are always in it, too.
        gained = np.arange(first, last + 1, dtype=np.float64)
        lost = _border(self.edge, gained, self.cases, -float(ndtri(self.alpha)), whole=self.whole)
        return gained[lost >= 0], lost[lost >= 0]

    @cached_property
    def log_combinations(self) -> Doubles:
        """Logarithms of the binomial coefficients of `borders`: in how many ways that many of the cases can be gained."""
        gained, _ = self.borders
        return np.asarray(gammaln(self.cases + 1) - gammaln(gained + 1) - gammaln(self.cases - gained + 1))

    def chances_at_drop(self, drop: float, picked: slice = slice(None)) -> Doubles:
        """The chance of the region at each tried value of q, if the true drop is `drop`.

        Args:
            drop: the true drop.
            picked: which of the `GRID` values of q to try.
        """
        low, high = max(self.range[0], -drop, 0.0), min(self.range[1], (1 - drop) / 2)
        if low > high:
            return np.zeros(1)
        # Lost and gained shares, q + drop and q, must both be possible. Square roots of q are spaced evenly, since the spread of a small
        # count grows with its square root: the grid is finer near 0, where the chance changes fastest.
        gained = (np.linspace(sqrt(low), sqrt(high), GRID)[picked] ** 2)[:, None]
        return self._chances(np.maximum(gained + drop, 0.0), gained)

    def chance(self, lost: float, gained: float) -> float:
        """The chance of the region if these are the true shares of lost and gained cases."""
        return min(1.0, float(self._chances(np.array([[lost]]), np.array([[gained]]))[0]))

    def _chances(self, lost: Doubles, gained: Doubles) -> Doubles:
        counts, max_lost = self.borders
        not_gained = self.cases - counts
        # Sum over C of P(C gained) * P(B <= border | C): given C, the lost cases are binomial among the other cases.
        weights = np.exp(self.log_combinations + xlogy(counts, gained) + xlog1py(not_gained, -gained))
        share = np.clip(lost / np.maximum(1 - gained, 1e-300), 0.0, 1.0)
        # The incomplete beta function is the binomial distribution, and also takes fractional counts.
        within = np.where(max_lost >= not_gained, 1.0, betainc(np.maximum(not_gained - max_lost, 1e-12), max_lost + 1, 1 - share))
        return np.asarray((weights * within).sum(1))

    def boundary(self, scale: float) -> float:
        """The drop at which the chance of the region is `target`: the exact bound.

        Args:
            scale: rough standard error of the drop, for the first step of the search.
        """
        # A drop of exactly -1 means that every case was gained, and leaves no range of q to try.
        drop = max(self.edge, -1 + 1e-9)
        if self.cases < MIN_SECANT_CASES:
            return self._halved(drop)
        # The worst q hardly moves with the drop. So the root is found at the worst q and its two neighbours only, and then it is checked
        # whether another q has become the worst; three values in place of seventeen for most of the work.
        sizes = self.chances_at_drop(drop)
        for _ in range(MAX_NUISANCE_SEARCHES):
            best = int(sizes.argmax())
            drop = self._root(drop, scale, slice(max(0, best - 1), best + 2))
            sizes = self.chances_at_drop(drop)
            # No q of all 17 gives a larger chance than alpha allows; the 1e-4 changes no digit of the bound that is shown.
            if sizes.max() <= self.target * (1 + 1e-4):
                break
        return drop

    def _halved(self, drop: float) -> float:
        """The boundary by bisection: with few cases the chance is far from linear in the drop, and the secant method may fail."""
        low, high = drop, 1.0
        if self.chances_at_drop(low).max() <= self.target:
            # Tango's bound was already too wide, so the exact bound lies below it.
            low, high = -1.0, drop
        while high - low > PRECISION:
            middle = (low + high) / 2
            low, high = (middle, high) if self.chances_at_drop(middle).max() > self.target else (low, middle)
        # The upper end, since a bound may be too wide by `PRECISION`, but never too narrow.
        return high

    def _root(self, drop: float, scale: float, picked: slice) -> float:
        """The boundary by the secant method, on the normal quantile of the chance, which is nearly linear in the drop."""

        def beyond(at: float) -> float:
            # On this scale a chance of 5 % is -1.64 and one of 0.5 % is -2.58. The clip keeps the quantiles of 0 and 1 finite.
            return float(ndtri(np.clip(self.chances_at_drop(at, picked).max(initial=0.0), 1e-300, 1 - 1e-16)) - ndtri(self.target))

        previous, previous_value = drop, beyond(drop)
        # Half of the distance that the normal distribution suggests, so that the second point does not lie far beyond the root.
        current = float(np.clip(drop + (scale * previous_value / 2 or PRECISION), -1.0, 1.0))
        for _ in range(MAX_STEPS):
            value = beyond(current)
            if value == previous_value or abs(current - previous) < PRECISION / 2:
                break
            step = value * (current - previous) / (value - previous_value)
            previous, previous_value = current, value
            current = float(np.clip(current - step, -1.0, 1.0))
        # The root is known to half of PRECISION; the other half is added so that the bound never lies inside the exact one.
        return min(1.0, current + PRECISION / 2)


def _border(edge: float, gained: Doubles, cases: float, z: float, *, whole: bool) -> Doubles:
    """The largest number of lost cases with which Tango's bound is at most `edge`; -1 where no number is.

    The bound grows with the lost cases, so bisection finds the border, for all numbers of gained cases at a time. Whether the bound is at
    most `edge` needs no root search: the score of Tango at d = `edge` only has to be beyond -z.

    Args:
        edge: largest bound.
        gained: numbers of gained cases.
        cases: number of cases.
        z: point of the normal distribution at the bound's confidence.
        whole: whether numbers of lost cases are whole.
    """

    def inside(lost: Doubles) -> Booleans:
        linear = (2 * cases - lost + gained) * edge - lost - gained
        share = (np.sqrt(np.maximum(0.0, linear**2 + 8 * cases * gained * edge * (1 - edge))) - linear) / (4 * cases)
        spread = np.sqrt(np.maximum(0.0, cases * (2 * share + edge * (1 - edge))))
        # The tolerance takes in results that lie exactly on the edge, such as the observed one, whose bound `edge` itself is.
        return np.asarray(lost - gained - cases * edge + z * spread <= 1e-7 + 1e-9 * cases, dtype=np.bool_)

    low = np.full(len(gained), -1.0)
    # No result with a drop above `edge` can be inside, as its bound is above its drop: so the border is at most gained + cases * edge.
    high = np.maximum(np.floor(np.minimum(cases - gained, gained + cases * edge)), -1.0) + 1
    while (high - low).max(initial=0.0) > 1:
        middle = np.floor((low + high) / 2)
        within = inside(middle)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    if whole:
        return np.asarray(low)
    # Between two whole numbers the border is sought as a fraction. The upper end is returned, so the bound can only be too wide.
    low, high = np.maximum(low, -1.0), np.minimum(low + 1, cases - gained)
    for _ in range(MAX_STEPS):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.asarray(high)
