"""The names of the classes: those that the user passes, else those in the data, else their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimize.data.arrays import MAX_CLASSES, Array, Integers
from optimize.data.label_kinds import column_names
from optimize.data.layout import CLASS_KEYS
from optimize.data.split import Split
from optimize.errors import InputError


def class_names(arrays: Mapping[str, Array], classes: Sequence[str], num_classes: int | None, splits: Sequence[Split]) -> tuple[str, ...]:
    """Return one name per class; with masks, the background is no class and has no name.

    Args:
        arrays: the arrays of the user's data, which may hold names under one of `CLASS_KEYS`.
        classes: names that the user passed; empty for none.
        num_classes: number of outputs of the network, K, or None where the labels decide.
        splits: all splits.

    Raises:
        InputError: when the names that were passed are not one per class, or a class has no item in any split.
    """
    numbers, has_background = _numbered(num_classes, splits)
    count = len(numbers)
    all_names = [tuple(classes), *(tuple(map(str, arrays[key])) for key in CLASS_KEYS if key in arrays and _is_text(arrays[key]))]
    # A name for the background may stand in front: it is left out.
    passed, *stored = [names[1:] if has_background and len(names) == count + 1 else names for names in all_names]
    if passed and splits[0].task == "embedding":
        raise InputError(f"`classes` (={','.join(passed)}) is for classes, and an embedding has identities: leave it out.")
    if passed and (len(passed) != count or len(set(passed)) != count or not all(passed)):
        per = "class, without the background" if has_background else "output of the network"
        raise InputError(f"`classes` (={','.join(passed)}) must be {count} different names, one per {per}.")
    absent = [name for name, total in zip(numbers, _totals(splits, count), strict=True) if not total]
    if absent:
        listed = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        what = "mask that shows class" if splits[0].task == "segmentation" else "item of label"
        raise InputError(f"`data` has no {what} {listed} in any split: each of the network's {count} classes needs items.")
    # names in the data that do not fit are passed over, since nobody typed them for this network
    return passed or next((names for names in stored if len(names) == len(set(names)) == count), numbers)


def _numbered(num_classes: int | None, splits: Sequence[Split]) -> tuple[tuple[str, ...], bool]:
    """Return the classes by their numbers, and whether number 0 is the background, which is none of them."""
    labels = splits[0].labels
    if splits[0].task == "embedding":
        return ("all identities",), False
    if splits[0].task in ("multilabel", "regression"):
        return tuple(column_names(splits[0].task, labels.shape[1])), False
    if splits[0].task != "segmentation":
        count = num_classes or int(np.flatnonzero(_totals(splits, MAX_CLASSES))[-1]) + 1
        return tuple(map(str, range(count))), False
    has_background = labels.dtype != bool
    numbers = range(1, num_classes or 1) if has_background else range(labels.shape[1])
    return ("foreground",) if len(numbers) == 1 else tuple(map(str, numbers)), has_background


def _totals(splits: Sequence[Split], classes: int) -> Integers:
    return np.asarray(sum(split.totals(classes) for split in splits))


def _is_text(array: Array) -> bool:
    return array.dtype.kind == "U" and array.ndim == 1
