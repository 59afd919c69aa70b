"""How well a model finds several labels that each case may have or not: sensitivity, specificity, AUC and F1 of every label.

A label of a case is 1, 0, or -1 for unknown; an unknown label enters no figure. The figure of a label is its balanced accuracy, the mean
of sensitivity and specificity, since a rare label is absent from nearly every case and plain accuracy would hardly notice it. The overall
figure is the mean over the labels (macro average); a label that lacks present or absent cases is left out.

Example: a label is present in 10 cases, of which 8 are found, and absent in 90, of which 81 are left out. Its sensitivity is 0.8, its
specificity 0.9, and its balanced accuracy 0.85.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from optimize.candidate import Floats, Meaning
from optimize.guard.design_effect import as_numbers
from optimize.guard.roc import placements
from optimize.guard.score_intervals import Booleans, Integers

UNKNOWN = -1
"""Mark of a label that is not known."""


@dataclass(frozen=True)
class LabelScore:
    """One label: cases in which it is known and in which it is present, and its figures; None where no case decides them."""

    cases: int
    present: int
    sensitivity: float | None
    specificity: float | None
    auc: float | None
    f1: float | None

    @property
    def balanced(self) -> float | None:
        """Mean of sensitivity and specificity."""
        return None if self.sensitivity is None or self.specificity is None else (self.sensitivity + self.specificity) / 2


@dataclass(frozen=True, eq=False)
class MultilabelScore:
    """A model's decisions on one split of N cases and L labels.

    Args:
        labels: 1 present, 0 absent, -1 unknown, (N, L).
        predicted: whether each label is predicted, (N, L).
        probabilities: probability of each label, (N, L).
        classes: names of the labels.
        patients: patient number of each case, (N,); None where patients are not known.
        groups: subgroup of each case, (N,), by the name of the subgroup column.
    """

    task: ClassVar[str] = "multilabel"

    labels: Integers
    predicted: Booleans
    probabilities: Floats
    classes: tuple[str, ...]
    patients: Integers | None = None
    groups: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> Booleans:
        """Whether each label is predicted rightly, (N, L); false where it is unknown."""
        return np.asarray(self.predicted == (self.labels == 1)) & self.known

    @property
    def known(self) -> Booleans:
        """Whether each label is known, (N, L)."""
        return np.asarray(self.labels != UNKNOWN)

    @cached_property
    def per_class(self) -> dict[str, LabelScore]:
        """Score of each label by its name."""
        return {name: self._of_label(k) for k, name in enumerate(self.classes)}

    @property
    def figures(self) -> dict[str, float]:
        """Balanced accuracy of each label that has one."""
        return {name: score.balanced for name, score in self.per_class.items() if score.balanced is not None}

    @property
    def overall(self) -> float:
        """Mean of the labels' balanced accuracy; 0 where none has one."""
        return float(np.mean(list(self.figures.values()))) if self.figures else 0.0

    def take(self, rows: npt.NDArray[Any]) -> MultilabelScore:
        """The score of some of the cases."""
        columns = {name: getattr(self, name)[rows] for name in ("labels", "predicted", "probabilities")}
        patients = None if self.patients is None else as_numbers(self.patients[rows])
        return replace(self, **columns, patients=patients, groups={column: values[rows] for column, values in self.groups.items()})

    def parts(self, column: str) -> list[tuple[str, MultilabelScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows."""
        scores = self.per_class.values()
        return {
            "overall": {
                "balanced_accuracy": self.overall,
                "macro_f1": _mean(score.f1 for score in scores),
                "auc": _mean(score.auc for score in scores),
            },
            "per_class": {name: {**asdict(score), "balanced_accuracy": score.balanced} for name, score in self.per_class.items()},
            "per_group": {
                column: {value: {"cases": len(part), "balanced_accuracy": part.overall} for value, part in self.parts(column)}
                for column in self.groups
            },
            "confusion": None,
        }

    def _of_label(self, k: int) -> LabelScore:
        known, present = self.known[:, k], self.labels[:, k] == 1
        absent, predicted = known & ~present, self.predicted[:, k]
        found, said = int((present & predicted).sum()), int((known & predicted).sum())
        counts = int(present.sum()), int(absent.sum())
        sensitivity = found / counts[0] if counts[0] else None
        specificity = float((~predicted[absent]).mean()) if counts[1] else None
        # The chance that a case with the label is placed above a case without it.
        ranks = placements(self.probabilities[known, k], present[known])[present[known]] if all(counts) else None
        f1 = 2 * found / (counts[0] + said) if counts[0] + said else None
        return LabelScore(sum(counts), counts[0], sensitivity, specificity, None if ranks is None else float(ranks.mean()), f1)


def score_labels(
    answers: Iterable[tuple[Floats, npt.NDArray[Any]]],
    classes: Sequence[str],
    patients: npt.NDArray[Any] | None = None,
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
    meaning: Meaning = "logits",
    threshold: float = 0.5,
) -> MultilabelScore:
    """Score outputs (n, L), batch by batch, each with its labels, (n, L).

    A case whose outputs are not all finite counts as wrong in every label.

    Args:
        answers: the batches.
        classes: names of the L labels.
        patients: patient id of each case over all batches, (N,).
        groups: subgroup of each case, (N,), by the name of the subgroup column.
        meaning: whether outputs are logits or probabilities.
        threshold: probability above which a label is predicted.

    Example:
        >>> labels = np.array([[1, 0], [0, -1], [1, 1], [0, 0]])
        >>> logits = np.array([[2.0, -1.0], [-3.0, 9.0], [1.0, -2.0], [1.0, -1.0]], np.float32)
        >>> score = score_labels([(logits, labels)], ("a", "b"))
        >>> score.per_class["a"].sensitivity, score.per_class["a"].specificity, score.per_class["b"].cases
        (1.0, 0.5, 3)
    """
    outputs, labels = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    finite = np.isfinite(outputs).all(1, keepdims=True)
    true = (labels == 1).astype(np.float64)
    values = np.nan_to_num(outputs.astype(np.float64))
    probabilities = np.where(finite, values if meaning == "probabilities" else expit(values), 1 - true)
    predicted = np.where(finite, probabilities > threshold, true == 0)
    numbers = None if patients is None else as_numbers(patients)
    own = labels.astype(np.int64), predicted, probabilities.astype(np.float32)
    return MultilabelScore(*own, tuple(classes), numbers, dict(groups or {}))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
