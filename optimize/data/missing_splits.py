"""Cut the splits that are missing from those that are there: stratified by class, with the images of a patient kept together.

What is missing is taken by halves, so that each class is in each part:

    there             becomes
    train             train 1/2, val 1/4, test 1/4
    train, test       train 3/4, val 1/4
    train, val        val 1/2, test 1/2; train stays
    val, or test      val 1/2, test 1/2

Copies of one image stay together too (`optimize.data.split_assignment.halves`). The cut has the fixed seed `SEED`: every command, whatever
its own seed is, finds the same items in test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from optimize.data.arrays import Array, Integers
from optimize.data.layout import SPLITS
from optimize.data.lazy_images import Images, taken
from optimize.data.split_assignment import halves, identify
from optimize.errors import InputError

SEED = 0
"""Seed of the cut: one number for every run, so that test has the same items in all of them."""


def with_missing_splits(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the arrays with val and test, and a sentence for the report where one was cut; the input is not changed.

    Args:
        arrays: the arrays of the user's data, by the names in `optimize.data.layout`, with images of at least one split.

    Raises:
        InputError: when a split cannot be cut, because it is empty or all its items belong together.

    Example:
        >>> images, labels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4), np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> arrays, notes = with_missing_splits({"train_images": images, "train_labels": labels})
        >>> {name: arrays[f"{name}_labels"].tolist() for name in ("train", "val", "test")}
        {'train': [0, 0, 1, 1], 'val': [0, 1], 'test': [0, 1]}
    """
    present = [name for name in SPLITS if f"{name}_images" in arrays]
    missing = [name for name in ("val", "test") if name not in present]
    # calibration has no part here: its labels may be missing
    sources = [name for name in present if name != "calibration"]
    if not missing or not sources:
        return dict(arrays), ()
    source = sources[0] if len(missing) == 2 or missing == ["val"] else sources[-1]
    images = arrays[f"{source}_images"]
    if not images.ndim or not len(images):
        raise InputError(f"`{source}_images` has no array of images, or is empty: every split needs at least one item.")
    whole, size = dict(arrays), len(images)
    rows = _parts(arrays, source, missing)
    for field in [key.removeprefix(f"{source}_") for key in arrays if key.startswith(f"{source}_")]:
        values = arrays[f"{source}_{field}"]
        if not values.ndim or len(values) != size:
            continue  # the check of lengths names it later
        for name, items in rows.items():
            whole[f"{name}_{field}"] = cast(Array, taken(cast(Images, values), items))
    # an item keeps its number in the user's file, so that reports name what the user can look up
    if not any(f"{source}_{field}" in arrays for field in ("id", "names")):
        whole |= {f"{name}_names": np.array([f"{source}[{item}]" for item in items]) for name, items in rows.items()}
    sizes = ", ".join(f"{name} {len(items)}" for name, items in rows.items())
    trained = "; if the network was trained on these items, the figures of the original are too good" if source == "train" else ""
    absent = " and no ".join(missing)
    return whole, (f"The data have no {absent}: {source} ({size} items) was cut into {sizes}, with seed {SEED}{trained}.",)


def _parts(arrays: Mapping[str, Array], source: str, missing: list[str]) -> dict[str, Integers]:
    """Return the rows of `source` that become each split, sorted; the source keeps what is left, where it is train."""
    everything = np.arange(len(arrays[f"{source}_images"]))
    first, second = _halves(arrays, source, everything)
    if source != "train":
        return dict(zip(("val", "test"), (first, second), strict=True))
    quarter, other = _halves(arrays, source, second)
    if len(missing) == 2:
        return {"train": first, "val": quarter, "test": other}
    return {"train": np.sort(np.concatenate([first, other])), missing[0]: quarter}


def _halves(arrays: Mapping[str, Array], source: str, rows: Integers) -> tuple[Integers, Integers]:
    patients, labels = arrays.get(f"{source}_patient"), arrays.get(f"{source}_labels")
    images = taken(cast(Images, arrays[f"{source}_images"]), rows)
    strata = np.zeros(len(rows), dtype=np.int64)
    # whole numbers and text are classes; masks, numbers and several labels at once are cut by chance
    if labels is not None and labels.ndim and labels.size == len(labels) > rows.max(initial=0) and labels.dtype.kind in "iubUS":
        strata = np.unique(labels.reshape(-1)[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)
    grouped = patients is not None and patients.ndim == 1 and len(patients) > rows.max(initial=0)
    try:
        first, second = halves(identify(source, images, patients[rows] if grouped and patients is not None else None), strata, SEED)
    except InputError as problem:
        raise InputError(
            f"`data` has no split to judge by, and {source!r} cannot be cut, as its {len(rows)} item(s) belong together (one image, or one "
            "patient): add val and test, or more items."
        ) from problem
    return rows[first], rows[second]
