"""How well a model gives grades that have an order: what a classification is scored by, quadratic weighted kappa, and the mean error.

    kappa = 1 - sum (i - j)^2 O_ij / sum (i - j)^2 E_ij

with O the counts of true grade i given as grade j, and E the counts that the same totals would give by chance (Cohen, Psychological
Bulletin 70, 1968). It is 1 where all grades are right, and 0 where they are no better than chance; a grade that is off by two counts four
times as much as one that is off by one.

Example: of 10 eyes of grade 0 and 10 of grade 2, one of grade 2 is given as 0. Then O_20 = 1, E_20 = 10 * 11 / 20 = 5.5 and E_02 = 10 * 9 /
20 = 4.5, so kappa = 1 - 4 * 1 / (4 * 10) = 0.9.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from optimize.guard.classification_score import ClassificationScore
from optimize.guard.score_intervals import Doubles


class OrdinalScore(ClassificationScore):
    """A model's grades on one split; the grades are the classes, in their order."""

    task: ClassVar[str] = "ordinal"

    @property
    def errors(self) -> Doubles:
        """Distance of each given grade from the true one, as a share of the largest possible distance, (N,)."""
        return np.asarray(np.abs(self.labels - self.predicted) / max(1, len(self.classes) - 1), dtype=np.float64)

    @property
    def kappa(self) -> float:
        """Quadratic weighted kappa; 1 where all cases have one grade and are given it."""
        return float(kappas(self.confusion[None].astype(np.float64))[0])

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows."""
        whole = super().as_dict(original)
        mae = float(np.abs(self.labels - self.predicted).mean()) if len(self) else None
        return whole | {"overall": whole["overall"] | {"kappa": self.kappa, "mae": mae}}


def kappas(confusion: Doubles) -> Doubles:
    """Quadratic weighted kappa of confusion matrices, (n, K, K) -> (n,); row: true grade.

    >>> kappas(np.array([[[10.0, 0, 0], [0, 0, 0], [1, 0, 9]]])).round(3).tolist()
    [0.9]
    """
    grades = np.arange(confusion.shape[1])
    weights = (grades[:, None] - grades[None]) ** 2
    total = confusion.sum((1, 2))
    expected = confusion.sum(2)[:, :, None] * confusion.sum(1)[:, None] / np.maximum(total, 1e-300)[:, None, None]
    wrong, chance = (confusion * weights).sum((1, 2)), (expected * weights).sum((1, 2))
    # Without any expected distance all cases have one grade and are given it, which is perfect agreement.
    return np.where(chance > 0, 1 - wrong / np.maximum(chance, 1e-300), 1.0)
