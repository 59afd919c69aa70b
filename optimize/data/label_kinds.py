"""What labels are of: one class of several, several labels at once, grades in an order, numbers, or identities.

The labels decide, unless the user says it:

    whole numbers (N,)                     classification; with `task = "ordinal"` grades
    0, 1 and -1 for unknown, (N, L)        multilabel
    floats (N,) or (N, K)                  regression
    whole numbers or text, said to be identities: `task = "embedding"`

Two forms may mean two things, and are then refused with both flags: rows with exactly one 1 (several labels, or one class written as
one-hot), and floats that are all 0 or 1 (numbers, or classes written as floats).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimize.data.arrays import Array, same_length
from optimize.errors import InputError, did_you_mean

AUTO = "auto"
NAMES = ("classification", "multilabel", "ordinal", "regression", "embedding")
"""What a user may call labels; of masks nothing is to be said."""


def kind_of_labels(arrays: Mapping[str, Array], task: str = AUTO) -> str:
    """Return the task that the labels are of, "" for classes as they always were.

    Args:
        arrays: the arrays of the user's data.
        task: what the user calls it; "auto" for what the labels show.

    Raises:
        InputError: when the name is unknown, the labels are not of this task, or they may be of two.

    Example:
        >>> kind_of_labels({"test_labels": np.array([[1, 1], [0, 1], [0, -1]])}), kind_of_labels({"test_labels": np.array([0.3, 2.5])})
        ('multilabel', 'regression')
    """
    stated = task != AUTO
    if stated and task not in NAMES:
        raise InputError(f"`task` (={task!r}) must be one of {', '.join(NAMES)}{did_you_mean(task, NAMES)}.")
    keys = [key for key in arrays if key.endswith("_labels")]
    if not keys:
        if stated:
            raise InputError(f"`task` (={task!r}) is for labels, and the data hold masks: leave it out.")
        return ""
    labels = [np.asarray(arrays[key]) for key in keys]
    if stated:
        return "" if task == "classification" else task
    shown = {_shown(array) for array in labels}
    if shown == {"one-hot"}:
        raise InputError(
            f"`{keys[0]}` has exactly one 1 in each row: pass --task multilabel if its columns are labels of their own, "
            "or --task classification if they are one class of several."
        )
    if shown == {"whole floats"}:
        raise InputError(
            f"`{keys[0]}` holds 0 and 1 as floats: pass --task regression if they are numbers, "
            "or --task classification if they are classes."
        )
    # one split may have only whole floats, or only rows with a single 1, by chance
    for kind, alike in (("regression", {"floats", "whole floats"}), ("multilabel", {"many", "one-hot"})):
        if shown <= alike:
            return kind
    return ""


def _shown(labels: Array) -> str:
    """Return what an array of labels looks like: "floats", "whole floats", "many", "one-hot", or "" for anything else."""
    wide = labels.ndim == 2 and labels.shape[1] > 1
    if labels.dtype.kind == "f" and labels.ndim in (1, 2) and labels.size:
        known = labels[np.isfinite(labels)]
        binary = bool(np.isin(known, (0, 1)).all())
        if wide and np.isin(known, (-1, 0, 1)).all():
            return _many(np.nan_to_num(labels, nan=-1))
        return "whole floats" if binary else "floats"
    if wide and labels.dtype.kind in "iub" and bool(np.isin(labels, (-1, 0, 1)).all()):
        return _many(labels)
    return ""


def _many(labels: Array) -> str:
    return "one-hot" if bool(((labels == 1).sum(1) == 1).all() and (labels >= 0).all()) else "many"


def checked_many(arrays: Mapping[str, Array], split: str, count: int | None) -> Array:
    """Return labels of which a case may have several, int8 (N, L): 1 present, 0 absent, -1 unknown (or NaN).

    Args:
        arrays: the arrays of the user's data.
        split: one of `optimize.data.layout.SPLITS`.
        count: number of outputs of the network, L; None where the labels decide.

    Raises:
        InputError: when they are missing, of another shape, more or fewer than the images, or other numbers.
    """
    key, labels = _labels(arrays, split)
    if labels.ndim != 2 or (count is not None and labels.shape[1] != count):
        expected = "(N, L)" if count is None else f"(N, {count})"
        raise InputError(f"`{key}` has shape {labels.shape}: several labels at once are {expected}, a column for each network output.")
    known = np.nan_to_num(labels, nan=-1) if labels.dtype.kind == "f" else labels
    wrong = np.flatnonzero(~np.isin(known, (-1, 0, 1)).all(1))
    if len(wrong):
        raise InputError(f"`{key}`[{wrong[0]}] is {labels[wrong[0]].tolist()}: labels must be 1, 0, or -1 for unknown.")
    return known.astype(np.int8)


def checked_numbers(arrays: Mapping[str, Array], split: str) -> Array:
    """Return labels that are numbers, float32 (N, K), from (N,) or (N, K).

    Raises:
        InputError: when they are missing, of another shape, more or fewer than the images, or not finite.
    """
    key, labels = _labels(arrays, split)
    if labels.dtype.kind not in "fiub":
        raise InputError(f"`{key}` is {labels.dtype}: a regression needs numbers.")
    if labels.ndim not in (1, 2):
        raise InputError(f"`{key}` has shape {labels.shape}: numbers are (N,), or (N, K) for K outputs.")
    numbers = labels.astype(np.float32).reshape(len(labels), -1)
    wrong = np.flatnonzero(~np.isfinite(numbers).all(1))
    if len(wrong):
        raise InputError(f"`{key}`[{wrong[0]}] is {labels[wrong[0]].tolist()}: every number must be finite: leave such items out.")
    return numbers


def strata_of(labels: Array, task: str) -> Array:
    """Return one class per item, (N,), by which a split is cut evenly: the rarest label that is present, or the quarter of a number.

    Args:
        labels: (N, L) labels of a multilabel task, or (N, K) numbers of a regression.
        task: "multilabel" or "regression".
    """
    if task == "regression":
        first = labels[:, 0]
        return np.asarray(np.searchsorted(np.quantile(first, (0.25, 0.5, 0.75)), first), dtype=np.int64)
    present = labels == 1
    # a label that the item does not have counts as the most common one, so that it is never the rarest
    rarity = np.where(present, present.sum(0), len(present) + 1)
    return np.where(present.any(1), rarity.argmin(1) + 1, 0)


def column_names(task: str, count: int) -> Sequence[str]:
    """Return names of the columns of labels: their numbers, and "value" for a single number."""
    return ("value",) if task == "regression" and count == 1 else tuple(map(str, range(count)))


def _labels(arrays: Mapping[str, Array], split: str) -> tuple[str, Array]:
    key, images = f"{split}_labels", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: add the labels of each image.")
    labels = np.asarray(arrays[key])
    same_length(key, labels, split, images)
    return key, labels
