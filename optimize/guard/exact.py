"""Bounds of shares that hold for any number of cases: the exact ones, where the score intervals promise 5 % and reach 8 %.

*A single share.* Of n cases h are hits; the bounds are those of Clopper and Pearson (Biometrika 26, 1934), quantiles of beta distributions.
Counts may be fractions, as effective numbers of cases are (Korn and Graubard, Survey Methodology 24, 1998).

*Difference of two shares of the same cases.* Of n cases b were right and are wrong, c were wrong and are right. The upper bound is the
largest drop d that the cases do not rule out (Buehler, Journal of the American Statistical Association 52, 1957; Chan and Zhang, Biometrics
55, 1999): with results ordered by Tango's upper bound U,

    sup over q of P(U(B, C) <= U(b, c)) > alpha,      (B, C, n - B - C) multinomial with shares d + q, q, 1 - d - 2 q.

The unknown share q runs over its interval of confidence 1 - alpha / 50 alone, and alpha / 50 is taken off alpha in return (Berger and Boos,
Journal of the American Statistical Association 89, 1994). The lower bound is that of the swapped models with its sign turned. Of effective
numbers of cases, which are fractions, the border between results is a fraction, too: never to the favour of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, floor, sqrt

import numpy as np
from scipy.special import bdtr, bdtrik, betainc, betaincinv, gammaln, ndtr, ndtri, xlog1py, xlogy

from optimize.guard.score_intervals import Booleans, Doubles, Interval, tango_high

NUISANCE = 0.02
"""Share of alpha that is spent on the range of the unknown share of gained cases."""
GRID = 17
"""Values of that share which are tried."""
PRECISION = 1e-6
FAR, MARGIN = 5.0, 6.0
"""Results beyond so many standard deviations, and so many cases more, are left out."""
SWAPS = 6
MANY = 20_000
"""Cases beyond which a chance is taken from the normal distribution."""
STEPS = 30
FEW = 30
"""Cases below which the bound is looked for by halving."""


def clopper_pearson(hits: float, cases: float, alpha: float) -> Interval:
    """Bounds of a share, each one-sided, see above.

    Args:
        hits: how many of the cases count.
        cases: how many there are; 0 bounds nothing.
        alpha: chance that a bound misses.
    """
    if cases <= 0:
        return 0.0, 1.0
    low = float(betaincinv(hits, cases - hits + 1, alpha)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, cases - hits, 1 - alpha)) if hits < cases else 1.0
    return low, high


def paired(lost: float, gained: float, cases: float, alpha: float) -> Interval:
    """Bounds of the drop of a share, each one-sided, see above.

    Args:
        lost: cases that were right and are wrong.
        gained: cases that were wrong and are right.
        cases: how many there are; 0 bounds nothing.
        alpha: chance that a bound misses.
    """
    return -paired_high(gained, lost, cases, alpha), paired_high(lost, gained, cases, alpha)


@lru_cache(maxsize=4096)
def paired_high(lost: float, gained: float, cases: float, alpha: float) -> float:
    """The upper of the `paired` bounds."""
    if cases <= 0 or lost >= cases:
        return 1.0
    start = tango_high(lost, gained, cases, -float(ndtri(alpha)))
    if start >= 1:
        return 1.0
    region = _Region(start, gained, cases, alpha, whole=all(float(each).is_integer() for each in (lost, gained, cases)))
    return max(region.boundary(sqrt(max(1.0, lost + gained)) / cases), (lost - gained) / cases)


def pass_chance(lost: float, gained: float, cases: int, alpha: float, limit: float) -> float:
    """Chance that the upper bound of so many cases lies within a limit.

    Args:
        lost: share of the cases that will be lost.
        gained: share that will be gained.
        cases: how many there will be.
        alpha: chance that the bound misses.
        limit: the largest drop that passes.
    """
    if cases > MANY:
        spread = sqrt(max(lost + gained - (lost - gained) ** 2, 1 / cases) / cases)
        return float(ndtr((limit - lost + gained) / spread + ndtri(alpha)))
    low, high = max(-1.0, limit - 1.0), limit
    for _ in range(STEPS):  # the border of the results that pass, in terms of Tango's bound
        middle = (low + high) / 2
        region = _Region(middle, gained * cases, cases, alpha, whole=True)
        low, high = (middle, high) if region.sizes(limit).max(initial=0.0) <= region.target else (low, middle)
        if high - low < 0.002 / cases:
            break
    return _Region(low, gained * cases, cases, alpha, whole=True).chance(lost, gained)


def hits_chance(share: float, cases: int, alpha: float, limit: float) -> float:
    """Chance that the upper bound of a share lies within a limit.

    Args:
        share: of the cases that will count.
        cases: how many there will be.
        alpha: chance that the bound misses.
        limit: the largest share that passes.
    """
    if limit >= 1:
        return 1.0
    most = float(bdtrik(alpha, cases, limit)) if limit > 0 else -1.0  # solves P(hits <= most) = alpha
    most = floor(most + 1e-9) if bdtr(0, cases, max(limit, 0.0)) <= alpha else -1
    return float(bdtr(most, cases, share)) if most >= 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Region:
    """All results whose upper bound by Tango is at most `edge`.

    Args:
        edge: the bound.
        gained: cases gained, around which the unknown share is looked for.
        cases: how many there are.
        alpha: chance that the exact bound may miss.
        whole: results are whole numbers of cases.
    """

    edge: float
    gained: float
    cases: float
    alpha: float
    whole: bool

    @property
    def target(self) -> float:
        """What is left of alpha."""
        return self.alpha * (1 - NUISANCE)

    @cached_property
    def range(self) -> Interval:
        """Of the unknown share."""
        return clopper_pearson(self.gained, self.cases, NUISANCE * self.alpha / 2)

    @cached_property
    def borders(self) -> tuple[Doubles, Doubles]:
        """Numbers of gained cases that matter, and the most lost ones that each allows."""
        low, high = (self.cases * each for each in self.range)
        first, last = max(0, floor(low - FAR * sqrt(low) - MARGIN)), min(floor(self.cases), ceil(high + FAR * sqrt(high) + MARGIN))
        gained = np.arange(first, last + 1, dtype=np.float64)
        lost = _border(self.edge, gained, self.cases, -float(ndtri(self.alpha)), whole=self.whole)
        return gained[lost >= 0], lost[lost >= 0]

    @cached_property
    def ways(self) -> Doubles:
        """Logarithm of the number of ways to gain so many cases."""
        gained, _ = self.borders
        return np.asarray(gammaln(self.cases + 1) - gammaln(gained + 1) - gammaln(self.cases - gained + 1))

    def sizes(self, drop: float, picked: slice = slice(None)) -> Doubles:
        """Chance of the region at some values of the unknown share, if the true drop is `drop`."""
        low, high = max(self.range[0], -drop, 0.0), min(self.range[1], (1 - drop) / 2)
        if low > high:
            return np.zeros(1)
        gained = (np.linspace(sqrt(low), sqrt(high), GRID)[picked] ** 2)[:, None]
        return self._chances(np.maximum(gained + drop, 0.0), gained)

    def chance(self, lost: float, gained: float) -> float:
        """Chance of the region at these shares of lost and gained cases."""
        return min(1.0, float(self._chances(np.array([[lost]]), np.array([[gained]]))[0]))

    def _chances(self, lost: Doubles, gained: Doubles) -> Doubles:
        counts, most = self.borders
        others = self.cases - counts
        weights = np.exp(self.ways + xlogy(counts, gained) + xlog1py(others, -gained))
        share = np.clip(lost / np.maximum(1 - gained, 1e-300), 0.0, 1.0)
        within = np.where(most >= others, 1.0, betainc(np.maximum(others - most, 1e-12), most + 1, 1 - share))
        return np.asarray((weights * within).sum(1))

    def boundary(self, scale: float) -> float:
        """The drop at which the region is as likely as `target`; `scale` is about its spread."""
        drop = max(self.edge, -1 + 1e-9)
        if self.cases < FEW:
            return self._halved(drop)
        sizes = self.sizes(drop)
        for _ in range(SWAPS):
            best = int(sizes.argmax())
            drop = self._root(drop, scale, slice(max(0, best - 1), best + 2))
            sizes = self.sizes(drop)
            if sizes.max() <= self.target * (1 + 1e-4):
                break
        return drop

    def _halved(self, drop: float) -> float:
        """By halving: of few cases the chance is no line, and secants may end anywhere."""
        low, high = drop, 1.0
        if self.sizes(low).max() <= self.target:
            low, high = -1.0, drop
        while high - low > PRECISION:
            middle = (low + high) / 2
            low, high = (middle, high) if self.sizes(middle).max() > self.target else (low, middle)
        return high

    def _root(self, drop: float, scale: float, picked: slice) -> float:
        """By secants, of what is nearly a line: the point of the normal distribution that the chance is at."""

        def beyond(at: float) -> float:
            return float(ndtri(np.clip(self.sizes(at, picked).max(initial=0.0), 1e-300, 1 - 1e-16)) - ndtri(self.target))

        one, above = drop, beyond(drop)
        two = float(np.clip(drop + (scale * above / 2 or PRECISION), -1.0, 1.0))
        for _ in range(STEPS):
            other = beyond(two)
            if other == above or abs(two - one) < PRECISION / 2:
                break
            one, two, above = two, float(np.clip(two - other * (two - one) / (other - above), -1.0, 1.0)), other
        return min(1.0, two + PRECISION / 2)


def _border(edge: float, gained: Doubles, cases: float, z: float, *, whole: bool) -> Doubles:
    """The most lost cases with which Tango's bound is at most `edge`, for each number of gained ones; negative where there are none."""

    def inside(lost: Doubles) -> Booleans:
        linear = (2 * cases - lost + gained) * edge - lost - gained
        share = (np.sqrt(np.maximum(0.0, linear**2 + 8 * cases * gained * edge * (1 - edge))) - linear) / (4 * cases)
        spread = np.sqrt(np.maximum(0.0, cases * (2 * share + edge * (1 - edge))))
        return np.asarray(lost - gained - cases * edge + z * spread <= 1e-7 + 1e-9 * cases, dtype=np.bool_)

    low = np.full(len(gained), -1.0)
    high = np.maximum(np.floor(np.minimum(cases - gained, gained + cases * edge)), -1.0) + 1
    while (high - low).max(initial=0.0) > 1:
        middle = np.floor((low + high) / 2)
        within = inside(middle)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    if whole:
        return np.asarray(low)
    low, high = np.maximum(low, -1.0), np.minimum(low + 1, cases - gained)
    for _ in range(STEPS):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.asarray(high)
