"""How well any runtime's predict does on a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.candidate import Predict
from optimize.data.dataset import Split
from optimize.data.output_meaning import classes_of
from optimize.errors import InputError
from optimize.guard.score import Score, score
from optimize.progress import track


def score_split(predict: Predict, split: Split, classes: tuple[str, ...], description: str) -> Score:
    """Score any runtime's predict on a split, in batches so that memory is bounded."""
    # A generator, so that only one batch of outputs is in memory; masks of volumes can be larger than memory.
    inner = split.preprocessing.inner
    answers = ((inner(predict(split.inputs(batch))), split.labels[batch]) for batch in track(split.batches, description))
    return score(split.task, answers, classes, split.patients, split.groups, split.outputs, split.threshold)


def evaluate(predict: Predict, split: Split, classes: Sequence[str] = ()) -> Score:
    """Score a network, or a compiled model, on a split.

    Args:
        predict: (N, C, *spatial) float32 -> (N, K) or (N, K, *spatial): of a `Candidate`, a `Session` or a `Report`.
        split: labelled images, such as `data.test` of a `Dataset`.
        classes: names of the labels, `data.classes`; by default 0, 1, 2, … as many as `predict` gives outputs.

    Returns:
        What `judge` compares; `overall` is accuracy, or Dice with masks, in 0..1, and `figures` that of every class.

    Example:
        >>> from optimize.data.preprocessing import Preprocessing
        >>> split = Split("test", np.zeros((4, 1, 2, 2), np.float32), np.array([0, 0, 0, 1]), Preprocessing())
        >>> always_first = lambda inputs: np.tile(np.float32([1, 0]), (len(inputs), 1))
        >>> evaluate(always_first, split).overall
        0.75
    """
    if hasattr(predict, "predict") or hasattr(predict, "state_dict"):
        raise InputError(f"`predict` is of class {type(predict).__name__}: pass a function of arrays, such as `load_model(…).predict`.")
    if not isinstance(split, Split):
        raise InputError(f"`split` is of class {type(split).__name__}: pass one split, such as the `test` of `load_data(…)`.")
    if not classes:
        outputs = classes_of(predict(split.inputs(slice(0, 1))).shape)
        # Masks of numbers have a background, class 0, which is not scored. Masks of booleans have a channel for each class and none for it.
        foreground = split.task == "segmentation" and split.labels.dtype != np.bool_
        classes = tuple(str(number) for number in range(int(foreground), outputs))
    return score_split(predict, split, tuple(classes), "evaluate")
