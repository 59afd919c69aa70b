"""How well a model classifies: one confusion matrix, and what follows from it, per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from optimize.guard.drop import Drop, Floor, share_drop
from optimize.guard.limits import Limits


@dataclass(frozen=True)
class ClassScore:
    """One class: how many cases it has, and its recall, precision and F1 as fractions; 0 where there is nothing to divide by."""

    cases: int
    recall: float
    precision: float
    f1: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """What a classifier got right on one split.

    Args:
        confusion: (K, K); row: true class, column: predicted class.
        classes: their names.
        decided: of each case its true and its predicted class, (N, 2), in the split's order; None where only the sums are known.
    """

    confusion: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    decided: npt.NDArray[np.int64] | None = None

    @property
    def cases(self) -> int:
        """Number of cases."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of cases got right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of cases got right."""
        return self.correct / max(1, self.cases)

    @property
    def overall(self) -> float:
        """The accuracy."""
        return self.accuracy

    @property
    def figures(self) -> dict[str, float]:
        """Recall of each class that has cases."""
        return {name: each.recall for name, each in self.per_class.items() if each.cases}

    @property
    def per_class(self) -> dict[str, ClassScore]:
        """Score of each class by its name."""
        hits, cases, said = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        recall, precision = hits / np.maximum(cases, 1), hits / np.maximum(said, 1)
        f1 = 2 * hits / np.maximum(cases + said, 1)
        return {name: ClassScore(int(cases[k]), float(recall[k]), float(precision[k]), float(f1[k])) for k, name in enumerate(self.classes)}

    def drop(self, before: Self, limits: Limits) -> Drop:
        """Of the accuracy."""
        moved = self._moved(before)
        total = None if moved is None else int(moved.sum())
        return share_drop("overall accuracy", limits.max_drop, before.cases, before.correct - self.correct, total)

    def class_drops(self, before: Self, limits: Limits) -> dict[str, Drop]:
        """Of each class's recall."""
        cases, lost = before.confusion.sum(1), np.diag(before.confusion) - np.diag(self.confusion)
        moved = self._moved(before)
        return {
            name: share_drop(
                f"recall of {name}", limits.max_class_drop, int(cases[k]), int(lost[k]), None if moved is None else int(moved[k])
            )
            for k, name in enumerate(self.classes)
        }

    def floors(self, before: Self, limits: Limits) -> list[Floor]:
        """F1 of each class that has cases."""
        return [Floor(f"F1 of {name}", each.f1, limits.min_class_f1) for name, each in self.per_class.items() if each.cases]

    def as_dict(self, original: Self | None = None) -> dict[str, Any]:
        """The form that a report shows."""
        per_class = self.per_class
        macro_f1 = float(np.mean([each.f1 for each in per_class.values()]))
        return {
            "overall": {"accuracy": self.accuracy, "macro_f1": macro_f1},
            "per_class": {name: asdict(each) for name, each in per_class.items()},
            "confusion": self.confusion.tolist(),
        }

    def _moved(self, before: Self) -> npt.NDArray[np.int64] | None:
        """How many cases of each class are wrong now and were right, or the other way, (K,); None where that is not known."""
        if self.decided is None or before.decided is None or not np.array_equal(self.decided[:, 0], before.decided[:, 0]):
            return None
        labels = self.decided[:, 0]
        moved = (self.decided[:, 1] == labels) != (before.decided[:, 1] == labels)
        return np.bincount(labels[moved], minlength=len(self.classes)).astype(np.int64)


def confuse(outputs: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64], classes: Sequence[str]) -> Confusion:
    """Score class outputs (N, K) against labels (N,).

    A case whose outputs are not all finite counts as wrong: it is put down as the class after the true one.
    """
    count = len(classes)
    decided = np.where(np.isfinite(outputs).all(1), outputs.argmax(1), (labels + 1) % count)
    confusion = np.bincount(labels * count + decided, minlength=count * count).reshape(count, count)
    return Confusion(confusion.astype(np.int64), tuple(classes), np.stack([labels, decided], axis=1))
