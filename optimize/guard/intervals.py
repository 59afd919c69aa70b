"""How far a figure fell from the baseline to the candidate on the same cases, with a lower and an upper bound.

Every bound is one-sided, with the confidence that was asked for. Each comes in two kinds. The verdict uses bounds that also hold for few
cases: for shares the exact bound (`optimize.guard.exact`), for means a bound that includes a worst case (`optimize.guard.worst_case`). The
search, whose choice is judged again on other cases, uses the usual large-sample bounds: score intervals of shares
(`optimize.guard.score_intervals`), and Student's interval of a mean over patients.

*Ratio of two shares.* The score interval of the ratio is widened by as much as the exact bound of the difference is beyond Tango's.

*Cases of the same patient* are not independent. The counts are divided by the design effect (`optimize.guard.design_effect`), and alpha is
taken from Student's distribution, with one degree of freedom less than there are patients.

*A mean over patients* fell by the mean of their differences, with Student's interval, mean -+ t s / sqrt(n). Where the differences are
skewed (a few patients lost much), that of Hall (Journal of the Royal Statistical Society B 54, 1992) takes its place on the side on which
it is wider: with g the skewness and s the spread of n differences,

    mean - s w(+-t / sqrt(n)),      w(y) = 3 / g ((1 + g (y - g / 6 n))^(1/3) - 1).

Neither interval can know of a loss that no patient in the sample had: if n of n patients did well, one in n / 3 may still do badly (the
rule of three). So the verdict's bound includes one more patient, who lost as much as is assumed to be possible. Example: 45 of 50 patients
lost nothing, 5 lost 0.2 each, so the mean is 0.02. Hall's upper bound is 0.040; with one more patient who may lose 0.5 it is 0.052.

McNemar's exact test asks whether anything changed at all. It is the two-sided binomial test of lost against gained cases, and needs
independent cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr

from optimize.guard.design_effect import as_numbers, design_effect
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
NO_SKEW, NO_SPREAD, MIN_ALPHA = 1e-6, 1e-9, 1e-12
MIN_PATIENTS = 5
"""Smallest number of patients with bounds: fewer do not show how much patients differ."""
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
        widening: design effect by which the counts of cases were divided; 1 where every case stands for itself.
        freedom: degrees of freedom of the bounds' critical value; None where it is that of the normal distribution.
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
    widening: float = 1.0
    freedom: int | None = None

    @property
    def p_value(self) -> float | None:
        """The two-sided p-value of McNemar's exact test; None where it does not apply, as with several cases of one patient."""
        return mcnemar(self.lost, self.gained) if self.independent and self.lost is not None and self.gained is not None else None

    @property
    def for_search(self) -> Estimate:
        """This estimate with the bounds that the search uses."""
        return self if self.usual is None else replace(self, low=self.usual[0], high=self.usual[1])


def normal_odds(interval: Callable[[float], Interval], spread: float) -> Odds:
    """The odds of bounds that move with the estimate, which is assumed to be normally distributed.

    Example: the estimate is 2 pp with standard deviation 1 pp, the upper bound 4 pp, and the limit 5 pp. The bound of a new sample is
    within the limit when its estimate is at most 1 pp higher: in 84 % of samples.

    Args:
        interval: gives the bounds for `times` as many cases.
        spread: standard deviation of the estimate with the present number of cases.
    """

    def odds(times: float, limit: float) -> tuple[float, float]:
        low, high = interval(times)
        # A sample without any spread would divide by 0; the smallest spread makes the chance 0 or 1 instead.
        chance = max(spread, NO_SPREAD) / sqrt(times)
        return float(ndtr((limit - high) / chance)), float(ndtr((low - limit) / chance))

    return odds


def mcnemar(lost: int, gained: int) -> float:
    """The p-value of McNemar's exact test: the chance of a split at least as uneven if both directions were equally likely."""
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
        # A design effect of 3 turns 12 cases of 4 patients into 4 effective cases; the lost and gained cases shrink by the same factor.
        scale = times / widening
        return (lost * scale, gained * scale, cases * scale), _critical_value(confidence, times, freedom)

    def odds(times: float, limit: float) -> tuple[float, float]:
        # Swapped rates and the negative limit ask for the lower bound: it is the upper bound of the swapped models.
        _, z = counted(times)
        n, alpha = max(1, round(cases * times / widening)), _alpha(z)
        rates = lost / cases, gained / cases
        return pass_chance(*rates, n, alpha, limit), pass_chance(*rates[::-1], n, alpha, -limit)

    counts, z = counted(1.0)
    usual, exact = tango(*counts, z), paired(*counts, _alpha(z))
    independent = patients is None
    bounds = Estimate(value, *exact, cases, "cases", method, odds if cases else None, lost, gained, independent=independent, usual=usual)
    bounds = replace(bounds, widening=widening, freedom=freedom)
    # The difference is bounded in any case: the bounds of a ratio are widened by what it shows.
    if not relative:
        return bounds
    return _relative(bounds, int((baseline & candidate).sum()), counted, widening)


def _relative(
    bounds: Estimate, both: int, counted: Callable[[float], tuple[tuple[float, float, float], float]], widening: float
) -> Estimate:
    """The drop with bounds of the ratio of the two shares in place of bounds of their difference.

    Args:
        bounds: the drop with its bounds as a difference.
        both: number of cases that both models get right.
        counted: gives (lost, gained, cases) and the critical value for `times` as many cases.
        widening: the design effect.
    """
    lost, gained, cases = bounds.lost or 0, bounds.gained or 0, bounds.n
    if not both + lost:
        return replace(bounds, low=-1.0, high=1.0, odds=None, usual=None)  # the original got nothing right, so there is no ratio
    share = (both + lost) / cases

    def interval(times: float) -> Interval:
        counts, z = counted(times)
        low, high = tang(both * counts[2] / cases, *counts, z)
        return max(-1.0, share * (1 - high)), share * (1 - low)

    assert bounds.usual is not None
    # No exact bound of a ratio is known that is quick enough. How far the exact bounds of the difference lie outside Tango's shows by how
    # much score intervals are too narrow at these counts, and the score interval of the ratio is widened by the same amount.
    more = [max(0.0, wide - narrow) for wide, narrow in zip((bounds.usual[0], bounds.high), (bounds.low, bounds.usual[1]), strict=True)]
    low, high = interval(1.0)
    ratio = (both + gained) / (both + lost)
    spread = sqrt((both * (1 - ratio) ** 2 + lost * ratio**2 + gained) * widening) / cases

    # The widening is taken to shrink like 1 / n. The interval itself shrinks like 1 / sqrt(n).
    def wider(times: float) -> Interval:
        low, high = interval(times)
        return low - more[0] / times, high + more[1] / times

    exact = max(-1.0, low - more[0]), min(share, high + more[1])
    return replace(bounds, low=exact[0], high=exact[1], odds=normal_odds(wider, spread), usual=(low, high))


def share_of(hits: Booleans, confidence: float, patients: Integers | None = None) -> Estimate:
    """A share of cases with its bounds.

    Args:
        hits: whether each case counts, (n,).
        confidence: confidence of each bound.
        patients: patient number of each case, (n,); None where every case stands for itself.
    """
    cases, count = len(hits), int(hits.sum())
    widening, freedom, method = _clustered(hits.astype(float), patients, SHARE)

    def odds(times: float, limit: float) -> tuple[float, float]:
        n, alpha = max(1, round(cases * times / widening)), _alpha(_critical_value(confidence, times, freedom))
        # Misses are the mirror image of hits: a share is at least 0.9 exactly when the share of misses is at most 0.1.
        return hits_chance(count / cases, n, alpha, limit), hits_chance(1 - count / cases, n, alpha, 1 - limit)

    critical = _critical_value(confidence, 1.0, freedom)
    exact = clopper_pearson(count / widening, cases / widening, _alpha(critical))
    usual = wilson(count / widening, cases / widening, critical)
    return Estimate(count / max(1, cases), *exact, cases, "cases", method, odds if cases else None, usual=usual)


def _alpha(critical: float) -> float:
    """The chance beyond a point of the normal distribution, at least `MIN_ALPHA`: Student's point for two patients can be so far out."""
    return max(float(ndtr(-critical)), MIN_ALPHA)


def _critical_value(confidence: float, times: float, freedom: int | None) -> float:
    """Point of the normal distribution, or of Student's for `times` as many patients where `freedom` is given."""
    # Twice as many of 10 patients are 20 patients with 19 degrees of freedom: the point at 95 % falls from 1.83 to 1.73.
    return quantile(confidence, None if freedom is None else times * (freedom + 1) - 1)


def _clustered(differences: Doubles, patients: Integers | None, method: str) -> tuple[float, int | None, str]:
    """The design effect, the degrees of freedom (None without patients), and the name of the method."""
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
    """A mean over patients with its bounds.

    Args:
        values: value of each patient, (n,).
        confidence: confidence of each bound.
        worst: largest (or smallest) value that a patient outside the sample may have; it widens the bound on its side of the figure.
        value: the figure, where it is not exactly the mean of `values`.
        ends: smallest and largest possible value of the mean.
        freedom: degrees of freedom of the spread; by default n - 1.
    """
    count = len(values)
    middle = (float(values.mean()) if count else 0.0) if value is None else value
    # Bounds from two or three values would look exact and mean nothing; so the widest ones are given, and `min_n` tells the user why.
    if count < MIN_PATIENTS:
        return Estimate(middle, *ends, count, "patients", MEAN, None, min_n=MIN_PATIENTS)
    spread = float(values.std(ddof=1))
    skew, free = _skewness(values) if spread > NO_SPREAD else 0.0, count - 1 if freedom is None else freedom

    def usual(times: float) -> Interval:
        below, above = reach(quantile(confidence, times * (free + 1) - 1), times * count, skew)
        return max(ends[0], middle - spread * below), min(ends[1], middle + spread * above)

    def for_verdict(times: float) -> Interval:
        return with_worst(usual(times), values - values.mean(), middle, worst, confidence, times, ends)

    odds = normal_odds(for_verdict, spread / sqrt(count))
    return Estimate(middle, *for_verdict(1.0), count, "patients", MEAN, odds, usual=usual(1.0))


def with_worst(
    usual: Interval, gaps: Doubles, middle: float, worst: float, confidence: float, times: float, ends: Interval = ANYTHING
) -> Interval:
    """The bounds of a mean, of which the one on the side of the worst case is at least as far out as the bound with a worst case.

    Args:
        usual: bounds from the values of the sample alone.
        gaps: differences of the values from their mean, (n,).
        middle: the mean.
        worst: value of the worst case; above the mean it widens the upper bound, below it the lower one.
        confidence: confidence of each bound.
        times: bounds for `times` as many cases with the same values.
        ends: smallest and largest possible value of the mean.
    """
    # `mean_high` knows only upper bounds: a worst case below the mean is mirrored.
    sign = 1.0 if worst >= middle else -1.0
    far = mean_high(sign * gaps, sign * (worst - middle), 1 - confidence, times)
    if sign > 0:
        return usual[0], min(ends[1], max(usual[1], middle + far))
    return max(ends[0], min(usual[0], middle - far)), usual[1]


def reach(critical: float, count: float, skew: float) -> tuple[float, float]:
    """How far the true mean may lie below and above the measured one, in standard deviations; Student's or Hall's, whichever is wider.

    Args:
        critical: Student's point.
        count: number of values n.
        skew: their skewness.
    """
    # 50 values with skewness 2 at 95 %: Student reaches 0.24 standard deviations above the mean, Hall 0.30, so 0.30 counts.
    chance = critical / sqrt(count)
    return max(chance, _hall(chance, skew, count)), max(chance, -_hall(-chance, skew, count))


def _skewness(values: Doubles) -> float:
    from scipy.stats import skew

    return float(skew(values))


def _hall(y: float, skew: float, count: float) -> float:
    """Hall's w(y), the formula in the module's docstring; without skewness it is y itself."""
    if abs(skew) < NO_SKEW:
        return y
    # The real cube root, also of a negative number: `x ** (1 / 3)` would be NaN there, as on the lower side of a large skewness.
    return float(3 / skew * (np.cbrt(1 + skew * (y - skew / (6 * count))) - 1))


def quantile(confidence: float, freedom: float | None = None) -> float:
    """Point of the normal distribution, or of Student's where degrees of freedom are given."""
    if freedom is None:
        return NormalDist().inv_cdf(confidence)
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), confidence))
