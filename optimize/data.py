"""The user's data as four splits, each with one use: train (recovery), calibration (statistics), guard (decisions), test (the verdict)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from optimize.arrays import CLASS_KEYS, MAX_CLASSES, SPLITS, Array, Integers, checked_images, checked_labels, checked_tags, read_arrays
from optimize.candidate import Floats
from optimize.errors import InputError
from optimize.progress import note
from optimize.splits import PROTECTED, disjoint, halves, identify

ENOUGH = 300
"""Images from which ranges for int8 are taken well; calibration is not made smaller than that."""


@dataclass(frozen=True)
class Preprocessing:
    """From stored images to the network's input: (x - mean) / std per channel, then `pad` zeros around.

    Args:
        mean: per channel, or one for all; of x in 0..1 where images are uint8. Empty: nothing is subtracted.
        std: likewise; empty: nothing is divided.
        pad: zeros on each side of each spatial axis, added after normalising.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = 0

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError(f"`mean` has {len(self.mean)} values and `std` {len(self.std)}: pass both, one value per channel.")
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise InputError(f"`mean` (={_text(self.mean)}) must be finite and `std` (={_text(self.std)}) above 0.")
        if self.pad < 0:
            raise InputError(f"`pad` (={self.pad}) must be 0 or more.")

    def __call__(self, images: Array) -> Floats:
        """Uint8 (N, *spatial, C) or (N, H, W), divided by 255, or float (N, C, *spatial) -> (N, C, *spatial), contiguous."""
        whole = images.dtype == np.uint8
        if whole:
            images = np.moveaxis(images[..., None] if images.ndim == 3 else images, -1, 1)
        spatial = [size + 2 * self.pad for size in images.shape[2:]]
        inputs = np.zeros((*images.shape[:2], *spatial), dtype=np.float32)
        # Everything happens inside the result, so that no second array of its size is ever made.
        inside = inputs[(slice(None), slice(None), *[slice(self.pad, size - self.pad) for size in spatial])]
        inside[...] = images
        if whole:
            inside /= np.float32(255)
        if self.mean:
            shape = (-1, *[1] * len(spatial))
            inside -= np.asarray(self.mean, dtype=np.float32).reshape(shape)
            inside /= np.asarray(self.std, dtype=np.float32).reshape(shape)
        return inputs


@dataclass(frozen=True, eq=False)
class Split:
    """Some labelled images, kept as they are stored.

    Args:
        name: train, calibration, guard or test.
        images: uint8 (N, *spatial, C) or (N, H, W), or float (N, C, *spatial).
        labels: (N,), from 0.
        preprocessing: how images become the network's input.
        patients: id per item, (N,), or None.
        groups: subgroup per item, (N,), or None.
        numbers: position of each item in the user's file, (N,); by default 0, 1, 2, …
    """

    name: str
    images: Array
    labels: Integers
    preprocessing: Preprocessing
    patients: Array | None = None
    groups: Array | None = None
    numbers: Integers | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Any = slice(None)) -> Floats:
        """The network's input for some items, (N, C, *spatial); computed on each call, so ask for no more than is needed."""
        return self.preprocessing(self.images[index])

    def take(self, index: Any, name: str | None = None) -> Split:
        """The same split with only some of its items."""
        patients, groups = (None if tags is None else tags[index] for tags in (self.patients, self.groups))
        return Split(name or self.name, self.images[index], self.labels[index], self.preprocessing, patients, groups, self.ids[index])

    @property
    def ids(self) -> Integers:
        """Position of each item in the user's file, (N,)."""
        return np.arange(len(self), dtype=np.int64) if self.numbers is None else self.numbers

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the bytes of images and labels, item by item."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 256):
            digest.update(self.images[start : start + 256].tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """How many items each class has, in the classes' order."""
        counts = np.bincount(self.labels, minlength=len(classes))
        return {name: int(count) for name, count in zip(classes, counts, strict=True)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """The four splits; no image and no patient is in two of them.

    Args:
        train: for recovery training; may be absent.
        calibration: for activation statistics; its labels are not used.
        guard: for decisions inside the search.
        test: for the verdict, read once.
        classes: name of each label.
        notes: what was done to the data, for the report.
    """

    train: Split | None
    calibration: Split
    guard: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load_data(
    source: str | Path,
    *,
    preprocessing: Preprocessing,
    input_shape: Sequence[int],
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    drop_overlap: bool = False,
) -> Dataset:
    """Read labelled images and split them.

    The names are MedMNIST's: `train_images`, `train_labels`, `val_*`, `test_*`; `*_patient` and `*_group` are optional, as is `train`.
    Without `calibration_*`, `val` is cut in two, calibration and guard: into halves, or, where there is a train split and val is large, one
    to three. With `calibration_*`, all of `val` is the guard.

    Args:
        source: an `.npz`, or `file.py:factory` that returns a mapping of such arrays.
        preprocessing: how images become the network's input.
        input_shape: of the network, (C, *spatial).
        num_classes: outputs of the network; by default what the labels or `classes` say.
        classes: their names; by default those in the source, else 0, 1, 2, …
        seed: of the cut through `val`.
        drop_overlap: drop items that stand in two splits from the less protected one, instead of refusing the data.

    Raises:
        InputError: when the data is malformed, does not fit the network, or its splits overlap.
    """
    arrays = read_arrays(source)
    if num_classes is None and classes:
        num_classes = len(classes)
    found = {name: _split(arrays, name, preprocessing, input_shape, num_classes) for name in SPLITS if f"{name}_images" in arrays}
    kinds = {name: split.images.dtype for name, split in found.items()}
    if len({kind == np.uint8 for kind in kinds.values()}) > 1:
        listed = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise InputError(f"`data` (={source}) mixes image types ({listed}): store all splits as uint8 or all as float32.")
    names = _class_names(arrays, classes, num_classes, found.values())
    order = [name for name in PROTECTED if name in found]
    rows, notes = disjoint([identify(name, found[name].images, found[name].patients) for name in order], drop=drop_overlap)
    for line in notes:
        note(line)
    kept = {name: found[name] if len(left) == len(found[name]) else found[name].take(left) for name, left in zip(order, rows, strict=True)}
    calibration, guard = _calibration_and_guard(kept, seed)
    return Dataset(kept.get("train"), calibration, guard, kept["test"], names, notes)


def _split(
    arrays: Mapping[str, Array], name: str, preprocessing: Preprocessing, input_shape: Sequence[int], num_classes: int | None
) -> Split:
    images = checked_images(arrays, name, input_shape, preprocessing.pad)
    mean = preprocessing.mean
    if len(mean) not in (0, 1, input_shape[0]):
        raise InputError(f"`mean` (={_text(mean)}) has {len(mean)} values: the network's input has {input_shape[0]} channels.")
    if images.dtype == np.uint8 and any(abs(value) > 1 for value in mean):
        raise InputError(f"`mean` (={_text(mean)}) is above 1, but uint8 images are divided by 255 first: divide mean and std by 255.")
    patients, groups = checked_tags(arrays, name, "patient"), checked_tags(arrays, name, "group")
    return Split(name, images, checked_labels(arrays, name, num_classes), preprocessing, patients, groups)


def _calibration_and_guard(kept: Mapping[str, Split], seed: int) -> tuple[Split, Split]:
    val = kept["val"]
    if "calibration" in kept:
        return kept["calibration"], val.take(slice(None), "guard")
    first, second = halves(identify("val", val.images, val.patients), val.labels, seed)
    calibration, guard = val.take(first), val.take(second)
    if "train" in kept and len(calibration) >= 2 * ENOUGH:
        # The train split lends its images to repair, so that what is left of val's first half can help to decide.
        some, more = halves(identify("val", calibration.images, calibration.patients), calibration.labels, seed)
        if len(some) >= ENOUGH:
            calibration, guard = val.take(first[some]), val.take(np.sort(np.concatenate([second, first[more]])))
    return replace(calibration, name="calibration"), replace(guard, name="guard")


def _class_names(arrays: Mapping[str, Array], given: Sequence[str], num_classes: int | None, splits: Iterable[Split]) -> tuple[str, ...]:
    counts = sum(np.bincount(split.labels, minlength=num_classes or MAX_CLASSES) for split in splits)
    present = np.flatnonzero(counts)
    count = num_classes or int(present[-1]) + 1
    if given and (len(given) != count or len(set(given)) != count or not all(given)):
        raise InputError(f"`classes` (={','.join(given)}) must be {count} different names, one per output of the network.")
    if len(present) < count:
        absent = sorted(set(range(count)) - set(present.tolist()))
        listed = ", ".join(map(str, absent[:5])) + (", …" if len(absent) > 5 else "")
        raise InputError(f"`data` has no item of label {listed} in any split: each of the network's {count} classes needs items.")
    stored = [arrays[key] for key in CLASS_KEYS if key in arrays]
    fitting = [array for array in stored if array.dtype.kind == "U" and array.shape == (count,) and len(set(array.tolist())) == count]
    return tuple(given) or tuple(map(str, fitting[0] if fitting else range(count)))


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
