"""How well a model classifies: what it answered to every case of one split, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from optimize.candidate import Floats, Meaning
from optimize.data.output_meaning import of_two_classes, sum_to_one
from optimize.guard.confidence_calibration import expected_calibration_error
from optimize.guard.design_effect import as_numbers
from optimize.guard.roc import macro_auc
from optimize.guard.score_intervals import Booleans, Integers


@dataclass(frozen=True)
class ClassScore:
    """One class: its number of cases, and its recall, precision and F1 as fractions; 0 where the divisor would be 0."""

    cases: int
    recall: float
    precision: float
    f1: float


@dataclass(frozen=True, eq=False)
class ClassificationScore:
    """A classifier's predictions on one split of N cases and K classes, with the figures that follow from them.

    Args:
        labels: true classes, (N,).
        predicted: predicted classes, (N,).
        probabilities: probability of each class for each case, (N, K); each row sums to 1.
        classes: names of the classes.
        patients: patient number of each case, (N,); None where patients are not known.
        groups: subgroup of each case, (N,), by the name of the subgroup column.
        single: whether one output decides between two classes; the second one is then the positive one.
    """

    task: ClassVar[str] = "classification"

    labels: Integers
    predicted: Integers
    probabilities: Floats
    classes: tuple[str, ...]
    patients: Integers | None = None
    groups: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    single: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def confusion(self) -> Integers:
        """Counts, (K, K); row: true class, column: predicted class."""
        count = len(self.classes)
        # Each pair gets its own number: with 3 classes, a case of class 1 taken for class 2 is 1 * 3 + 2 = 5, row 1 and column 2.
        return np.bincount(self.labels * count + self.predicted, minlength=count * count).reshape(count, count).astype(np.int64)

    @property
    def correct(self) -> Booleans:
        """Whether each case is predicted correctly, (N,)."""
        return np.asarray(self.labels == self.predicted)

    @property
    def accuracy(self) -> float:
        """Share of cases that are predicted correctly."""
        return float(self.correct.mean()) if len(self) else 0.0

    @property
    def overall(self) -> float:
        """The accuracy."""
        return self.accuracy

    @property
    def figures(self) -> dict[str, float]:
        """Recall of each class that has cases."""
        return {name: score.recall for name, score in self.per_class.items() if score.cases}

    @property
    def may_be_positive(self) -> tuple[str, ...]:
        """Names of the classes that an operating point may be about where the limits name none."""
        return self.classes[1:] if self.single else self.classes

    @cached_property
    def per_class(self) -> dict[str, ClassScore]:
        """Score of each class by its name."""
        # The divisor 1 stands for 0: then the hits are 0 as well, and so is the figure.
        hits, cases, predicted = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        recall, precision = hits / np.maximum(cases, 1), hits / np.maximum(predicted, 1)
        # The harmonic mean of recall and precision, in counts: 80 hits, 90 cases and 92 predicted give 160 / 182 = 0.879.
        f1 = 2 * hits / np.maximum(cases + predicted, 1)
        return {name: ClassScore(int(cases[k]), float(recall[k]), float(precision[k]), float(f1[k])) for k, name in enumerate(self.classes)}

    @property
    def macro_f1(self) -> float:
        """Mean of the classes' F1; classes without a case are left out."""
        return float(np.mean([score.f1 for score in self.per_class.values() if score.cases] or [0.0]))

    @cached_property
    def auc(self) -> float | None:
        """Mean over the classes of the area under the curve of each against the rest; None where no class can be told from the rest."""
        return macro_auc(self.probabilities, self.labels)

    def take(self, rows: npt.NDArray[Any]) -> ClassificationScore:
        """The score of some of the cases."""
        columns = {name: getattr(self, name)[rows] for name in ("labels", "predicted", "probabilities")}
        # Numbered anew: code that counts patients by the largest number would else count those who are not in this part.
        patients = None if self.patients is None else as_numbers(self.patients[rows])
        return replace(self, **columns, patients=patients, groups={column: values[rows] for column, values in self.groups.items()})

    def as_dict(self, original: Self | None = None) -> dict[str, Any]:
        """The form that a report shows."""
        return {
            "overall": {
                "accuracy": self.accuracy,
                "macro_f1": self.macro_f1,
                "auc": self.auc,
                "ece": expected_calibration_error(self.probabilities.max(1), self.correct) if len(self) else None,
            },
            "per_class": {name: asdict(score) for name, score in self.per_class.items()},
            "per_group": {
                column: {value: {"cases": len(part), "accuracy": part.accuracy} for value, part in self.parts(column)}
                for column in self.groups
            },
            "confusion": self.confusion.tolist(),
        }

    def parts(self, column: str) -> list[tuple[str, ClassificationScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]


def answers(
    outputs: npt.NDArray[np.floating[Any]],
    labels: Integers,
    classes: Sequence[str],
    patients: npt.NDArray[Any] | None = None,
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
    meaning: Meaning = "logits",
    threshold: float = 0.5,
) -> ClassificationScore:
    """Score class outputs (N, K), or a single output (N, 1) of two classes, against labels (N,).

    Outputs whose rows sum to 1 are probabilities already; of all others the softmax is taken. A case whose outputs are not all finite
    counts as wrong: the class after the true one gets probability 1.

    Args:
        outputs: outputs of the network, (N, K).
        labels: true classes, (N,).
        classes: names of the K classes.
        patients: patient id of each case, (N,).
        groups: subgroup of each case, (N,), by the name of the subgroup column.
        meaning: whether a single output is a logit or a probability; of several outputs their sums show it.
        threshold: probability from which a single output means the second class.
    """
    single, outputs = outputs.shape[1] == 1, of_two_classes(outputs, meaning)
    count, finite = len(classes), np.isfinite(outputs).all(1)
    # A wrong class must be named for every such case, and the next one is as good as any. It is fixed, so two runs agree.
    following = (labels + 1) % count
    decided = outputs.argmax(1)
    # In double precision, so that rounding does not decide whether a row sums to 1.
    whole = np.nan_to_num(outputs[finite].astype(np.float64))
    probabilities = np.eye(count, dtype=np.float32)[following]
    probabilities[finite] = whole / np.maximum(whole.sum(1, keepdims=True), 1e-12) if sum_to_one(whole) else softmax(whole, axis=1)
    # As the artifact decides: a probability of exactly the threshold is a no, and at 0.5 the larger of both classes is taken.
    if single:
        decided = (probabilities[:, 1] > threshold).astype(np.int64)
    predicted = np.where(finite, decided, following)
    numbers = None if patients is None else as_numbers(patients)
    return ClassificationScore(labels, predicted.astype(np.int64), probabilities, tuple(classes), numbers, dict(groups or {}), single)
