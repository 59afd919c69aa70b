"""Two models that give grades, on the same cases: guard-rails of kappa and of the mean error of grades are judged by this.

All rails of a classification hold for grades, too. Kappa is bootstrapped (`optimize.guard.bootstrap`), as F1 is; the mean error is a mean
of paired differences (`optimize.guard.intervals.mean_of`), with one more case whose grade is off by the whole scale as the worst case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np

from optimize.guard.bootstrap import Draws
from optimize.guard.class_comparison import ClassComparison, Drop
from optimize.guard.intervals import Estimate, mean_of
from optimize.guard.limits import Relative
from optimize.guard.ordinal_score import OrdinalScore, kappas
from optimize.guard.rails import Task
from optimize.guard.score_intervals import Doubles


class OrdinalComparison(ClassComparison):
    """Two models that give grades to the same N cases."""

    task: ClassVar[Task] = "ordinal"

    def parts(self, column: str) -> Iterator[tuple[str, OrdinalComparison]]:
        """The comparison within each subgroup of a column, in the order of their names."""
        for value, part in super().parts(column):
            yield value, OrdinalComparison(part.limits, part.baseline, part.candidate)

    def kappa_drop(self, limit: float) -> Drop:
        """How far kappa fell, and both models' kappas."""
        scores, count = (self.baseline, self.candidate), len(self.baseline.classes)
        # One column for each pair of a true and a given grade: a product with the weights of a draw counts the confusion matrix.
        tables = [np.eye(count * count)[score.labels * count + score.predicted] for score in scores]

        def figure(draws: Draws) -> tuple[Doubles, Doubles]:
            made = [kappas((draws.weights @ table).reshape(-1, count, count)) for table in tables]
            return made[0], made[1]

        # One more case that is off by the whole scale, (K - 1)^2 of the expected squares of all cases.
        confusion = self.baseline.confusion.astype(np.float64)
        grades = np.arange(count)
        squares = (confusion.sum(1)[:, None] * confusion.sum(0)[None] * (grades[:, None] - grades) ** 2).sum() / max(1.0, confusion.sum())
        return self.drop_of_figure(figure, limit, float((count - 1) ** 2 / max(1.0, squares)))

    def rise_of_error(self, limit: float) -> Drop:
        """How far the mean error of the grades rose, and both models' errors, as shares of the whole scale."""
        assert isinstance(self.baseline, OrdinalScore)
        assert isinstance(self.candidate, OrdinalScore)
        old, new, patients = self.baseline.errors, self.candidate.errors, self.baseline.patients
        rises = new - old - (float(limit) * (old - old.mean()) if isinstance(limit, Relative) else 0.0)
        return self._mean(rises, patients), float(old.mean()), float(new.mean())

    def _mean(self, values: Doubles, patients: np.ndarray | None) -> Estimate:
        if patients is None:
            return replace(mean_of(values, self.limits.confidence, 1.0), unit="cases")
        count, middle = int(patients.max()) + 1, float(values.mean())
        sums = middle + np.bincount(patients, values - middle, count) * count / len(values)
        return mean_of(sums, self.limits.confidence, 1.0, middle)
