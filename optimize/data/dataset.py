"""The user's data as four splits, each with one use: train (training), calibration (statistics), guard (decisions), test (the verdict)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from optimize.candidate import Meaning
from optimize.data.arrays import Array, checked_images, checked_labels, checked_masks
from optimize.data.class_names import class_names
from optimize.data.class_numbers import class_numbers
from optimize.data.fitted_files import AS_IT_IS, applicable, fitted_files
from optimize.data.identities import checked_identities, with_identities_whole
from optimize.data.in_memory import arrays_of, input_shape_of
from optimize.data.input_scale import require_scale
from optimize.data.label_kinds import AUTO, checked_many, checked_numbers, kind_of_labels
from optimize.data.layout import SPLITS
from optimize.data.metadata import checked_groups, checked_names, checked_tags, require_columns, require_patients
from optimize.data.missing_splits import with_missing_splits
from optimize.data.model_classes import numbered_as_in_model
from optimize.data.preprocessing import Preprocessing as Preprocessing
from optimize.data.resizing import Resizing
from optimize.data.sources import read_arrays
from optimize.data.split import Split as Split
from optimize.data.split_assignment import PROTECTED, disjoint, fifth, halves, identify
from optimize.data.text_labels import numbered_text
from optimize.errors import InputError
from optimize.progress import note

ENOUGH_CALIBRATION = 300
"""Images from which ranges for int8 are taken well; calibration is not made smaller than that."""
TRAIN_ENOUGH_TO_CUT = 5 * ENOUGH_CALIBRATION
"""Images that train must have so that calibration is taken out of it."""
AS_STORED = Preprocessing()
"""Images as they are stored, uint8 over 255."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The four splits; no image and no patient is in two of them.

    Args:
        train: split for recovery training; None where there is none.
        calibration: split for statistics of activations; its labels are used only where it was taken out of train.
        guard: split for decisions inside the search.
        test: split for the verdict.
        classes: name of each label.
        notes: sentences for the report on changes to the data.
        from_train: whether calibration was taken out of train.

    Example:
        >>> import numpy as np
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

    def read_as(self, outputs: Meaning, threshold: float = 0.5) -> Dataset:
        """Return the same data for a network whose outputs have this meaning, and whose single output is a yes from `threshold` on."""
        train = None if self.train is None else replace(self.train, outputs=outputs, threshold=threshold)
        judged = {name: replace(getattr(self, name), outputs=outputs, threshold=threshold) for name in ("calibration", "guard", "test")}
        return replace(self, train=train, **judged)

    @cached_property
    def training_split(self) -> Split | None:
        """The images for recovery training: train, with calibration where that was taken out of it, since the network saw both."""
        return self.train.joined(self.calibration) if self.train is not None and self.from_train else self.train


def load_data(
    source: object,
    *,
    preprocessing: Preprocessing = AS_STORED,
    input_shape: Sequence[int] = (),
    num_classes: int | None = None,
    mask_shape: Sequence[int] = (),
    classes: Sequence[str] = (),
    model_classes: Sequence[str] = (),
    seed: int = 0,
    drop_overlap: bool = False,
    task: str = AUTO,
    resizing: Resizing = AS_IT_IS,
) -> Dataset:
    """Read images with labels or with masks and split them.

    The names are MedMNIST's: `train_images`, `train_labels` or `train_masks`, `val_*`, `test_*`; `train` is optional, as is what
    `optimize.data.metadata` lists: patients, subgroup columns (val and test have the same ones), ids.

    `val` becomes the guard. Where calibration comes from:

        `calibration_*` is in the source               from there
        else train has `TRAIN_ENOUGH_TO_CUT` images,   up to a fifth of train is taken out
        or there are masks
        else                                           `val` is cut into halves, calibration and guard

    `val` is kept whole where that is possible, because every item less in the guard makes its decisions less certain. With masks, patients
    count and not images, and there are few of them; so even a small train is asked first.

    Args:
        source: what one of the formats in `optimize/data/formats/` recognises: an `.npz`, or `file.py:factory` that returns a mapping of
            such arrays. Or data in memory, see `optimize.data.in_memory`: such a mapping itself, or (images, labels), a torch Dataset or a
            DataLoader by name of split. A `Dataset` is returned as it is.
        preprocessing: preprocessing that turns images into the network's input.
        input_shape: shape of one input of the network, (C, *spatial); by default what the images show.
        num_classes: number of outputs of the network, K; by default what the labels or `classes` say, and 1 with masks.
        mask_shape: *spatial of the network's outputs (N, K, *spatial); empty where the network gives classes (N, K). Where `input_shape`
            is left out too, masks are taken to be as large as the input.
        classes: names of the classes; by default those in the source, else 0, 1, 2, … With masks, names of the foreground alone.
        model_classes: names of the network's classes, where it says them; the labels of the data are numbered as these are, see
            `optimize.data.model_classes`.
        seed: seed of the cut through `val`, or through `train`.
        drop_overlap: whether items that stand in two splits are dropped from the less protected one, instead of refusing the data.
        task: what labels are of, "classification", "multilabel", "ordinal", "regression" or "embedding"; "auto" for what they show, see
            `optimize.data.label_kinds`.
        resizing: what happens to the size of images in files, before everything else.

    Raises:
        InputError: when the data is malformed, does not fit the network, or its splits overlap.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 2) for name in ("train", "val", "test")}
        >>> data = load_data(splits, preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)))
        >>> len(data.calibration), len(data.guard), len(data.test), data.test.inputs().shape
        (20, 20, 40, (40, 1, 8, 8))
    """
    if isinstance(source, Dataset):
        return source
    given = read_arrays(source) if isinstance(source, str | Path) else arrays_of(source)
    arrays, model_order = numbered_as_in_model(given, model_classes, classes)
    arrays, numbering = numbered_text(arrays, classes)
    if not input_shape:
        input_shape = input_shape_of(arrays, preprocessing.pad)
        mask_shape = mask_shape or (input_shape[1:] if any(key.endswith("_masks") for key in arrays) else ())
    if num_classes is None and classes and not mask_shape:
        num_classes = len(classes)
    resizing, unresized = applicable(resizing, arrays)
    # behind the fitting, so that the cut hashes images that are kept decoded
    fitted = fitted_files(arrays, input_shape, resizing)
    arrays, cut = with_identities_whole(with_missing_splits, fitted) if task == "embedding" else with_missing_splits(fitted)
    arrays, renumbered = (arrays, ()) if mask_shape else class_numbers(arrays, task, num_classes)
    kind = "" if mask_shape else kind_of_labels(arrays, task)
    present = [name for name in SPLITS if f"{name}_images" in arrays]
    splits = {name: _split(arrays, name, preprocessing, input_shape, num_classes, mask_shape, kind) for name in present}
    # before the hashes, which read all images: a wrong scale should not cost that time
    require_scale({name: split.images for name, split in splits.items()}, preprocessing)
    _require_alike(source, "image types", {name: str(split.images.dtype) for name, split in splits.items()}, "uint8")
    _require_alike(source, "masks", {name: _form(split) for name, split in splits.items()}, _form(splits["test"]))
    require_patients({name: splits[name].patients is not None for name in ("val", "test")})
    require_columns(splits["val"].groups, splits["test"].groups)
    names = class_names(arrays, classes, num_classes, list(splits.values()))
    # the most protected first, so that an item in test and train is dropped from train
    order = [name for name in PROTECTED if name in splits]
    rows, dropped = disjoint([identify(name, splits[name].images, splits[name].patients) for name in order], drop=drop_overlap)
    notes = (*model_order, *numbering, *unresized, *cut, *renumbered, *dropped)
    for line in notes:
        note(line)
    # A split that lost nothing is not copied.
    kept = {
        name: splits[name] if len(stay) == len(splits[name]) else splits[name].take(stay) for name, stay in zip(order, rows, strict=True)
    }
    training_items = len(kept.get("train", ()))
    if "calibration" not in kept:
        kept |= _with_calibration(kept, len(names), seed)
    # training may later use these images too, since the network has seen them
    from_train = len(kept.get("train", ())) < training_items
    guard = replace(kept["val"], name="guard")
    return Dataset(kept.get("train") or None, kept["calibration"], guard, kept["test"], names, notes, from_train)


def _split(
    arrays: Mapping[str, Array],
    name: str,
    preprocessing: Preprocessing,
    input_shape: Sequence[int],
    num_classes: int | None,
    mask_shape: Sequence[int],
    kind: str,
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
    elif kind == "embedding":
        labels = checked_identities(arrays, name)
    elif kind == "multilabel":
        labels = checked_many(arrays, name, num_classes)
    else:
        labels = checked_numbers(arrays, name) if kind == "regression" else checked_labels(arrays, name, num_classes)
    patients, groups = checked_tags(arrays, name, "patient"), checked_groups(arrays, name)
    return Split(name, images, labels, preprocessing, patients, groups, item_names=checked_names(arrays, name), kind=kind)


def _require_alike(source: object, what: str, forms: Mapping[str, str], distinct: str) -> None:
    """Check that all splits, or none, have the form `distinct`; the others may differ, as float32 and float64 do."""
    if len({form == distinct for form in forms.values()}) > 1:
        listed = ", ".join(f"{name} {form}" for name, form in forms.items())
        named = f" (={source})" if isinstance(source, str | Path) else ""
        raise InputError(f"`data`{named} mixes {what} ({listed}): store all splits alike.")


def _form(split: Split) -> str:
    return "one per class" if split.labels.dtype == bool else "class indices"


def _with_calibration(kept: Mapping[str, Split], classes: int, seed: int) -> dict[str, Split]:
    """Return the splits that change when calibration is taken out of another one."""
    val, train = kept["val"], kept.get("train")
    if train is not None and (val.task == "segmentation" or len(train) >= TRAIN_ENOUGH_TO_CUT):
        # the guard stays whole where train can give up images: every case less widens its bounds
        taken, left = fifth(identify("train", train.images, train.patients), ENOUGH_CALIBRATION, seed)
        return {"calibration": train.take(taken, "calibration"), "train": train.take(left)}
    # the items of an identity stay together: spread over both halves they could not find each other
    owners = val.labels.astype(str) if val.task == "embedding" and val.patients is None else val.patients
    first, second = halves(identify("val", val.images, owners), val.strata(classes), seed)
    return {"calibration": val.take(first, "calibration"), "val": val.take(second)}
