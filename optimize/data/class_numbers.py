"""Labels of classes in other forms than the numbers of a network's outputs: one-hot rows, whole numbers as floats, numbers from 1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optimize.data.arrays import Array

CLASSES = ("classification", "ordinal")
"""Tasks whose labels are numbers of outputs."""


def class_numbers(arrays: Mapping[str, Array], task: str, outputs: int | None) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the arrays with labels as numbers from 0, and a sentence for the report where they were others; the input is not changed.

    One-hot rows and whole floats may also be labels or numbers of their own, so they become classes only where the user calls them so.
    Numbers from 1 to the number of outputs, with no 0 in any split, can be nothing else.

    Args:
        arrays: the arrays of the user's data.
        task: what the user calls the labels; "auto" for what they show.
        outputs: number of classes that the network tells apart; None where it is not known.

    Example:
        >>> arrays, notes = class_numbers({"val_labels": np.array([1, 3]), "test_labels": np.array([2, 2])}, "auto", 3)
        >>> arrays["val_labels"].tolist(), arrays["test_labels"].tolist(), notes
        ([0, 2], [1, 1], ('Labels run from 1 to 3: 1 is the first output of the network.',))
    """
    labelled = {key: values for key, values in arrays.items() if key.endswith("_labels")}
    labels = {key: values for key, values in labelled.items() if values.dtype.kind in "iubf" and values.ndim and values.size}
    notes: tuple[str, ...] = ()
    if task in CLASSES and labels:
        if all(_one_hot(values) for values in labels.values()):
            labels, notes = {key: values.argmax(1) for key, values in labels.items()}, ("Labels are one-hot: each column is a class.",)
        labels = {key: values.astype(np.int64) if _whole_floats(values) else values for key, values in labels.items()}
    single = all(values.dtype.kind in "iu" and values.size == len(values) for values in labels.values())
    if labels and single and task in ("auto", *CLASSES) and outputs is not None and outputs > 1:
        first, last = min(int(values.min()) for values in labels.values()), max(int(values.max()) for values in labels.values())
        if (first, last) == (1, outputs):
            # as a wide type: 0 - 1 must not become 255
            labels = {key: values.astype(np.int64) - 1 for key, values in labels.items()}
            notes += (f"Labels run from 1 to {outputs}: 1 is the first output of the network.",)
    return {**arrays, **labels}, notes


def _one_hot(labels: Array) -> bool:
    return labels.ndim == 2 and labels.shape[1] > 1 and bool(np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all())


def _whole_floats(labels: Array) -> bool:
    return labels.dtype.kind == "f" and bool(np.isfinite(labels).all() and (labels == np.floor(labels)).all())
