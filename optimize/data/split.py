"""One split of the user's data: images with labels or masks, patients and subgroups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from optimize.candidate import Floats, Meaning
from optimize.data.arrays import Array, Integers
from optimize.data.label_kinds import strata_of
from optimize.data.lazy_images import Images, joined, row_batches, taken
from optimize.data.masks import shown
from optimize.data.preprocessing import Preprocessing

CASES_AT_ONCE, PIXELS_AT_ONCE = 256, 2**20
"""Most items, and most pixels, of a batch: both bound the memory."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images of one split, kept as they are stored.

    Args:
        name: train, calibration, guard or test.
        images: uint8 (N, *spatial, C) or (N, H, W), or float (N, C, *spatial); an array, or a `LazyImages`, which decodes items as they
            are asked for. Go through them by `batches`, and never convert them as a whole.
        labels: classes, (N,), from 0; or masks in one of the two forms of `optimize.data.masks`, without the padding.
        preprocessing: preprocessing that turns images into the network's input.
        patients: id of each item's patient, (N,), or None.
        groups: subgroup columns by name, each text (N,); empty where there is none.
        numbers: position of each item in the user's file, (N,); None stands for 0, 1, 2, …
        item_names: the user's name of each item, text (N,), or None.
        outputs: meaning of the network's outputs, "logits" or "probabilities", when they are compared with the labels.
        threshold: probability from which a single output is a yes.
        kind: task of labels that are no plain classes, see `optimize.data.label_kinds`; "" for classes and masks.

    Example:
        >>> split = Split("test", np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 2, 2, 0]), Preprocessing())
        >>> len(split), split.task, split.class_counts(("a", "b", "c"))
        (4, 'classification', {'a': 2, 'b': 0, 'c': 2})
        >>> split.inputs([0, 1]).shape
        (2, 3, 2, 2)
    """

    name: str
    images: Images
    labels: Array
    preprocessing: Preprocessing
    patients: Array | None = None
    groups: Mapping[str, Array] = field(default_factory=dict)
    numbers: Integers | None = None
    item_names: Array | None = None
    outputs: Meaning = "logits"
    threshold: float = 0.5
    kind: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> str:
        """The kind of labels: "classification" for classes of whole images, "segmentation" for masks, else `kind`."""
        return self.kind or ("classification" if self.labels.ndim == 1 else "segmentation")

    @property
    def batch_size(self) -> int:
        """Number of items to work on at a time, so that memory is bounded: fewer where they are large."""
        return max(1, min(CASES_AT_ONCE, PIXELS_AT_ONCE // prod(self.inputs(slice(0, 1)).shape[2:])))

    @property
    def batches(self) -> list[slice]:
        """All items in their order, `batch_size` at a time."""
        size = self.batch_size
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def inputs(self, index: Any = slice(None)) -> Floats:
        """Return the network's input for some items, (N, C, *spatial); computed on each call, so ask for no more than is needed."""
        return self.preprocessing(self.images[index])

    def take(self, index: Any, name: str | None = None) -> Split:
        """Return the split with only some of its items, under another name if one is passed; lazy images are not decoded."""
        patients, item_names = (None if tags is None else tags[index] for tags in (self.patients, self.item_names))
        groups = {column: tags[index] for column, tags in self.groups.items()}
        kept = {"images": taken(self.images, index), "labels": self.labels[index], "numbers": self.ids[index]}
        return replace(self, name=name or self.name, patients=patients, groups=groups, item_names=item_names, **kept)

    def loaded(self) -> Split:
        """Return the same split with all its images decoded; for a few items."""
        return replace(self, images=np.asarray(self.images))

    def joined(self, part: Split) -> Split:
        """Return the items of this split and of a part that was taken out of it, in their first order and under this split's name."""
        # calibration was taken out of train at random; joined in the old order, training sees what it would have seen without the cut
        order = np.argsort(np.concatenate([self.ids, part.ids]), kind="stable")

        def both(mine: Array | None, its: Array | None) -> Array | None:
            return None if mine is None or its is None else np.concatenate([mine, its])[order]

        images, labels = joined(self.images, part.images, order), np.concatenate([self.labels, part.labels])[order]
        groups = {column: np.concatenate([tags, part.groups[column]])[order] for column, tags in self.groups.items()}
        patients, numbers, names = both(self.patients, part.patients), both(self.ids, part.ids), both(self.item_names, part.item_names)
        return replace(self, images=images, labels=labels, patients=patients, groups=groups, numbers=numbers, item_names=names)

    @property
    def ids(self) -> Integers:
        """Position of each item in the user's file, (N,)."""
        return np.arange(len(self), dtype=np.int64) if self.numbers is None else self.numbers

    @property
    def n_independent(self) -> int:
        """Number of independent observations: the patients of masks and of numbers, where they are known, else the items."""
        return len(self) if self.task not in ("segmentation", "regression") or self.patients is None else len(set(self.patients.tolist()))

    @property
    def names(self) -> Array:
        """The name of each item in messages and reports, text (N,): the user's own, else its position in the user's file."""
        return self.ids.astype(str) if self.item_names is None else self.item_names

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of images and labels, item by item."""
        digest = hashlib.sha256()
        for batch in row_batches(self.images):
            digest.update(self.images[batch].tobytes())
        for start in range(0, len(self), 256):
            # as 64-bit numbers, so that one and the same labels stored as uint8 or as int64 have one hash
            digest.update(self.labels[start : start + 256].astype("<f4" if self.labels.dtype.kind == "f" else "<i8").tobytes())
        return digest.hexdigest()

    def totals(self, classes: int) -> Integers:
        """Return number of items of each class, (classes,); with masks, the number of items that show the class anywhere.

        Of several labels it is the number of items that have the label, and of numbers and identities the number of all items.
        """
        if self.kind == "multilabel":
            return np.asarray((self.labels == 1).sum(0))
        if self.kind == "embedding":
            return np.array([len(self)])
        if self.kind == "regression":
            return np.full(self.labels.shape[1], len(self))
        return np.bincount(self.labels, minlength=classes) if self.labels.ndim == 1 else shown(self.labels, classes).sum(0)

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """`totals` by the names of the classes, in their order."""
        return {name: int(count) for name, count in zip(classes, self.totals(len(classes)), strict=True)}

    def strata(self, classes: int) -> Integers:
        """Return one class per item, (N,), by which a split is cut evenly: the label; with masks, the rarest class that the item shows.

        Classes of masks count from 1; 0 is an item that shows none. The rarest class is taken because it is the one that an uneven cut
        could leave without items: of 100 masks, all with class 1 and three with class 2, those three have stratum 2.
        """
        if self.kind == "embedding":
            return np.zeros(len(self), dtype=np.int64)
        if self.labels.ndim == 1:
            return self.labels
        if self.kind:
            return strata_of(self.labels, self.kind)
        present = shown(self.labels, classes)
        # a class that the item does not show counts as the most common one, so that it is never the rarest
        rarity = np.where(present, present.sum(0), len(present) + 1)
        return np.where(present.any(1), rarity.argmin(1) + 1, 0)
