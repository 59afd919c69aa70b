"""How well a model gives numbers: mean absolute error, root mean squared error, bias, and R², of every target.

Errors are judged as a share of the *spread* of the labels, the mean distance from their median. That is the error of the best constant
answer, so the share (the relative absolute error) is 1 for a network that knows nothing and 0 for a perfect one, whatever the unit. Figures
in the unit of the labels stand beside it.

Example: ages 40, 50, 60 and 70 are predicted as 42, 49, 65 and 70. The mean absolute error is (2 + 1 + 5 + 0) / 4 = 2 years. The median is
55, so the spread is (15 + 5 + 5 + 15) / 4 = 10 years, and the relative absolute error is 0.2. The bias is (2 - 1 + 5 + 0) / 4 = 1.5 years.

The overall figure is R², the share of the variance that is explained, as a mean over the targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats
from optimize.guard.design_effect import as_numbers
from optimize.guard.score_intervals import Doubles, Integers

TINY = 1e-12
"""Spread below which the labels are all the same number."""


@dataclass(frozen=True)
class TargetScore:
    """One target: its number of cases and its figures, in the unit of the labels but for R² and the relative error."""

    cases: int
    mae: float
    rmse: float
    bias: float
    r2: float
    relative_error: float


@dataclass(frozen=True, eq=False)
class RegressionScore:
    """A model's numbers on one split of N cases and K targets.

    Args:
        labels: true numbers, (N, K).
        predicted: predicted numbers, (N, K).
        classes: names of the targets.
        patients: patient number of each case, (N,); None where patients are not known.
        groups: subgroup of each case, (N,), by the name of the subgroup column.
        spread: mean distance of the labels from their median, (K,), of the whole split, also where this is a part of it.
    """

    task: ClassVar[str] = "regression"

    labels: Doubles
    predicted: Doubles
    classes: tuple[str, ...]
    patients: Integers | None
    groups: Mapping[str, npt.NDArray[Any]]
    spread: Doubles = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def residuals(self) -> Doubles:
        """How far each prediction is above its label, as a share of the spread, (N, K)."""
        return np.asarray((self.predicted - self.labels) / self.spread)

    @property
    def errors(self) -> Doubles:
        """Absolute error of each prediction, as a share of the spread, (N, K)."""
        return np.abs(self.residuals)

    @cached_property
    def per_class(self) -> dict[str, TargetScore]:
        """Score of each target by its name."""
        return {name: self._of_target(k) for k, name in enumerate(self.classes)}

    @property
    def figures(self) -> dict[str, float]:
        """R² of each target; 0 where the model is worse than a constant answer."""
        return {name: max(0.0, score.r2) for name, score in self.per_class.items()}

    @property
    def overall(self) -> float:
        """Mean R² of the targets."""
        return float(np.mean(list(self.figures.values())))

    def take(self, rows: npt.NDArray[Any]) -> RegressionScore:
        """The score of some of the cases, with the spread of all."""
        patients = None if self.patients is None else as_numbers(self.patients[rows])
        groups = {column: values[rows] for column, values in self.groups.items()}
        return replace(self, labels=self.labels[rows], predicted=self.predicted[rows], patients=patients, groups=groups)

    def parts(self, column: str) -> list[tuple[str, RegressionScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows."""
        scores = list(self.per_class.values())
        # Of several targets the units may differ, so only figures without a unit have a mean.
        shared = {"r2": self.overall, "relative_error": float(np.mean([score.relative_error for score in scores]))}
        own = {name: getattr(scores[0], name) for name in ("mae", "rmse", "bias")} if len(scores) == 1 else {}
        return {
            "overall": shared | own,
            "per_class": {name: asdict(score) for name, score in self.per_class.items()},
            "per_group": {
                column: {
                    value: {"cases": len(part), "r2": part.overall, "relative_error": float(part.errors.mean())}
                    for value, part in self.parts(column)
                }
                for column in self.groups
            },
            "confusion": None,
        }

    def _of_target(self, k: int) -> TargetScore:
        gaps = self.predicted[:, k] - self.labels[:, k]
        variance = float(((self.labels[:, k] - self.labels[:, k].mean()) ** 2).sum()) if len(self) else 0.0
        mae, squares = float(np.abs(gaps).mean()), float((gaps**2).sum())
        r2 = 1 - squares / variance if variance > TINY else 0.0
        return TargetScore(len(self), mae, float(np.sqrt(squares / len(self))), float(gaps.mean()), r2, mae / float(self.spread[k]))


def score_numbers(
    answers: Iterable[tuple[Floats, npt.NDArray[Any]]],
    classes: Sequence[str],
    patients: npt.NDArray[Any] | None = None,
    groups: Mapping[str, npt.NDArray[Any]] | None = None,
) -> RegressionScore:
    """Score outputs (n, K), batch by batch, each with its numbers, (n, K).

    A case whose outputs are not all finite counts as wrong by the whole range of the labels.

    Args:
        answers: the batches.
        classes: names of the K targets.
        patients: patient id of each case over all batches, (N,).
        groups: subgroup of each case, (N,), by the name of the subgroup column.

    Example:
        >>> ages = np.array([[40.0], [50.0], [60.0], [70.0]])
        >>> score = score_numbers([(np.array([[42.0], [49.0], [65.0], [70.0]]), ages)], ("age",))
        >>> score.per_class["age"].mae, score.per_class["age"].bias, score.per_class["age"].relative_error
        (2.0, 1.5, 0.2)
    """
    outputs, labels = (np.concatenate(parts).astype(np.float64) for parts in zip(*answers, strict=True))
    labels = labels.reshape(outputs.shape)
    finite = np.isfinite(outputs).all(1, keepdims=True)
    predicted = np.where(finite, np.nan_to_num(outputs), labels + np.ptp(labels, axis=0))
    spread = np.abs(labels - np.median(labels, axis=0)).mean(0)
    # Labels that are all the same have no spread to compare an error with; then it is compared with 1.
    spread = np.where(spread > TINY, spread, 1.0)
    numbers = None if patients is None else as_numbers(patients)
    return RegressionScore(labels, predicted, tuple(classes), numbers, dict(groups or {}), spread)
