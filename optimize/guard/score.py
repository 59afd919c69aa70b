"""What a score of any task knows: one overall figure, one for each class, and its guard-rails against the original's.

Of a classification (`Answers`) they are accuracy and recall; of a segmentation (`Dice`) the mean over the classes, and each one's mean
over the patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from optimize.candidate import Floats, Meaning
from optimize.data.masks import Array
from optimize.guard.classification_score import answers as answers_of
from optimize.guard.segmentation_score import score_masks


class Score(Protocol):
    """How good a model is on one split; `before` is always the original's score on the same split."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def overall(self) -> float:
        """The overall figure, a fraction."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Of each class that was seen, by its name."""

    def as_dict(self, original: Any = None) -> dict[str, Any]:
        """The form that a report shows."""


def score(
    task: str,
    answers: Iterable[tuple[Floats, Array]],
    classes: Sequence[str],
    patients: Array | None = None,
    groups: Mapping[str, Array] | None = None,
    meaning: Meaning = "logits",
) -> Score:
    """Score what a model answers, batch by batch.

    Args:
        task: "classification" or "segmentation".
        answers: batches of outputs, (n, K) or (n, K, *spatial), each with what is true: classes (n,), or masks as in `optimize.data.masks`.
        classes: their names.
        patients: id per item over all batches, (N,).
        groups: column -> subgroup of each item, (N,).
        meaning: of outputs that are masks; classes are recognised by their values.
    """
    if task == "segmentation":
        return score_masks(answers, classes, patients, groups, meaning)
    outputs, labels = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    return answers_of(outputs, labels, classes, patients, groups)
