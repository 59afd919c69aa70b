"""How far the calibration error rose between two models that answered the same cases, with bounds that hold for well calibrated originals.

The error E is the sum over the bins of |g_k|, where g_k is the mean over all cases of (share of the given class - right) in bin k
(`optimize.guard.confidence_calibration`). Measured on a sample it is too large, and more so the better calibrated the model is: the
measured rise is too small when the original is the better one. But for the true signs s of the artifact's g,

    E after - E before <= sum s_k (g_k after - g_k before),

since E is the largest such sum over all signs. The right side is a mean of paired differences, in which everything that both models
share cancels out and nothing is biased; it equals the rise where both err to the same side. So the upper bound is the largest one of this
mean over all signs that the artifact's own gaps leave plausible:

* its curve of calibration crosses the diagonal at most twice (this is an assumption; a bin whose own cases show its sign beyond doubt keeps
  that sign in any case), and
* with these signs its gaps sum to less than with the best ones by no more than `PLAUSIBLE` standard errors of that difference.

The bound of each mean holds a worst case against the model: a case of which it is sure and which it gets wrong
(`optimize.guard.worst_case`). The lower bound is the better one of that of the swapped models and the difference of the two errors' own
bounds, both by Student's interval. Rows are patients where these are known.
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
CROSSINGS = 2
PLAUSIBLE = 1.75
BEYOND_DOUBT = 2.5
"""Standard errors at which a bin keeps its own sign."""
LOOKED_AT = 4
"""Signs whose bound is taken exactly: those with the largest normal bounds."""
WORST = 1.0


def rise_of_error(
    baseline: tuple[Doubles, Booleans], candidate: tuple[Doubles, Booleans], confidence: float, patients: Integers | None = None
) -> tuple[Estimate, float, float]:
    """The rise of the calibration error, the baseline's error, and the candidate's error.

    Args:
        baseline: the original's confidence in its answer to each case, and whether the answer is right, both (N,).
        candidate: the candidate's confidence, and whether its answer is right, both (N,).
        confidence: confidence of each bound.
        patients: number of each case's patient, (N,), or None.
    """
    cases = len(baseline[0])
    if not cases:
        return Estimate(0.0, *ANYTHING, 0, "cases", METHOD, None), 0.0, 0.0
    sides = [_gaps(*side, patients) for side in (baseline, candidate)]
    old, new = (float(np.abs(side.mean(0)).sum()) for side in sides)
    units, together = cases, 1.0
    if patients is not None:
        sizes = np.bincount(patients)
        units, together = len(sizes), float((sizes**2).sum() / sizes.sum()) * len(sizes) / cases
    place = quantile(confidence, units - 1)
    rise, fall = _Signs(sides[1], sides[0]), _Signs(sides[0], sides[1])
    value, middle, spread = new - old, rise.middle, rise.spread
    high = max(rise.bound(place, WORST * together), value)
    low = min(max(-fall.bound(place, None), rise.own_low(place) - fall.own_high(place)), value)

    def interval(times: float) -> Interval:
        return middle - (middle - low) / sqrt(times), middle + (high - middle) / sqrt(times)

    usual = min(value, middle - place * spread), max(value, middle + place * spread)
    method, unit = (METHOD, "cases") if patients is None else (METHOD_OF_PATIENTS, "patients")
    return Estimate(value, low, high, units, unit, method, normal_odds(interval, spread), usual=usual), old, new


def _gaps(shares: Doubles, right: Booleans, patients: Integers | None) -> Doubles:
    """What each case, or patient, adds to the gap of each bin, (units, BINS); the gaps are the means."""
    rows = np.arange(len(shares)) if patients is None else patients
    gaps = np.zeros((int(rows.max()) + 1, BINS))
    np.add.at(gaps, (rows, bins_of(shares)), shares.astype(np.float64) - right)
    return gaps * (len(gaps) / len(shares))


@dataclass(frozen=True, eq=False)
class _Signs:
    """The plausible signs of one model's gaps, and the difference from another's by them.

    Args:
        own: what each unit adds to the model's gaps, (units, BINS).
        other: to the other's.
    """

    own: Doubles
    other: Doubles

    @cached_property
    def plausible(self) -> Doubles:
        """Signs, (patterns, BINS), the likeliest first; a bin without a case has sign 0."""
        units, means = len(self.own), self.own.mean(0)
        used = np.flatnonzero((self.own != 0).any(0) | (self.other != 0).any(0))
        if not len(used):
            return np.zeros((1, self.own.shape[1]))
        signs = np.zeros((len(_patterns(int(used[-1] - used[0] + 1))), self.own.shape[1]))
        signs[:, used[0] : used[-1] + 1] = _patterns(int(used[-1] - used[0] + 1))
        moments = self.own.T @ self.own / units
        sure = np.abs(means) > BEYOND_DOUBT * np.sqrt(np.maximum(np.diag(moments) / units, NO_SPREAD**2))
        signs = np.concatenate([signs, np.where(sure, np.sign(means), signs)]) if sure.any() else signs
        sums = signs @ means
        best = int(sums.argmax())
        apart = signs[best] - signs
        errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", apart, moments, apart) / units, NO_SPREAD**2))
        kept = signs[(sums[best] - sums <= PLAUSIBLE * errors)]
        return np.concatenate([signs[best : best + 1], kept])

    @cached_property
    def middle(self) -> float:
        """The difference by the likeliest signs."""
        return float(self.plausible[0] @ (self.own - self.other).mean(0))

    @cached_property
    def spread(self) -> float:
        """Its standard error."""
        differences = (self.own - self.other) @ self.plausible[0]
        return float(differences.std(ddof=1) / sqrt(len(differences))) if len(differences) > 1 else 1.0

    def own_low(self, place: float) -> float:
        """The lower bound of the model's own error, by the likeliest signs."""
        return float(-_highs(-self.plausible[:1], self.own, place).max())

    def own_high(self, place: float) -> float:
        """The upper bound of the model's own error."""
        return float(_highs(self.plausible, self.own, place).max())

    def bound(self, place: float, worst: float | None) -> float:
        """The largest upper bound of the difference.

        Args:
            place: the point of the distribution at its confidence.
            worst: of a case that was not seen; None for what was seen alone.
        """
        signs, apart = self.plausible, self.own - self.other
        units, bounds = len(apart), _highs(signs, apart, place)
        if worst is None:
            return float(bounds.max())
        likeliest = np.argsort(-bounds)[:LOOKED_AT]
        alpha = float(ndtr(-place))
        return max(float(bounds[k]) if units < 2 else mean_high(apart @ signs[k], worst, alpha) for k in likeliest)


def _highs(signs: Doubles, gaps: Doubles, place: float) -> Doubles:
    """Normal upper bounds of the mean of the gaps by each of the signs, (patterns,)."""
    units, centred = len(gaps), gaps - gaps.mean(0)
    moments = centred.T @ centred / max(1, units - 1)
    spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", signs, moments, signs), 0.0) / units)
    return np.asarray(signs @ gaps.mean(0) + place * spread)


@lru_cache(maxsize=BINS)
def _patterns(bins: int) -> Doubles:
    """All signs of so many bins that change at most `CROSSINGS` times, (patterns, bins)."""
    found = []
    for count in range(CROSSINGS + 1):
        for cuts in combinations(range(1, bins), count):
            changes = np.ones(bins)
            changes[list(cuts)] = -1
            found += [np.cumprod(changes), -np.cumprod(changes)]
    return np.array(found)
