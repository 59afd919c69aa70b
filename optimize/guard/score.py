"""The score of a model on a split, for any task: one overall figure, and one figure for each class.

A classification (`ClassificationScore`) has accuracy and recall. A segmentation (`SegmentationScore`) has Dice: of each class the mean over
the patients, and overall the mean over the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from optimize.candidate import Floats, Meaning
from optimize.data.masks import Array
from optimize.guard.tasks import Labelled, kinds


class Score(Protocol):
    """The figures of a model on one split."""

    @property
    def task(self) -> str:
        """Name of the task, one of `optimize.guard.tasks.kinds()`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def overall(self) -> float:
        """The overall figure, a fraction."""

    @property
    def figures(self) -> Mapping[str, float]:
        """The figure of each class that has cases, by the name of the class."""

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows."""


def score(
    task: str,
    answers: Iterable[tuple[Floats, Array]],
    classes: Sequence[str],
    patients: Array | None = None,
    groups: Mapping[str, Array] | None = None,
    meaning: Meaning = "logits",
    threshold: float = 0.5,
) -> Score:
    """The score of a model's outputs, batch by batch.

    Args:
        task: name of the task, one of `optimize.guard.tasks.kinds()`.
        answers: batches of outputs, (n, K) or (n, K, *spatial), each with the true classes, (n,), or the true masks as in
            `optimize.data.masks`.
        classes: names of the classes.
        patients: patient id of each item over all batches, (N,); None where patients are not known.
        groups: subgroup of each item, (N,), by the name of the subgroup column.
        meaning: whether outputs of masks, or a single output of two classes, are logits or probabilities. Several outputs of classes need
            no such word: probabilities sum to 1.
        threshold: probability from which a single output is a yes.
    """
    found: Score = kinds()[task].score(answers, Labelled(classes, patients, groups, meaning, threshold))
    return found
