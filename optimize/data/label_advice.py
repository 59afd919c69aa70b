"""Remedies for labels and masks that do not fit a network's outputs: one for each of the usual mistakes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
IGNORED = (255, -1, -100)
"""Numbers by which training scripts mark what is not to be learned from."""


def remedy_of_kind(labels: Array, item: str) -> str | None:
    """Return the remedy for labels that are no whole numbers, or not one per image; None where no remedy is known.

    Args:
        labels: labels as they are stored.
        item: the thing that each label belongs to: "image" or "pixel".
    """
    if labels.dtype.kind in "US":
        return "number the classes from 0, such as numpy.unique(labels, return_inverse=True)[1], and give their names as --classes"
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iubf" and len(labels):
        if bool((np.isin(labels, (0, 1)).all()) and (labels.sum(1) == 1).all()):
            return f"they are one-hot: store one number per {item}, labels.argmax(1)"
        if bool(np.isin(labels, (0, 1)).all()):
            return f"several labels per {item} are not judged yet: give one number per {item}"
        if labels.dtype.kind == "f":
            return f"they look like probabilities: store the class alone, labels.argmax(1), one number per {item}"
    if labels.dtype.kind == "f" and bool(np.isfinite(labels).all() and (labels == np.floor(labels)).all()):
        return "they are whole numbers stored as floats: store them with .astype(int)"
    return None


def remedy_of_range(labels: Array, outputs: int, what: str = "labels") -> str:
    """Return how to mend whole numbers that are outside 0 to `outputs` - 1.

    Args:
        labels: labels as they are stored, of any shape.
        outputs: number of outputs of the network.
        what: the word for them in the text, "labels" or "masks".
    """
    values = np.unique(labels)
    marks = [int(value) for value in values if value in IGNORED and not 0 <= value < outputs]
    inside = values[(values >= 0) & (values < outputs)]
    if marks and len(inside) + len(marks) == len(values):
        drop = "leave these images out" if what == "labels" else "give these pixels a class"
        return f"{marks[0]} usually marks what is to be ignored, which is not done here: {drop}"
    if values[0] == 1 and values[-1] == outputs:
        return f"{what} run from 1 to {outputs}: subtract 1, so that they are numbered as the network's outputs, from 0"
    if values[0] >= 0 and values[-1] >= outputs:
        if len(values) <= outputs:
            return (
                f"the network has {outputs} outputs, and {what} hold {len(values)} different numbers up to {values[-1]}: "
                f"number the classes from 0 without gaps, as the network's outputs are, as by numpy.unique({what}, return_inverse=True)[1]"
            )
        return (
            f"the network has {outputs} outputs, and {what} name {len(values)} classes ({values[0]} to {values[-1]}): "
            f"it was trained for other classes; check the model, its arch_args (such as classes = {values[-1] + 1}) and the data"
        )
    return "number the classes as the network's outputs are, from 0"
