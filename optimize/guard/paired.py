"""What paired cases can tell: how far a figure fell between two models that answered the same cases, with a bound on either side.

Every bound is one-sided, with the confidence asked for. The formulas:

*Difference of two shares.* Of n cases, b were right and are wrong, c were wrong and are right; the share fell by (b - c) / n. The bounds
are those of Tango's score interval (Statistics in Medicine 17, 1998): all d with

    |b - c - n d| <= z sqrt(n (2 q + d (1 - d))),      q = (sqrt(B^2 - 8 n C) - B) / 4 n,
    B = (2 n - b + c) d - b - c,      C = -c d (1 - d)

where q is the likeliest share of c given d. With c = 0 the upper one is Wilson's.

*A single share.* Of n cases h are hits; the bounds are Wilson's (Journal of the American Statistical Association 22, 1927):

    (h + z^2 / 2 -+ z sqrt(h (n - h) / n + z^2 / 4)) / (n + z^2).

*Ratio of two shares.* With a cases right in both, the artifact's share is r times the original's; the bounds are those of the score
interval of Tang, Tang and Chan (Statistics in Medicine 22, 2003): all r with

    |a + c - r (a + b)| <= z sqrt(n r ((1 - r) m + (1 + r) q)),      q = (sqrt(B^2 - 4 A C) - B) / 2 A,      m = (a + b + c) / n,
    A = n r (1 + r),      B = a + c - r^2 (a + b + 2 c),      C = -c r (1 - r) m

where q is the likeliest share of c given r.

*Cases of the same patient* are no independent cases. The counts are divided by the design effect (Rao and Scott, Biometrics 48, 1992), the
variance of the difference over patients (Obuchowski, Statistics in Medicine 17, 1998) over that of independent cases, and z becomes the
point of Student's distribution with one degree of freedom less than there are patients. How alike a patient's cases are shows only where
cases have moved: half a patient whose cases all moved together is added to both variances, so that with nothing to go by a patient's cases
count as wholly alike (then the effect is Kish's, 1965: sum n_i^2 / n).

*A mean over patients* fell by the mean of their differences x, with Student's interval, mean -+ t s / sqrt(n). Where the differences are
skewed (a few patients lost much), that of Hall (Journal of the Royal Statistical Society B 54, 1992) takes its place on the side on which
it is wider: with g the skewness and s the spread of n differences,

    mean - s w(+-t / sqrt(n)),      w(y) = 3 / g ((1 + g (y - g / 6 n))^(1/3) - 1).

No interval knows of a loss that no patient in the sample had: of n patients all well, one in n / 3 may still not be (the rule of three).

Whether anything moved at all is asked by McNemar's exact test, the two-sided binomial test of b against c, of independent cases alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Booleans: TypeAlias = npt.NDArray[np.bool_]
Doubles: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]

TANGO = "score interval of a paired difference (Tango 1998)"
TANG = "score interval of a paired ratio (Tang, Tang and Chan 2003)"
WILSON = "score interval of a share (Wilson 1927)"
STUDENT = "interval over patients (Student; Hall 1992 where skewed)"
CLUSTERED = ", widened for cases of the same patient"
PRIOR = 0.5
"""Of a patient whose cases all moved together."""
NO_SKEW, NO_SPREAD = 1e-6, 1e-9
FEWEST_PATIENTS = 5
"""Fewer do not show how much patients differ, and a bound of theirs would be made of nothing."""
ANYTHING: Interval = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Bounded:
    """A figure with what chance may have done to it.

    Args:
        value: the figure.
        low: its lower bound.
        high: its upper bound.
        seen: how many cases or patients it is taken over.
        unit: "cases" or "patients".
        method: where the bounds come from.
        widened: the bounds if there were so many times as many cases, at the same rates; None where that cannot be said.
        lost: cases that were right and are wrong; None where it does not apply.
        gained: cases that were wrong and are right; likewise.
        fewest: so many cases or patients are needed before there is any bound; None where there is one.
        alone: every case stands for itself, and not for its patient.
    """

    value: float
    low: float
    high: float
    seen: int
    unit: str
    method: str
    widened: Callable[[float], Interval] | None
    lost: int | None = None
    gained: int | None = None
    fewest: int | None = None
    alone: bool = True

    @property
    def p_value(self) -> float | None:
        """Of McNemar's exact test, two-sided; None where it does not apply, as among cases of the same patient."""
        return mcnemar(self.lost, self.gained) if self.alone and self.lost is not None and self.gained is not None else None


def mcnemar(lost: int, gained: int) -> float:
    """Chance of so uneven a split of the cases that moved, or a more uneven one, if both ways were as likely."""
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def drop_of_share(
    before: Booleans, after: Booleans, confidence: float, patients: Integers | None = None, *, relative: bool = False
) -> Bounded:
    """How far the share of right cases fell.

    Args:
        before: whether the original got each case right, (n,).
        after: whether the artifact did, (n,).
        confidence: of either bound.
        patients: number of each case's patient, (n,); None where every case stands for itself.
        relative: bound the ratio of the two shares instead of their difference, and give it as the drop from the original's share.
    """
    lost, gained, cases = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    widening, freedom, method = _clustered(before.astype(float) - after, patients, TANG if relative else TANGO)
    both, share = int((before & after).sum()), float(before.mean()) if cases else 0.0

    def interval(times: float) -> Interval:
        scale, z = times / widening, quantile(confidence, None if freedom is None else times * (freedom + 1) - 1)
        if not relative:
            return tango(lost * scale, gained * scale, cases * scale, z)
        if not share:
            return ANYTHING  # of nothing there is no share
        low, high = tang(both * scale, lost * scale, gained * scale, cases * scale, z)
        return max(-1.0, share * (1 - high)), share * (1 - low)

    value = (lost - gained) / max(1, cases)
    widened = None if relative and not share else interval
    return Bounded(value, *interval(1.0), cases, "cases", method, widened, lost, gained, alone=patients is None)


def share_of(hits: Booleans, confidence: float, patients: Integers | None = None) -> Bounded:
    """A share of cases.

    Args:
        hits: which cases count, (n,).
        confidence: of either bound.
        patients: number of each case's patient, (n,); None where every case stands for itself.
    """
    cases, count = len(hits), int(hits.sum())
    widening, freedom, method = _clustered(hits.astype(float), patients, WILSON)

    def interval(times: float) -> Interval:
        scale = times / widening
        return wilson(count * scale, cases * scale, quantile(confidence, None if freedom is None else times * (freedom + 1) - 1))

    return Bounded(count / max(1, cases), *interval(1.0), cases, "cases", method, interval)


def _clustered(differences: Doubles, patients: Integers | None, method: str) -> tuple[float, int | None, str]:
    """The design effect, the degrees of freedom, and the name of the method."""
    if patients is None:
        return 1.0, None, method
    clusters = as_numbers(patients)
    return design_effect(differences, clusters), int(clusters.max(initial=0)), method + CLUSTERED


def mean_of(
    values: Doubles, confidence: float, value: float | None = None, ends: Interval = ANYTHING, freedom: int | None = None
) -> Bounded:
    """A mean over patients.

    Args:
        values: one of each, (n,).
        confidence: of either bound.
        value: the figure itself where it is not quite the mean of `values`.
        ends: the least and the most that there can be.
        freedom: degrees of freedom of the spread; by default n - 1.
    """
    count = len(values)
    middle = (float(values.mean()) if count else 0.0) if value is None else value
    if count < FEWEST_PATIENTS:
        return Bounded(middle, *ends, count, "patients", STUDENT, None, fewest=FEWEST_PATIENTS)
    spread = float(values.std(ddof=1))
    skew, free = _skewness(values) if spread > NO_SPREAD else 0.0, count - 1 if freedom is None else freedom

    def interval(times: float) -> Interval:
        below, above = reach(quantile(confidence, times * (free + 1) - 1), times * count, skew)
        return max(ends[0], middle - spread * below), min(ends[1], middle + spread * above)

    return Bounded(middle, *interval(1.0), count, "patients", STUDENT, interval)


def reach(place: float, count: float, skew: float) -> tuple[float, float]:
    """How many spreads a mean of `count` values may lie below and above: Student's place, or Hall's where it is further out, see above."""
    chance = place / sqrt(count)
    return max(chance, _hall(chance, skew, count)), max(chance, -_hall(-chance, skew, count))


def _skewness(values: Doubles) -> float:
    from scipy.stats import skew

    return float(skew(values))


def _hall(place: float, skew: float, count: float) -> float:
    """Hall's w, see above."""
    if abs(skew) < NO_SKEW:
        return place
    return float(3 / skew * (np.cbrt(1 + skew * (place - skew / (6 * count))) - 1))


def quantile(confidence: float, freedom: float | None = None) -> float:
    """Point of the normal distribution, or of Student's."""
    if freedom is None:
        return NormalDist().inv_cdf(confidence)
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), confidence))


def design_effect(differences: Doubles, clusters: Integers) -> float:
    """How many times as large the variance of a mean is as if all cases were independent, at least 1; see above.

    Args:
        differences: of each case, (n,), each -1, 0 or 1.
        clusters: number of each case's patient, (n,), from 0 without gaps.
    """
    if not len(clusters):
        return 1.0
    sizes, mean = np.bincount(clusters).astype(float), float(differences.mean())
    sums = np.bincount(clusters, weights=differences)
    typical = float((sizes**2).sum() / sizes.sum())
    spare = len(sizes) / max(1, len(sizes) - 1)
    clustered = spare * float(((sums - mean * sizes) ** 2).sum()) + PRIOR * typical**2
    independent = float(((differences - mean) ** 2).sum()) + PRIOR * typical
    return max(1.0, clustered / independent)


def wilson(hits: float, cases: float, z: float) -> Interval:
    """Bounds of a share, see above."""
    if cases <= 0:
        return 0.0, 1.0
    middle, spread = hits + z**2 / 2, z * sqrt(max(0.0, hits * (cases - hits) / cases + z**2 / 4))
    return max(0.0, (middle - spread) / (cases + z**2)), min(1.0, (middle + spread) / (cases + z**2))


def tango(lost: float, gained: float, cases: float, z: float) -> Interval:
    """Bounds of the drop of a share, see above."""
    return -_tango_high(gained, lost, cases, z), _tango_high(lost, gained, cases, z)


def _tango_high(lost: float, gained: float, cases: float, z: float) -> float:
    if cases <= 0 or lost >= cases:
        return 1.0
    from scipy.optimize import brentq

    def beyond(drop: float) -> float:
        linear = (2 * cases - lost + gained) * drop - lost - gained
        constant = -gained * drop * (1 - drop)
        share = (sqrt(max(0.0, linear**2 - 8 * cases * constant)) - linear) / (4 * cases)
        return lost - gained - cases * drop + z * sqrt(max(0.0, cases * (2 * share + drop * (1 - drop))))

    # At the drop itself the spread may be nothing, and that is no bound.
    near = min((lost - gained) / cases + 1e-9, 1.0)
    if beyond(1.0) >= 0:
        return 1.0
    return float(brentq(beyond, near, 1.0)) if beyond(near) > 0 else near


def tang(both: float, lost: float, gained: float, cases: float, z: float) -> Interval:
    """Bounds of the ratio of the artifact's share to the original's, see above; (0, infinity) where the original got nothing right."""
    before, after, any_right = both + lost, both + gained, (both + lost + gained) / max(cases, 1e-300)
    if before <= 0:
        return 0.0, float("inf")
    from scipy.optimize import brentq

    def score(ratio: float) -> Interval:
        square, linear = cases * ratio * (1 + ratio), after - ratio**2 * (before + 2 * gained)
        constant = -gained * ratio * (1 - ratio) * any_right
        share = (sqrt(max(0.0, linear**2 - 4 * square * constant)) - linear) / (2 * square)
        spread = sqrt(max(0.0, cases * ratio * ((1 - ratio) * any_right + (1 + ratio) * share)))
        return after - ratio * before, spread

    def above(ratio: float) -> float:
        distance, spread = score(ratio)
        return distance + z * spread

    def below(ratio: float) -> float:
        distance, spread = score(ratio)
        return distance - z * spread

    middle = after / before
    far, near = middle * 1e-6, middle * (1 - 1e-9)
    low = 0.0
    if middle > 0 and below(far) > 0:
        low = near if below(near) >= 0 else float(brentq(below, far, near))
    top = max(2.0, 2 * middle)
    while above(top) > 0 and top < 1e6:
        top *= 2
    near = middle * (1 + 1e-9) + 1e-12
    if top >= 1e6:
        return low, float("inf")
    return low, float(brentq(above, near, top)) if above(near) > 0 else near


def as_numbers(ids: npt.NDArray[Any]) -> Integers:
    """Ids as numbers from 0 without gaps."""
    return np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64)
