"""The user's data as four splits, each with one use: train (recovery), calibration (statistics), guard (decisions), test (the verdict)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from optimize.candidate import Floats, Meaning
from optimize.data.arrays import (
    CLASS_KEYS,
    MAX_CLASSES,
    SPLITS,
    Array,
    Integers,
    checked_images,
    checked_labels,
    checked_masks,
    read_arrays,
)
from optimize.data.in_memory import arrays_of, input_shape_of
from optimize.data.input_scale import require_scale
from optimize.data.masks import shown
from optimize.data.metadata import checked_groups, checked_names, checked_tags, require_columns, require_patients
from optimize.data.preprocessing import Preprocessing as Preprocessing
from optimize.data.splits import PROTECTED, disjoint, fifth, halves, identify
from optimize.errors import InputError
from optimize.progress import note

ENOUGH = 300
"""Images from which ranges for int8 are taken well; calibration is not made smaller than that."""
LENDS = 5 * ENOUGH
"""Images from which train lends some of itself for calibration."""
CASES_AT_ONCE, PIXELS_AT_ONCE = 256, 2**20
"""A batch holds no more than either, so that memory is bounded."""
AS_STORED = Preprocessing()
"""Images as they are stored, uint8 over 255."""


@dataclass(frozen=True, eq=False)
class Split:
    """Some labelled images, kept as they are stored.

    Args:
        name: train, calibration, guard or test.
        images: uint8 (N, *spatial, C) or (N, H, W), or float (N, C, *spatial).
        labels: classes, (N,), from 0; or masks in one of the two forms of `optimize.data.masks`, without the padding.
        preprocessing: how images become the network's input.
        patients: id per item, (N,), or None.
        groups: subgroup columns by name, each text (N,); empty where there is none.
        numbers: position of each item in the user's file, (N,); by default 0, 1, 2, …
        item_names: what the user calls each item, text (N,), or None.
        outputs: what the outputs mean that are compared with the labels.
    """

    name: str
    images: Array
    labels: Array
    preprocessing: Preprocessing
    patients: Array | None = None
    groups: Mapping[str, Array] = field(default_factory=dict)
    numbers: Integers | None = None
    item_names: Array | None = None
    outputs: Meaning = "logits"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> str:
        """What the labels are of: whole images is "classification", masks is "segmentation"."""
        return "classification" if self.labels.ndim == 1 else "segmentation"

    @property
    def batch_size(self) -> int:
        """How many items to work on at a time, so that memory is bounded: fewer where they are large."""
        return max(1, min(CASES_AT_ONCE, PIXELS_AT_ONCE // prod(self.inputs(slice(0, 1)).shape[2:])))

    @property
    def batches(self) -> list[slice]:
        """All items, `at_once` at a time."""
        size = self.batch_size
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def inputs(self, index: Any = slice(None)) -> Floats:
        """The network's input for some items, (N, C, *spatial); computed on each call, so ask for no more than is needed."""
        return self.preprocessing(self.images[index])

    def take(self, index: Any, name: str | None = None) -> Split:
        """The same split with only some of its items."""
        patients, called = (None if tags is None else tags[index] for tags in (self.patients, self.item_names))
        groups = {column: tags[index] for column, tags in self.groups.items()}
        kept = self.images[index], self.labels[index], self.preprocessing
        return Split(name or self.name, *kept, patients, groups, self.ids[index], called, self.outputs)

    def joined(self, other: Split) -> Split:
        """The items of both, which were one split before: in its order, and under this one's name."""
        order = np.argsort(np.concatenate([self.ids, other.ids]), kind="stable")

        def both(one: Array | None, two: Array | None) -> Array | None:
            return None if one is None or two is None else np.concatenate([one, two])[order]

        images, labels = np.concatenate([self.images, other.images])[order], np.concatenate([self.labels, other.labels])[order]
        groups = {column: np.concatenate([tags, other.groups[column]])[order] for column, tags in self.groups.items()}
        tags = both(self.patients, other.patients), groups, both(self.ids, other.ids), both(self.item_names, other.item_names)
        return Split(self.name, images, labels, self.preprocessing, *tags, self.outputs)

    @property
    def ids(self) -> Integers:
        """Position of each item in the user's file, (N,)."""
        return np.arange(len(self), dtype=np.int64) if self.numbers is None else self.numbers

    @property
    def n_independent(self) -> int:
        """How many stand for themselves: the patients of masks, where they are known, else the items."""
        return len(self) if self.task == "classification" or self.patients is None else len(set(self.patients.tolist()))

    @property
    def names(self) -> Array:
        """What to call each item before the user, text (N,): as the user's file does, else by its position there."""
        return self.ids.astype(str) if self.item_names is None else self.item_names

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of images and labels, item by item."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 256):
            digest.update(self.images[start : start + 256].tobytes())
        for start in range(0, len(self), 256):
            digest.update(self.labels[start : start + 256].astype("<i8").tobytes())
        return digest.hexdigest()

    def totals(self, classes: int) -> Integers:
        """How many items each class has, (classes,); with masks, how many show it."""
        return np.bincount(self.labels, minlength=classes) if self.labels.ndim == 1 else shown(self.labels, classes).sum(0)

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """`totals` by name, in the classes' order."""
        return {name: int(count) for name, count in zip(classes, self.totals(len(classes)), strict=True)}

    def strata(self, classes: int) -> Integers:
        """One class per item, (N,): its label; with masks, the rarest that it shows, counted from 1, or 0 for none."""
        if self.labels.ndim == 1:
            return self.labels
        seen = shown(self.labels, classes)
        rarity = np.where(seen, seen.sum(0), len(seen) + 1)
        return np.where(seen.any(1), rarity.argmin(1) + 1, 0)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The four splits; no image and no patient is in two of them.

    Args:
        train: for recovery training; may be absent.
        calibration: for activation statistics; its labels are used only where train lent it.
        guard: for decisions inside the search.
        test: for the verdict, read once.
        classes: name of each label.
        notes: what was done to the data, for the report.
        from_train: whether calibration was taken out of train.

    Example:
        >>> images, labels = np.arange(640, dtype=np.uint8).reshape(10, 8, 8), np.arange(10) % 2
        >>> data = load_data({"calibration": (images, labels), "val": (images + 1, labels), "test": (images + 2, labels)})
        >>> data.classes, data.train, data.test.class_counts(data.classes)
        (('0', '1'), None, {'0': 5, '1': 5})
    """

    train: Split | None
    calibration: Split
    guard: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    from_train: bool = False

    def read_as(self, outputs: Meaning) -> Dataset:
        """The same data for a network whose outputs mean this."""
        train = None if self.train is None else replace(self.train, outputs=outputs)
        rest = {name: replace(getattr(self, name), outputs=outputs) for name in ("calibration", "guard", "test")}
        return replace(self, train=train, **rest)

    @cached_property
    def training_split(self) -> Split | None:
        """What recovery training learns from: train with what it lent, since the network was trained on both."""
        return self.train.joined(self.calibration) if self.train is not None and self.from_train else self.train


def load_data(
    source: object,
    *,
    preprocessing: Preprocessing = AS_STORED,
    input_shape: Sequence[int] = (),
    num_classes: int | None = None,
    mask_shape: Sequence[int] = (),
    classes: Sequence[str] = (),
    seed: int = 0,
    drop_overlap: bool = False,
) -> Dataset:
    """Read images with labels or with masks and split them.

    The names are MedMNIST's: `train_images`, `train_labels` or `train_masks`, `val_*`, `test_*`; `train` is optional, as is what
    `optimize.data.metadata` lists: patients, subgroup columns (val and test have the same ones), ids. With `calibration_*`, all of `val` is
    the guard. Without it, calibration is taken out of train, up to a fifth of it, where train is large or there are masks (then patients
    decide, and they are few): what decides can never be too many. Where train is small or missing, `val` is cut into halves, calibration
    and guard.

    Args:
        source: an `.npz`, or `file.py:factory` that returns a mapping of such arrays; or data in memory, see `optimize.data.in_memory`:
            such a mapping itself, or (images, labels), a torch Dataset or a DataLoader by name of split. A `Dataset` is returned as it is.
        preprocessing: how images become the network's input.
        input_shape: of the network, (C, *spatial); by default what the images show.
        num_classes: outputs of the network, K; by default what the labels or `classes` say, and 1 with masks.
        mask_shape: *spatial of the network's outputs (N, K, *spatial); empty where it gives classes (N, K). Where `input_shape` is left
            out too, masks are taken to be as large as the input.
        classes: their names; by default those in the source, else 0, 1, 2, … With masks, of the foreground alone.
        seed: of the cut through `val`, or through `train`.
        drop_overlap: drop items that stand in two splits from the less protected one, instead of refusing the data.

    Raises:
        InputError: when the data is malformed, does not fit the network, or its splits overlap.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 2) for name in ("train", "val", "test")}
        >>> data = load_data(splits, preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)))
        >>> len(data.calibration), len(data.guard), len(data.test), data.test.inputs().shape
        (20, 20, 40, (40, 1, 8, 8))
    """
    if isinstance(source, Dataset):
        return source
    arrays = read_arrays(source) if isinstance(source, str | Path) else arrays_of(source)
    if not input_shape:
        input_shape = input_shape_of(arrays, preprocessing.pad)
        mask_shape = mask_shape or (input_shape[1:] if "test_masks" in arrays else ())
    if num_classes is None and classes and not mask_shape:
        num_classes = len(classes)
    present = [name for name in SPLITS if f"{name}_images" in arrays]
    found = {name: _split(arrays, name, preprocessing, input_shape, num_classes, mask_shape) for name in present}
    require_scale({name: split.images for name, split in found.items()}, preprocessing)
    _require_alike(source, "image types", {name: str(split.images.dtype) for name, split in found.items()}, "uint8")
    _require_alike(source, "masks", {name: _form(split) for name, split in found.items()}, _form(found["test"]))
    require_patients({name: found[name].patients is not None for name in ("val", "test")})
    require_columns(found["val"].groups, found["test"].groups)
    names = _class_names(arrays, classes, num_classes, list(found.values()))
    order = [name for name in PROTECTED if name in found]
    rows, notes = disjoint([identify(name, found[name].images, found[name].patients) for name in order], drop=drop_overlap)
    for line in notes:
        note(line)
    kept = {name: found[name] if len(left) == len(found[name]) else found[name].take(left) for name, left in zip(order, rows, strict=True)}
    before = len(kept.get("train", ()))
    if "calibration" not in kept:
        kept |= _with_calibration(kept, len(names), seed)
    lent = len(kept.get("train", ())) < before  # what is taken out of val leaves train alone
    guard = replace(kept["val"], name="guard")
    return Dataset(kept.get("train") or None, kept["calibration"], guard, kept["test"], names, notes, lent)


def _split(
    arrays: Mapping[str, Array],
    name: str,
    preprocessing: Preprocessing,
    input_shape: Sequence[int],
    num_classes: int | None,
    mask_shape: Sequence[int],
) -> Split:
    images = checked_images(arrays, name, input_shape, preprocessing.pad)
    preprocessing.check(input_shape[0], images.dtype)
    labelled, masked = (f"{name}_{field}" in arrays for field in ("labels", "masks"))
    if labelled and masked:
        raise InputError(f"`data` has both `{name}_labels` and `{name}_masks`: leave out those that the network was not trained for.")
    if masked and not mask_shape:
        raise InputError(
            f"`data` has `{name}_masks`, but the network gives classes of whole images: add `{name}_labels`, or change --arch."
        )
    if preprocessing.pad and mask_shape and tuple(mask_shape) != tuple(input_shape[1:]):
        raise InputError(
            f"`pad` (={preprocessing.pad}) cannot be taken off masks that are not as large as the input: pad images and masks yourself."
        )
    if mask_shape:
        labels = checked_masks(arrays, name, num_classes or 1, [size - 2 * preprocessing.pad for size in mask_shape])
    else:
        labels = checked_labels(arrays, name, num_classes)
    patients, groups = checked_tags(arrays, name, "patient"), checked_groups(arrays, name)
    return Split(name, images, labels, preprocessing, patients, groups, item_names=checked_names(arrays, name))


def _require_alike(source: object, what: str, kinds: Mapping[str, str], one: str) -> None:
    if len({kind == one for kind in kinds.values()}) > 1:
        listed = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        named = f" (={source})" if isinstance(source, str | Path) else ""
        raise InputError(f"`data`{named} mixes {what} ({listed}): store all splits alike.")


def _form(split: Split) -> str:
    return "one per class" if split.labels.dtype == bool else "class indices"


def _with_calibration(kept: Mapping[str, Split], classes: int, seed: int) -> dict[str, Split]:
    """The splits that change when calibration is taken out of another one."""
    val, train = kept["val"], kept.get("train")
    if train is not None and (val.task == "segmentation" or len(train) >= LENDS):
        taken, left = fifth(identify("train", train.images, train.patients), ENOUGH, seed)
        return {"calibration": train.take(taken, "calibration"), "train": train.take(left)}
    first, second = halves(identify("val", val.images, val.patients), val.strata(classes), seed)
    return {"calibration": val.take(first, "calibration"), "val": val.take(second)}


def _class_names(arrays: Mapping[str, Array], given: Sequence[str], num_classes: int | None, splits: Sequence[Split]) -> tuple[str, ...]:
    numbers, background = _numbered(num_classes, splits)
    count = len(numbers)
    named = [tuple(given), *(tuple(map(str, arrays[key])) for key in CLASS_KEYS if key in arrays and _is_text(arrays[key]))]
    # A name for the background may stand in front.
    given, *stored = [names[1:] if background and len(names) == count + 1 else names for names in named]
    if given and (len(given) != count or len(set(given)) != count or not all(given)):
        each = "class, without the background" if background else "output of the network"
        raise InputError(f"`classes` (={','.join(given)}) must be {count} different names, one per {each}.")
    absent = [name for name, total in zip(numbers, _totals(splits, count), strict=True) if not total]
    if absent:
        listed = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        what = "item of label" if splits[0].task == "classification" else "mask that shows class"
        raise InputError(f"`data` has no {what} {listed} in any split: each of the network's {count} classes needs items.")
    return tuple(given) or next((names for names in stored if len(names) == len(set(names)) == count), numbers)


def _numbered(num_classes: int | None, splits: Sequence[Split]) -> tuple[tuple[str, ...], bool]:
    """The classes by their numbers, and whether number 0 is the background, which is none of them."""
    labels = splits[0].labels
    if splits[0].task == "classification":
        count = num_classes or int(np.flatnonzero(_totals(splits, MAX_CLASSES))[-1]) + 1
        return tuple(map(str, range(count))), False
    background = labels.dtype != bool
    numbers = range(1, num_classes or 1) if background else range(labels.shape[1])
    return ("foreground",) if len(numbers) == 1 else tuple(map(str, numbers)), background


def _totals(splits: Sequence[Split], classes: int) -> Integers:
    return np.asarray(sum(split.totals(classes) for split in splits))


def _is_text(array: Array) -> bool:
    return array.dtype.kind == "U" and array.ndim == 1
