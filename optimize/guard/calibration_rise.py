"""How far the expected calibration error rose from the baseline to the candidate on the same cases, with bounds.

The error E is the sum over the bins of |g_k|. The gap g_k is the mean over all cases of (confidence - correct) in bin k
(`optimize.guard.confidence_calibration`). On a sample E is too large, because the absolute value turns noise of either sign into error. The
better a model is calibrated, the larger this bias, so a measured rise from a well calibrated baseline is too small.

A sum with fixed signs has no such bias. For the true signs s of the candidate's gaps,

    E candidate - E baseline <= sum s_k (g_k candidate - g_k baseline),

since sum s_k g_k is E for the candidate, and at most E for the baseline. Example with two bins: the candidate's gaps are 0.03 and -0.01 (E
is 0.04), the baseline's are 0.01 and 0.01 (E is 0.02). With the signs (+, -) the right side is 0.02 + 0.02 = 0.04, above the rise of 0.02.

The right side is a mean of paired differences, in which everything that both models share cancels out. The upper bound is the largest bound
of this mean over all signs that are plausible for the candidate:

* Its calibration curve crosses the diagonal at most twice. This is an assumption; a bin whose own cases show its sign beyond doubt keeps
  that sign in any case.
* The sum of its gaps with these signs is below that with the best signs by at most `PLAUSIBLE_ERRORS` standard errors of the difference.

The bound of each mean includes a worst case: one more case, which the candidate gets wrong with confidence 1 (`optimize.guard.worst_case`).
There are two lower bounds, both by Student's interval, and the higher one is used: that of the two models swapped, and the difference of
the two errors' own bounds. Rows are patients where patients are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from math import sqrt

import numpy as np
from scipy.special import ndtr

from optimize.guard.confidence_calibration import BINS, bins_of
from optimize.guard.intervals import ANYTHING, NO_SPREAD, Estimate, normal_odds, quantile
from optimize.guard.score_intervals import Booleans, Doubles, Integers, Interval
from optimize.guard.worst_case import mean_high

METHOD = "paired gaps of calibration over all plausible signs (Gaffke 2005)"
METHOD_OF_PATIENTS = f"{METHOD}, over patients"
MAX_CROSSINGS = 2
PLAUSIBLE_ERRORS = 1.75
CERTAIN_ERRORS = 2.5
"""Standard errors from 0 at which the sign of a bin's gap counts as known."""
EXACT_SIGNS = 4
"""Number of sign patterns whose bound with a worst case is computed: those with the largest normal bounds."""
WORST_GAP = 1.0
"""Gap of one case with confidence 1 that is wrong."""


def rise_of_error(
    baseline: tuple[Doubles, Booleans], candidate: tuple[Doubles, Booleans], confidence: float, patients: Integers | None = None
) -> tuple[Estimate, float, float]:
    """The rise of the calibration error, the baseline's error, and the candidate's error.

    Args:
        baseline: the original's confidence in its answer to each case, and whether the answer is right, both (N,).
        candidate: the candidate's confidence, and whether its answer is right, both (N,).
        confidence: confidence of each bound.
        patients: patient number of each case, (N,); None where patients are not known.
    """
    cases = len(baseline[0])
    # Without a case there is no bound: the widest one makes the rail inconclusive, and not passed.
    if not cases:
        return Estimate(0.0, *ANYTHING, 0, "cases", METHOD, None), 0.0, 0.0
    sides = [_gaps(*side, patients) for side in (baseline, candidate)]
    old, new = (float(np.abs(side.mean(0)).sum()) for side in sides)
    n_independent, cluster_size = cases, 1.0
    if patients is not None:
        sizes = np.bincount(patients)
        # The worst case is then a patient of typical size, sum n_i^2 / n, in units of the mean size: of sizes 1, 1, 4 it is 3 cases, or
        # 1.5.
        n_independent, cluster_size = len(sizes), float((sizes**2).sum() / sizes.sum()) * len(sizes) / cases
    critical = quantile(confidence, n_independent - 1)
    rise, fall = _Signs(sides[1], sides[0]), _Signs(sides[0], sides[1])
    value, difference, standard_error = new - old, rise.difference, rise.standard_error
    # The upper bound decides whether the rise stays within the limit, so it alone includes the worst case.
    high = max(rise.bound(critical, WORST_GAP * cluster_size), value)
    # A bound may cross the measured value, since that is biased and the bounds are not; the interval always holds the value.
    low = min(max(-fall.bound(critical, None), rise.own_low(critical) - fall.own_high(critical)), value)

    def interval(times: float) -> Interval:
        return difference - (difference - low) / sqrt(times), difference + (high - difference) / sqrt(times)

    usual = min(value, difference - critical * standard_error), max(value, difference + critical * standard_error)
    method, unit = (METHOD, "cases") if patients is None else (METHOD_OF_PATIENTS, "patients")
    return Estimate(value, low, high, n_independent, unit, method, normal_odds(interval, standard_error), usual=usual), old, new


def _gaps(confidences: Doubles, correct: Booleans, patients: Integers | None) -> Doubles:
    """What each case, or each patient, adds to the gap of each bin, (rows, BINS); the mean over the rows is the gap.

    Args:
        confidences: probability of the predicted class, (N,).
        correct: whether the prediction is right, (N,).
        patients: patient number of each case, (N,); None for one row a case.
    """
    rows = np.arange(len(confidences)) if patients is None else patients
    gaps = np.zeros((int(rows.max()) + 1, BINS))
    np.add.at(gaps, (rows, bins_of(confidences)), confidences.astype(np.float64) - correct)
    # Scaled so that the mean over the rows is the sum over all cases divided by N, also where a row is a patient with many cases.
    return gaps * (len(gaps) / len(confidences))


@dataclass(frozen=True, eq=False)
class _Signs:
    """The plausible signs of one model's gaps, and bounds of its difference from a reference model with these signs.

    Args:
        own: what each case or patient adds to the model's gaps, (rows, BINS).
        reference: what each case or patient adds to the reference model's gaps, (rows, BINS).
    """

    own: Doubles
    reference: Doubles

    @cached_property
    def plausible(self) -> Doubles:
        """The plausible sign patterns, (patterns, BINS), the likeliest first; a bin without a case has sign 0."""
        n_independent, means = len(self.own), self.own.mean(0)
        # Confidences of two classes are at least 0.5, so bins 0 to 6 of 15 stay empty: fewer bins mean fewer patterns to try.
        used = np.flatnonzero((self.own != 0).any(0) | (self.reference != 0).any(0))
        if not len(used):
            return np.zeros((1, self.own.shape[1]))
        signs = np.zeros((len(_patterns(int(used[-1] - used[0] + 1))), self.own.shape[1]))
        signs[:, used[0] : used[-1] + 1] = _patterns(int(used[-1] - used[0] + 1))
        # Patterns with few crossings cannot follow a curve that truly crosses three times. So a bin with a sign beyond doubt keeps it, and
        # the patterns are kept without this correction, too.
        moments = self.own.T @ self.own / n_independent
        certain = np.abs(means) > CERTAIN_ERRORS * np.sqrt(np.maximum(np.diag(moments) / n_independent, NO_SPREAD**2))
        signs = np.concatenate([signs, np.where(certain, np.sign(means), signs)]) if certain.any() else signs
        # sums[i] is the error E if pattern i holds the true signs. The best pattern gives the largest E; another one stays plausible while
        # its sum is lower by no more than chance explains: differ in one bin with gap 0.01 and standard error 0.01, and it is.
        sums = signs @ means
        best = int(sums.argmax())
        apart = signs[best] - signs
        errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", apart, moments, apart) / n_independent, NO_SPREAD**2))
        kept = signs[(sums[best] - sums <= PLAUSIBLE_ERRORS * errors)]
        # The best pattern stands twice: first, where `difference` looks for it, and among all the plausible ones.
        return np.concatenate([signs[best : best + 1], kept])

    @cached_property
    def difference(self) -> float:
        """The difference of the two models' errors, by the likeliest signs."""
        return float(self.plausible[0] @ (self.own - self.reference).mean(0))

    @cached_property
    def standard_error(self) -> float:
        """The standard error of `difference`."""
        differences = (self.own - self.reference) @ self.plausible[0]
        # The spread of a single row is not known; 1, as large as the error itself can be, stands for that.
        return float(differences.std(ddof=1) / sqrt(len(differences))) if len(differences) > 1 else 1.0

    def own_low(self, critical: float) -> float:
        """The lower bound of the model's own error, by the likeliest signs."""
        # The sum with any signs is at most the error, so a lower bound of one such sum is a lower bound of the error.
        return float(-_highs(-self.plausible[:1], self.own, critical).max())

    def own_high(self, critical: float) -> float:
        """The upper bound of the model's own error."""
        return float(_highs(self.plausible, self.own, critical).max())

    def bound(self, critical: float, worst: float | None) -> float:
        """The largest upper bound of the difference.

        Args:
            critical: point of the normal or Student's distribution at the bound's confidence.
            worst: largest gap of a case outside the sample; None for a bound without a worst case.
        """
        signs, apart = self.plausible, self.own - self.reference
        n_independent, bounds = len(apart), _highs(signs, apart, critical)
        if worst is None:
            return float(bounds.max())
        # A bound with a worst case takes a root search, too long for up to 400 patterns; normal bounds show which few can be the largest.
        likeliest = np.argsort(-bounds)[:EXACT_SIGNS]
        alpha = float(ndtr(-critical))
        return max(float(bounds[k]) if n_independent < 2 else mean_high(apart @ signs[k], worst, alpha) for k in likeliest)


def _highs(signs: Doubles, gaps: Doubles, critical: float) -> Doubles:
    """The normal upper bound of the signed sum of the gaps, for each pattern of signs, (patterns,)."""
    n_independent, centred = len(gaps), gaps - gaps.mean(0)
    moments = centred.T @ centred / max(1, n_independent - 1)
    standard_errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", signs, moments, signs), 0.0) / n_independent)
    # All patterns at a time, from one covariance matrix of the bins: the variance of the sum with signs s is s' C s.
    return np.asarray(signs @ gaps.mean(0) + critical * standard_errors)


@lru_cache(maxsize=BINS)
def _patterns(bins: int) -> Doubles:
    """All sign patterns of `bins` bins that change at most `MAX_CROSSINGS` times, (patterns, bins).

    Of 4 bins these are 14 of the 16 patterns, all but + - + - and its opposite. Of 15 bins they are 212.
    """
    patterns = []
    for count in range(MAX_CROSSINGS + 1):
        for cuts in combinations(range(1, bins), count):
            # Cuts at 1 and 3 of 4 bins: changes (1, -1, 1, -1), whose running product is + - - +.
            changes = np.ones(bins)
            changes[list(cuts)] = -1
            patterns += [np.cumprod(changes), -np.cumprod(changes)]
    return np.array(patterns)
