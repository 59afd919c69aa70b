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
from optimize.data.identities import perfect_embeddings
from optimize.data.output_meaning import THRESHOLD

Array: TypeAlias = npt.NDArray[Any]
Booleans: TypeAlias = npt.NDArray[np.bool_]


def foreground(masks: Array, classes: int) -> Booleans:
    """Return masks of either form as one mask per class, (N, F, *spatial), with F = `classes`."""
    return np.asarray(masks if masks.dtype == bool else masks[:, None] == _numbers(masks, classes))


def predicted(outputs: Floats, masks: Array, meaning: Meaning = "logits") -> Booleans:
    """Return the masks that outputs (N, K, *spatial) predict, (N, F, *spatial); of `masks` only the form is used."""
    if masks.dtype == bool:
        return np.asarray(outputs > THRESHOLD[meaning])
    return np.asarray(outputs.argmax(1)[:, None] == _numbers(masks, outputs.shape[1] - 1))


def perfect(labels: Array, classes: int, kind: str = "") -> Floats:
    """Return outputs that predict exactly the labels: masks of either form, or the classes of whole images, (N,) -> (N, K).

    Args:
        labels: masks or labels.
        classes: number of classes.
        kind: task of labels that are no plain classes, as of a `Split`; numbers and grades get the errors of a usual network.
    """
    # Limits of errors may be shares of the original's, and nothing is a share of no error: so numbers are off by half a spread, up and
    # down, and every tenth grade by one.
    if kind == "embedding":
        return perfect_embeddings(labels)
    if kind == "regression":
        spread = np.abs(labels - np.median(labels, axis=0)).mean(0)
        return np.asarray(labels + spread * np.where(np.arange(len(labels)) % 2, 0.5, -0.5)[:, None], dtype=np.float32)
    if kind == "ordinal":
        off = np.where(np.arange(len(labels)) % 10 == 0, np.where(labels > 0, -1, 1), 0)
        return perfect(labels + off, classes)
    if kind == "multilabel":
        return np.where(labels == 1, np.float32(9), np.float32(-9))
    if labels.dtype == bool:
        return np.where(labels, np.float32(1), np.float32(-1))
    count = classes if labels.ndim == 1 else classes + 1
    return np.moveaxis(np.eye(count, dtype=np.float32)[labels], -1, 1)


def shown(masks: Array, classes: int) -> Booleans:
    """Return which classes each item shows anywhere, (N, F)."""
    # Item by item: one mask per class of all items at once would not fit into memory.
    rows = (foreground(masks[item : item + 1], classes).reshape(classes, -1).any(1) for item in range(len(masks)))
    return np.array(list(rows)).reshape(len(masks), classes)


def _numbers(masks: Array, classes: int) -> Array:
    """1 to F, (F, 1, …), to be compared with (N, 1, *spatial)."""
    return np.arange(1, classes + 1).reshape(-1, *[1] * (masks.ndim - 1))
