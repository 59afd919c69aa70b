"""Metadata of each item beside its image and its label: its patient, its subgroups and its name.

    {split}_patient                       id of the patient; no patient stands in two splits
    {split}_group, {split}_NAME_group     any number of columns: test_site_group is the column "site", test_group the column "group"
    {split}_id, or else {split}_names     name of the item; different for every item of a split

Each array holds one text or whole number per image; whole numbers are turned into text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from optimize.data.arrays import Array, same_length
from optimize.errors import InputError


def checked_tags(arrays: Mapping[str, Array], split: str, field: str) -> Array | None:
    """Return one tag per item as text, (N,), or None where there is no such array.

    Args:
        arrays: the arrays of the user's data.
        split: one of `optimize.data.layout.SPLITS`.
        field: part of the array's name behind the split's, such as "patient".

    Raises:
        InputError: when there is not exactly one, text or whole number, per image.
    """
    key = f"{split}_{field}"
    if key not in arrays:
        return None
    tags = arrays[key]
    if tags.ndim == 2 and tags.shape[1] == 1:
        tags = tags[:, 0]
    if tags.ndim != 1 or tags.dtype.kind not in "iubUS":
        raise InputError(f"`{key}` is {tags.dtype} of shape {tags.shape}: it must hold one text or whole number per image.")
    same_length(key, tags, split, arrays[f"{split}_images"])
    # whole numbers and texts are compared as text: patient 7 in one split is patient "7" in another
    return np.char.decode(tags, "utf-8", "replace") if tags.dtype.kind == "S" else tags.astype(str)


EMPTY = "(empty)"


def checked_groups(arrays: Mapping[str, Array], split: str) -> dict[str, Array]:
    """Return the subgroup columns of a split, by name: column -> text (N,); empty where there is none.

    Raises:
        InputError: when a column is malformed, or two arrays give the same one.
    """
    columns: dict[str, Array] = {}
    for key in sorted(arrays):
        if not (match := re.fullmatch(rf"{split}_(?:(.+)_)?group", key)):
            continue
        column = match[1] or "group"
        if column in columns:
            raise InputError(f"`{key}` gives the subgroup column {column!r} a second time: rename it, or leave out `{split}_group`.")
        tags = checked_tags(arrays, split, key.removeprefix(f"{split}_"))
        assert tags is not None
        # an empty text could not be seen in a table of subgroups
        columns[column] = np.where(tags == "", EMPTY, tags)
    return columns


def checked_names(arrays: Mapping[str, Array], split: str) -> Array | None:
    """Return the name of each item of a split, text (N,), or None where the data have no names.

    Raises:
        InputError: when there is not exactly one per image, or two items have the same.
    """
    field = next((field for field in ("id", "names") if f"{split}_{field}" in arrays), "id")
    names = checked_tags(arrays, split, field)
    if names is None:
        return None
    values, counts = np.unique(names, return_counts=True)
    if len(values) < len(names):
        twice = str(values[counts > 1][0])
        first, second = np.flatnonzero(names == twice)[:2]
        raise InputError(
            f"`{split}_{field}`[{first}] and [{second}] are both {twice!r}: every item of a split needs an id of its own; "
            "make them differ, or leave the array out."
        )
    return names


def require_patients(known: Mapping[str, bool]) -> None:
    """Check that guard and test both name their patients, or neither does: else a patient in both could not be noticed.

    Raises:
        InputError: when one does and the other does not.
    """
    if len(set(known.values())) > 1:
        has, lacks = ([name for name, has_patients in known.items() if has_patients is expected] for expected in (True, False))
        raise InputError(f"`data` has `{has[0]}_patient` but no `{lacks[0]}_patient`: name the patients of both, or of neither.")


def require_columns(val: Mapping[str, Array], test: Mapping[str, Array]) -> None:
    """Check that guard and test have the same subgroup columns.

    Raises:
        InputError: when one has a column that the other has not.
    """
    # a subgroup that only the test split has could never be judged before the verdict
    for column in sorted(val.keys() ^ test.keys()):
        field = "group" if column == "group" else f"{column}_group"
        has, lacks = ("val", "test") if column in val else ("test", "val")
        missing = f"`data` has `{has}_{field}` but no array '{lacks}_{field}'"
        raise InputError(f"{missing}: val and test need the same subgroup columns; add it, or leave out both.")
