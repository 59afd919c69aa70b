"""Masks and the outputs they are compared with, in two forms.

    one mask per output     bool (N, K, *spatial); a pixel is of each class whose output is above the threshold, so masks may overlap
    class indices           whole numbers (N, *spatial); a pixel is of the class whose output is largest, 0 is the background

The threshold is 0 for logits and 0.5 for probabilities (`optimize.data.output_meaning`). A single output always has the first form. The
background is no class in either: there are F = K classes in the first and F = K - 1 in the second.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Meaning
from optimize.data.output_meaning import THRESHOLD

Array: TypeAlias = npt.NDArray[Any]
Booleans: TypeAlias = npt.NDArray[np.bool_]


def foreground(masks: Array, classes: int) -> Booleans:
    """Masks in either form -> (N, F, *spatial), with F = `classes`."""
    return np.asarray(masks if masks.dtype == bool else masks[:, None] == _numbers(masks, classes))


def predicted(outputs: Floats, masks: Array, meaning: Meaning = "logits") -> Booleans:
    """Where outputs (N, K, *spatial) see each class, (N, F, *spatial); `masks` only says which form is meant."""
    if masks.dtype == bool:
        return np.asarray(outputs > THRESHOLD[meaning])
    return np.asarray(outputs.argmax(1)[:, None] == _numbers(masks, outputs.shape[1] - 1))


def perfect(labels: Array, classes: int) -> Floats:
    """Outputs that decide as the labels say: masks in either form, or the classes of whole images, (N,) -> (N, K)."""
    if labels.dtype == bool:
        return np.where(labels, np.float32(1), np.float32(-1))
    count = classes if labels.ndim == 1 else classes + 1
    return np.moveaxis(np.eye(count, dtype=np.float32)[labels], -1, 1)


def shown(masks: Array, classes: int) -> Booleans:
    """Which classes each item shows anywhere, (N, F)."""
    # Item by item: one mask per class of all items at once would not fit into memory.
    each = (foreground(masks[item : item + 1], classes).reshape(classes, -1).any(1) for item in range(len(masks)))
    return np.array(list(each)).reshape(len(masks), classes)


def _numbers(masks: Array, classes: int) -> Array:
    """1 to F, (F, 1, …), to be compared with (N, 1, *spatial)."""
    return np.arange(1, classes + 1).reshape(-1, *[1] * (masks.ndim - 1))
