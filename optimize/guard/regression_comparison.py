"""Two models that give numbers, on the same cases: guard-rails of errors are judged by this.

The mean absolute error rose by the mean of the paired differences of the absolute errors, each as a share of the spread of the labels. It
is bounded as any mean of paired differences is (`optimize.guard.intervals.mean_of`): by Student's interval and, where the differences are
skewed, Hall's, with a worst case. The worst case is one more case whose error rises by the whole spread (`UNSEEN_RISE`): a case on which
the candidate knows no more than a constant answer does. Cases of one patient are added up first.

Example: of 400 cases the error rose by 0.01 on average, with a standard deviation of 0.1. Student's bound at 95 % is 0.01 + 1.65 * 0.1 / 20
= 0.018, and with the worst case 0.021. A limit of 5 % of an original's error of 0.5 allows 0.025: it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from optimize.guard.comparison import Comparison
from optimize.guard.intervals import Estimate, mean_of
from optimize.guard.limits import Relative
from optimize.guard.rails import Task
from optimize.guard.regression_score import RegressionScore
from optimize.guard.score_intervals import Doubles

UNSEEN_RISE = 1.0
"""Rise of the error, in spreads of the labels, of a case that the test set may lack."""


class RegressionComparison(Comparison[RegressionScore]):
    """Two models on the same N cases with K targets."""

    task: ClassVar[Task] = "regression"

    def parts(self, column: str) -> Iterator[tuple[str, RegressionComparison]]:
        """The comparison within each subgroup of a column, in the order of their names."""
        for (value, baseline), (_, candidate) in zip(self.baseline.parts(column), self.candidate.parts(column), strict=True):
            yield value, RegressionComparison(self.limits, baseline, candidate)

    def rise_of_error(self, k: int, limit: float) -> tuple[Estimate, float, float]:
        """How far the mean absolute error of target k rose, and both models' errors, as shares of the spread.

        Args:
            k: place of the target.
            limit: the limit of the rise; a `Relative` one is bounded as a ratio.
        """
        old, new = self.baseline.errors[:, k], self.candidate.errors[:, k]
        rises = new - old
        if isinstance(limit, Relative):
            # The spread is that of candidate - (1 + limit) * baseline, which the limit holds below 0; the mean stays that of the rise.
            rises = rises - float(limit) * (old - old.mean())
        return self._mean(rises, UNSEEN_RISE), min(1.0, float(old.mean())), min(1.0, float(new.mean()))

    def bias(self, k: int) -> tuple[Estimate, float, float]:
        """How far the candidate's predictions of target k lie off on average, without the sign, and both models' figures."""
        residuals = self.candidate.residuals[:, k]
        signed = self._mean(residuals, float(np.sign(residuals.mean()) or 1.0) * UNSEEN_RISE)
        before, after = (min(1.0, abs(float(score.residuals[:, k].mean()))) for score in (self.baseline, self.candidate))
        ends = _unsigned(signed.low, signed.high)
        usual = None if signed.usual is None else _unsigned(*signed.usual)
        spread = max(1e-9, (ends[1] - after) / 1.645)

        def odds(times: float, limit: float) -> tuple[float, float]:
            # The bounds move with the figure, as for any mean; a bias near 0 can only be on the safe side of this.
            chance = spread / times**0.5
            return float(ndtr((limit - after) / chance - 1.645)), float(ndtr((after - limit) / chance - 1.645))

        known = None if signed.odds is None else odds
        return replace(signed, value=after, low=ends[0], high=ends[1], usual=usual, odds=known), before, after

    def _mean(self, values: Doubles, worst: float) -> Estimate:
        """The mean of a value over the cases with its bounds, over patients where these are known."""
        patients, middle = self.baseline.patients, float(values.mean()) if len(values) else 0.0
        # Beyond a whole spread a model is worse than a constant answer, and how much worse is of no interest to any limit.
        middle = max(-1.0, min(1.0, middle))
        if patients is None:
            return replace(mean_of(values, self.limits.confidence, worst, middle), unit="cases")
        # Each patient's deviations are added up, so that patients with more cases weigh more, as they do in the figure.
        count = int(patients.max()) + 1
        sums = np.bincount(patients, values - values.mean(), count) * count / len(values)
        return mean_of(sums, self.limits.confidence, worst, middle)


def _unsigned(low: float, high: float) -> tuple[float, float]:
    """The bounds of a size, from those of the signed figure: (-0.1, 0.3) -> (0, 0.3), (-0.3, -0.1) -> (0.1, 0.3)."""
    return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
