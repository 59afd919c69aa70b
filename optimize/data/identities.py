"""Labels of embeddings: who or what an item shows. They are compared with each other alone, so their numbers and names mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from optimize.data.arrays import Array, Integers, same_length
from optimize.data.layout import SPLITS
from optimize.errors import InputError

PERFECT_SIZE = 64
"""Length of a made-up embedding: vectors of this many random numbers are far from parallel."""


def checked_identities(arrays: Mapping[str, Array], split: str) -> Integers:
    """Return the identity of each item, int64 (N,), from whole numbers (N,) or (N, 1); text has become numbers before.

    Raises:
        InputError: when they are missing, no whole numbers, more or fewer than the images, or none in val or test occurs twice.
    """
    key, images = f"{split}_labels", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: add the identity that each image shows.")
    labels = np.asarray(arrays[key])
    if labels.dtype.kind not in "iu":
        raise InputError(f"`{key}` is {labels.dtype}: identities of embeddings must be whole numbers or text, in every split.")
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise InputError(f"`{key}` has shape {labels.shape}: identities of embeddings must be (N,), one for each image.")
    labels = labels.reshape(-1).astype(np.int64)
    same_length(key, labels, split, images)
    if split in ("val", "test") and not queries(labels).any():
        raise InputError(f"`{key}` has no identity of two items: retrieval looks for another item of the same identity: add some.")
    return labels


def queries(identities: Integers) -> Array:
    """Return which items have another one of their identity, bool (N,).

    >>> queries(np.array([7, 3, 7])).tolist()
    [True, False, True]
    """
    _, place, counts = np.unique(identities, return_inverse=True, return_counts=True)
    return np.asarray(counts[place.reshape(-1)] > 1)


def with_identities_whole(
    cut: Callable[[dict[str, Array]], tuple[dict[str, Array], tuple[str, ...]]], arrays: dict[str, Array]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return what a cut of the missing splits returns, with all items of an identity on one side of it.

    An identity whose items were spread would have few of them, or one, in each split, and retrieval could find none.

    Args:
        cut: function that adds the missing splits, and keeps items of one patient together.
        arrays: the arrays of the user's data; where they have patients, these are kept together.
    """
    if any(key.endswith("_patient") for key in arrays):
        return cut(arrays)
    owners = {f"{name}_patient": arrays[f"{name}_labels"].reshape(-1).astype(str) for name in SPLITS if f"{name}_labels" in arrays}
    whole, notes = cut({**arrays, **owners})
    return {key: values for key, values in whole.items() if not key.endswith("_patient")}, notes


def perfect_embeddings(identities: Integers) -> Array:
    """Return embeddings float32 (N, 64) that are equal for items of one identity and far apart for all others."""
    numbers, place = np.unique(identities, return_inverse=True)
    vectors = [np.random.default_rng([abs(int(number)), int(number < 0)]).normal(size=PERFECT_SIZE) for number in numbers]
    return np.asarray(vectors, dtype=np.float32)[place.reshape(-1)]
