"""Two models that find several labels, on the same cases: guard-rails of labels are judged by this.

Sensitivity and specificity of each label are judged one by one, each by an exact bound from the cases that were lost and gained. Balanced
accuracy of a label is not judged: a model that misses a rare finding more often, and false alarms less often, keeps it.

The overall figure, the mean of the labels' balanced accuracy, is a mean over cases with weights. A case in which a label is present weighs
1 / (2 L m) in it, with L labels and m cases in which this label is present, and correspondingly where it is absent. So it is bounded as a
mean over cases, or over patients where these are known, with a worst case (`optimize.guard.worst_case`): one more case like the one that
weighs most, all of whose labels are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from optimize.guard.comparison import Comparison
from optimize.guard.intervals import ANYTHING, Estimate, drop_of_share, mean_of
from optimize.guard.limits import Relative
from optimize.guard.multilabel_score import MultilabelScore
from optimize.guard.rail import Rail
from optimize.guard.rails import Task
from optimize.guard.score_intervals import Booleans, Doubles

SIDES = (("sensitivity", 1), ("specificity", 0))
"""Figure of a label, and the label of the cases that it is about."""


class MultilabelComparison(Comparison[MultilabelScore]):
    """Two models on the same N cases with L labels."""

    task: ClassVar[Task] = "multilabel"

    def parts(self, column: str) -> Iterator[tuple[str, MultilabelComparison]]:
        """The comparison within each subgroup of a column, in the order of their names."""
        for (value, baseline), (_, candidate) in zip(self.baseline.parts(column), self.candidate.parts(column), strict=True):
            yield value, MultilabelComparison(self.limits, baseline, candidate)

    def overall_drop(self, limit: float) -> tuple[Estimate, float, float]:
        """How far the mean of the labels' balanced accuracy fell, with both models' figures; a `Relative` limit is bounded as a ratio."""
        baseline, candidate = self.baseline.overall, self.candidate.overall
        unit = "cases" if self.baseline.patients is None else "patients"
        if not self._weights.any():
            return Estimate(0.0, *ANYTHING, 0, unit, "", None), 0.0, 0.0
        kept = 1.0 - (float(limit) if isinstance(limit, Relative) else 0.0)
        lost = kept * self.baseline.correct.astype(np.float64) - self.candidate.correct
        sides = [self.baseline.labels == label for _, label in SIDES]
        # Around the mean of its label and side, so that a side with more cases in a draw moves nothing by itself.
        for rows in sides:
            lost -= rows * ((lost * rows).sum(0) / np.maximum(1, rows.sum(0)))
        influences, size = self._by_patient((lost * self._weights).sum(1)), 1.0
        if self.baseline.patients is not None:
            counts = np.bincount(self.baseline.patients)
            size = float((counts**2).sum() / counts.sum())
        n, drop = len(influences), baseline - candidate
        worst = drop + n * size * float(self._weights.sum(1).max())
        estimate = mean_of(n * influences, self.limits.confidence, worst, drop)
        return replace(estimate, unit=unit), baseline, candidate

    def class_rails(self, k: int, figure: str, limit: float, name: str = "") -> Rail:
        """The rail of the drop of one label's sensitivity or specificity.

        Args:
            k: place of the label.
            figure: "sensitivity" or "specificity".
            limit: largest allowed drop.
            name: name of the figure in the report, where it is another one.
        """
        rows = self.rows(k, figure)
        hits = [score.correct[rows, k] for score in (self.baseline, self.candidate)]
        patients = None if self.baseline.patients is None else self.baseline.patients[rows]
        estimate = drop_of_share(hits[0], hits[1], self.limits.confidence, patients, relative=isinstance(limit, Relative))
        rates = [float(right.mean()) if len(right) else 0.0 for right in hits]
        return self.rail("drop", limit, name or figure, estimate, *rates, scope="class", name=self.baseline.classes[k])

    def rows(self, k: int, figure: str) -> Booleans:
        """The cases that a label's figure is about, (N,): those in which it is present for sensitivity, absent for specificity."""
        return np.asarray(self.baseline.labels[:, k] == dict(SIDES)[figure])

    @cached_property
    def _weights(self) -> Doubles:
        """Weight of each decision in the overall figure, (N, L); the weights of a side of a label add up to 1 / (2 L)."""
        labels = self.baseline.labels
        judged = np.array([self.baseline.per_class[name].balanced is not None for name in self.baseline.classes])
        sides = [(labels == label) / np.maximum(1, (labels == label).sum(0)) for _, label in SIDES]
        return np.asarray(sum(sides) * judged / (2 * max(1, int(judged.sum()))), dtype=np.float64)

    def _by_patient(self, values: Doubles) -> Doubles:
        patients = self.baseline.patients
        return values if patients is None else np.bincount(patients, values).astype(np.float64)
