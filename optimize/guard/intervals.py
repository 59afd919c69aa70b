"""How far a figure fell between two models on the same cases, with a lower and an upper bound.

Every bound is one-sided, with the confidence that was asked for. Each comes in two kinds. The verdict uses bounds that also hold for few
cases: for shares the exact bound (`optimize.guard.exact`), for means a bound that includes a worst case (`optimize.guard.worst_case`). The
search, whose choice is judged again on other cases, uses the usual large-sample bounds: score intervals of shares
(`optimize.guard.score_intervals`), and Student's interval of a mean over patients.

*Ratio of two shares.* The score interval of the ratio is widened by as much as the exact bound of the difference is beyond Tango's.

*Cases of the same patient* are no independent cases. The counts are divided by the design effect (Rao and Scott, Biometrics 48, 1992), the
variance of the difference over patients (Obuchowski, Statistics in Medicine 17, 1998) over that of independent cases, and alpha becomes
that of a normal distribution at the point of Student's with one degree of freedom less than there are patients. How alike a patient's cases
are shows only where cases have moved: half a patient whose cases all moved together is added to both variances, so that with nothing to go
by a patient's cases count as wholly alike (then the effect is Kish's, 1965: sum n_i^2 / n).

*A mean over patients* fell by the mean of their differences x, with Student's interval, mean -+ t s / sqrt(n). Where the differences are
skewed (a few patients lost much), that of Hall (Journal of the Royal Statistical Society B 54, 1992) takes its place on the side on which
it is wider: with g the skewness and s the spread of n differences,

    mean - s w(+-t / sqrt(n)),      w(y) = 3 / g ((1 + g (y - g / 6 n))^(1/3) - 1).

Neither knows of a loss that no patient in the sample had: of n patients all well, one in n / 3 may still not be (the rule of three). So the
verdict's bound holds one more patient against the model, who lost as much as is assumed to be possible.

Whether anything moved at all is asked by McNemar's exact test, the two-sided binomial test of b against c, of independent cases alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from optimize.guard.exact import clopper_pearson, hits_chance, paired, pass_chance
from optimize.guard.score_intervals import Booleans, Doubles, Integers, Interval, tang, tango, wilson
from optimize.guard.worst_case import mean_high

Odds: TypeAlias = Callable[[float, float], tuple[float, float]]
"""(times, limit) -> (chance that the upper bound is at most the limit, chance that the lower bound is at least the limit), with `times` as
many cases at the same rates."""

DIFFERENCE = "exact bound of a paired difference (Buehler 1957, Chan and Zhang 1999)"
RATIO = "score interval of a paired ratio (Tang, Tang and Chan 2003), widened to be exact"
SHARE = "exact bound of a share (Clopper and Pearson 1934)"
MEAN = "interval over patients with a worst case (Student; Hall 1992, Gaffke 2005)"
CLUSTERED = ", widened for cases of the same patient"
PRIOR = 0.5
"""Of a patient whose cases all moved together."""
NO_SKEW, NO_SPREAD, LEAST_ALPHA = 1e-6, 1e-9, 1e-12
FEWEST_PATIENTS = 5
"""Fewer do not show how much patients differ, and a bound of theirs would be made of nothing."""
ANYTHING: Interval = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure with its bounds.

    Args:
        value: the figure.
        low: its lower bound.
        high: its upper bound.
        n: number of cases or patients that the figure is taken over.
        unit: "cases" or "patients".
        method: name of the method of the bounds.
        odds: chances that bounds of more cases would decide, see `Odds`; None where they are not known.
        lost: cases that were right and are wrong; None where it does not apply.
        gained: cases that were wrong and are right; None where it does not apply.
        min_n: number of cases or patients from which there are bounds; None where there are bounds already.
        independent: whether every case stands for itself; False where several may be of one patient.
        usual: the large-sample bounds that the search uses; None where they are the same.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    method: str
    odds: Odds | None
    lost: int | None = None
    gained: int | None = None
    min_n: int | None = None
    independent: bool = True
    usual: Interval | None = None

    @property
    def p_value(self) -> float | None:
        """Of McNemar's exact test, two-sided; None where it does not apply, as among cases of the same patient."""
        return mcnemar(self.lost, self.gained) if self.independent and self.lost is not None and self.gained is not None else None

    @property
    def for_search(self) -> Estimate:
        """The same with the bounds that the search goes by."""
        return self if self.usual is None else replace(self, low=self.usual[0], high=self.usual[1])


def normal_odds(interval: Callable[[float], Interval], spread: float) -> Odds:
    """Odds of bounds that move with a figure whose estimate is normal.

    Args:
        interval: the bounds of so many times as many cases.
        spread: standard deviation of the estimate, with the cases there are.
    """

    def odds(times: float, limit: float) -> tuple[float, float]:
        low, high = interval(times)
        chance = max(spread, NO_SPREAD) / sqrt(times)
        return float(ndtr((limit - high) / chance)), float(ndtr((low - limit) / chance))

    return odds


def mcnemar(lost: int, gained: int) -> float:
    """Chance of so uneven a split of the cases that moved, or a more uneven one, if both ways were as likely."""
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def drop_of_share(
    baseline: Booleans, candidate: Booleans, confidence: float, patients: Integers | None = None, *, relative: bool = False
) -> Estimate:
    """How far the share of correct cases fell.

    >>> estimate = drop_of_share(np.ones(150, bool), np.arange(150) >= 2, 0.95)
    >>> round(estimate.value, 4), round(estimate.high, 4), estimate.lost
    (0.0133, 0.0416, 2)

    Args:
        baseline: whether the original got each case right, (n,).
        candidate: whether the candidate got each case right, (n,).
        confidence: confidence of each bound.
        patients: patient number of each case, (n,); None where every case stands for itself.
        relative: bound the ratio of the two shares instead of their difference, and give it as the drop from the original's share.
    """
    lost, gained, cases = int((baseline & ~candidate).sum()), int((~baseline & candidate).sum()), len(baseline)
    widening, freedom, method = _clustered(baseline.astype(float) - candidate, patients, RATIO if relative else DIFFERENCE)
    value = (lost - gained) / max(1, cases)

    def counted(times: float) -> tuple[tuple[float, float, float], float]:
        scale = times / widening
        return (lost * scale, gained * scale, cases * scale), _place(confidence, times, freedom)

    def odds(times: float, limit: float) -> tuple[float, float]:
        _, z = counted(times)
        each, alpha = max(1, round(cases * times / widening)), _alpha(z)
        shares = lost / cases, gained / cases
        return pass_chance(*shares, each, alpha, limit), pass_chance(*shares[::-1], each, alpha, -limit)

    counts, z = counted(1.0)
    usual, sure = tango(*counts, z), paired(*counts, _alpha(z))
    alone = patients is None
    bounds = Estimate(value, *sure, cases, "cases", method, odds if cases else None, lost, gained, independent=alone, usual=usual)
    if not relative:
        return bounds
    return _relative(bounds, int((baseline & candidate).sum()), counted, widening)


def _relative(
    bounds: Estimate, both: int, counted: Callable[[float], tuple[tuple[float, float, float], float]], widening: float
) -> Estimate:
    """The drop bounded as a ratio, from its bounds as a difference and the number of cases that are right in both."""
    lost, gained, cases = bounds.lost or 0, bounds.gained or 0, bounds.n
    if not both + lost:
        return replace(bounds, low=-1.0, high=1.0, odds=None, usual=None)  # of nothing there is no share
    share = (both + lost) / cases

    def interval(times: float) -> Interval:
        counts, z = counted(times)
        low, high = tang(both * counts[2] / cases, *counts, z)
        return max(-1.0, share * (1 - high)), share * (1 - low)

    assert bounds.usual is not None
    more = [max(0.0, wide - narrow) for wide, narrow in zip((bounds.usual[0], bounds.high), (bounds.low, bounds.usual[1]), strict=True)]
    low, high = interval(1.0)
    ratio = (both + gained) / (both + lost)
    spread = sqrt((both * (1 - ratio) ** 2 + lost * ratio**2 + gained) * widening) / cases

    def wider(times: float) -> Interval:
        low, high = interval(times)
        return low - more[0] / times, high + more[1] / times

    sure = max(-1.0, low - more[0]), min(share, high + more[1])
    return replace(bounds, low=sure[0], high=sure[1], odds=normal_odds(wider, spread), usual=(low, high))


def share_of(hits: Booleans, confidence: float, patients: Integers | None = None) -> Estimate:
    """A share of cases.

    Args:
        hits: which cases count, (n,).
        confidence: of either bound.
        patients: number of each case's patient, (n,); None where every case stands for itself.
    """
    cases, count = len(hits), int(hits.sum())
    widening, freedom, method = _clustered(hits.astype(float), patients, SHARE)

    def odds(times: float, limit: float) -> tuple[float, float]:
        each, alpha = max(1, round(cases * times / widening)), _alpha(_place(confidence, times, freedom))
        return hits_chance(count / cases, each, alpha, limit), hits_chance(1 - count / cases, each, alpha, 1 - limit)

    place = _place(confidence, 1.0, freedom)
    sure = clopper_pearson(count / widening, cases / widening, _alpha(place))
    usual = wilson(count / widening, cases / widening, place)
    return Estimate(count / max(1, cases), *sure, cases, "cases", method, odds if cases else None, usual=usual)


def _alpha(place: float) -> float:
    """Chance beyond a point of the normal distribution; of one or two patients it would be nothing in floats."""
    return max(float(ndtr(-place)), LEAST_ALPHA)


def _place(confidence: float, times: float, freedom: int | None) -> float:
    """The point of the normal distribution, or of Student's with the degrees of freedom of so many times as many patients."""
    return quantile(confidence, None if freedom is None else times * (freedom + 1) - 1)


def _clustered(differences: Doubles, patients: Integers | None, method: str) -> tuple[float, int | None, str]:
    """The design effect, the degrees of freedom, and the name of the method."""
    if patients is None:
        return 1.0, None, method
    clusters = as_numbers(patients)
    return design_effect(differences, clusters), int(clusters.max(initial=0)), method + CLUSTERED


def mean_of(
    values: Doubles,
    confidence: float,
    worst: float,
    value: float | None = None,
    ends: Interval = ANYTHING,
    freedom: int | None = None,
) -> Estimate:
    """A mean over patients.

    Args:
        values: one of each, (n,).
        confidence: of either bound.
        worst: the value that a patient who was not seen may have; it widens the bound on its side of the figure.
        value: the figure itself where it is not quite the mean of `values`.
        ends: the least and the most that there can be.
        freedom: degrees of freedom of the spread; by default n - 1.
    """
    count = len(values)
    middle = (float(values.mean()) if count else 0.0) if value is None else value
    if count < FEWEST_PATIENTS:
        return Estimate(middle, *ends, count, "patients", MEAN, None, min_n=FEWEST_PATIENTS)
    spread = float(values.std(ddof=1))
    skew, free = _skewness(values) if spread > NO_SPREAD else 0.0, count - 1 if freedom is None else freedom

    def usual(times: float) -> Interval:
        below, above = reach(quantile(confidence, times * (free + 1) - 1), times * count, skew)
        return max(ends[0], middle - spread * below), min(ends[1], middle + spread * above)

    def sure(times: float) -> Interval:
        return with_worst(usual(times), values - values.mean(), middle, worst, confidence, times, ends)

    odds = normal_odds(sure, spread / sqrt(count))
    return Estimate(middle, *sure(1.0), count, "patients", MEAN, odds, usual=usual(1.0))


def with_worst(
    usual: Interval, gaps: Doubles, middle: float, worst: float, confidence: float, times: float, ends: Interval = ANYTHING
) -> Interval:
    """The bounds of a mean, on one side no nearer than with a worst case in them.

    Args:
        usual: the bounds by what was seen.
        gaps: how far each value lies from the mean, (n,).
        middle: the mean.
        worst: the value of the worst case; above the mean it widens the upper bound, below it the lower.
        confidence: of either bound.
        times: as if there were so many times as many cases.
        ends: the least and the most that there can be.
    """
    sign = 1.0 if worst >= middle else -1.0
    far = mean_high(sign * gaps, sign * (worst - middle), 1 - confidence, times)
    if sign > 0:
        return usual[0], min(ends[1], max(usual[1], middle + far))
    return max(ends[0], min(usual[0], middle - far)), usual[1]


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


def as_numbers(ids: npt.NDArray[Any]) -> Integers:
    """Ids as numbers from 0 without gaps."""
    return np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64)
