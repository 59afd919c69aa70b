"""Images, labels and masks as they lie in the user's file, read and checked before anything is computed from them.

Every check names the array, what it found and what would be right. Images come out in the layout the rest of the package relies on: whole
numbers (uint8) with channels last, (N, *spatial, C), and floats with channels first, (N, C, *spatial).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.data.label_advice import remedy_of_kind, remedy_of_range
from optimize.errors import InputError
from optimize.loading.factory import describe, load_factory
from optimize.loading.factory import parse as parse_factory
from optimize.loading.foreign_files import weights_as_data

Array: TypeAlias = npt.NDArray[Any]
Integers: TypeAlias = npt.NDArray[np.int64]

SPLITS = ("train", "calibration", "val", "test")
CLASS_KEYS = ("classes", "class_names", "label_names", "names")
MAX_CLASSES = 100_000
_KNOWN = re.compile(rf"({'|'.join(SPLITS)})_(images|labels|masks|patient|(.+_)?group|id|names)|{'|'.join(CLASS_KEYS)}")


def is_known(name: str) -> bool:
    """Whether an array of this name is read; others are passed over."""
    return _KNOWN.fullmatch(name) is not None


def spread(count: int, most: int) -> Integers:
    """At most so many of `count` places, rising, from all over: files are often sorted by class.

    Example:
        >>> spread(10, 3).tolist()
        [0, 4, 9]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def read_arrays(source: str | Path) -> dict[str, Array]:
    """Read the arrays of a `.npz`, or those a `file.py:factory` returns, that this package knows by name.

    Raises:
        InputError: when the source is missing, empty, damaged, of another kind, or holds Python objects.
    """
    if not str(source):
        raise InputError("`data` is missing: pass --data file.npz or --data file.py:factory, or set [data] path in optimize.toml.")
    if ".py:" in str(source):
        found = load_factory(str(source), "--data")()
        if not isinstance(found, Mapping):
            raise InputError(f"`data` (={source}) returned a {type(found).__name__}: it must return a mapping of names to arrays.")
        arrays = {str(key): _as_array(value, str(key), source) for key, value in found.items() if _KNOWN.fullmatch(str(key))}
        names = [str(key) for key in found]
    else:
        arrays, names = _read_npz(Path(source))
    for key in ("val_images", "test_images"):
        if key not in arrays:
            has = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise InputError(f"`data` (={source}) has no array {key!r}; it has {has or 'none'}: name them as MedMNIST does.")
    return arrays


def require_source(source: str | Path) -> None:
    """See that data can be read from there at all, without reading them.

    Raises:
        InputError: when an `.npz` is missing, empty or of another kind, or the file of a factory is missing.
    """
    if ".py:" in str(source):
        parse_factory(str(source), "--data")
    else:
        _require_npz(Path(source))


def _as_array(value: object, key: str, source: str | Path) -> Array:
    try:
        return np.asarray(value)
    except Exception as problem:
        raise InputError(f"`data` (={source}): {key} cannot become an array ({describe(problem)}): return numpy arrays.") from problem


def _require_npz(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"`data` (={path}) is a folder: pass an .npz, or file.py:factory that reads the folder.")
    if not path.is_file():
        raise InputError(f"`data` (={path}) does not exist: check the path.")
    if not path.stat().st_size:
        raise InputError(f"`data` (={path}) is empty: copy it again.")
    if path.suffix == ".py":
        raise InputError(f"`data` (={path}) is a Python file: pass file.py:factory, with the name of the function that returns the arrays.")
    if weights_as_data(path):
        raise InputError(f"`data` (={path}) is a file of weights: name it first, as the model, and the data behind --data.")
    if path.suffix == ".npy":
        raise InputError(f"`data` (={path}) is a single array: put images and labels of all splits into one .npz, as MedMNIST does.")
    with path.open("rb") as file:
        whole = zipfile.is_zipfile(file)
    if not whole:
        raise InputError(f"`data` (={path}) is no .npz, or one cut short: copy it again, or write it with numpy.savez_compressed.")


def _read_npz(path: Path) -> tuple[dict[str, Array], list[str]]:
    _require_npz(path)
    key = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if isinstance(name, str)]
            arrays = {}
            for key in filter(_KNOWN.fullmatch, names):
                arrays[key] = np.asarray(archive[key])
            return arrays, names
    except (OSError, EOFError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, SyntaxError) as problem:
        if "Object arrays" in str(problem):
            raise InputError(f"`data` (={path}): {key} holds Python objects: save plain numbers or text.") from problem
        raise InputError(f"`data` (={path}): {key or 'it'} cannot be read ({describe(problem)}): copy or save it again.") from problem


def checked_images(arrays: Mapping[str, Array], split: str, input_shape: Sequence[int], pad: int | None) -> Array:
    """The images of a split in this package's layout, without copying them.

    Args:
        arrays: as read.
        split: one of `SPLITS`.
        input_shape: of the network, (C, *spatial).
        pad: pixels of zeros that will be added on each spatial side; None where the user has no say in it.

    Raises:
        InputError: when they have the wrong type, rank or size, or hold NaN or infinity.
    """
    key = f"{split}_images"
    images = arrays[key]
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(f"`{key}` is {images.dtype}: images must be uint8 (0 to 255) or float32 (taken as they are).")
    if not len(images.shape) or not len(images):
        raise InputError(f"`{key}` is empty: every split needs at least one item.")
    channels, spatial = input_shape[0], tuple(size - 2 * (pad or 0) for size in input_shape[1:])
    last, first = (*spatial, channels), (channels, *spatial)
    floats = images.dtype.kind == "f"
    if channels == 1 and images.shape[1:] == spatial:
        images = images[:, None] if floats else images[..., None]
    elif images.shape[1:] == (first if floats else last):
        pass
    elif images.shape[1:] == (last if floats else first):
        images = np.moveaxis(images, -1, 1) if floats else np.moveaxis(images, 1, -1)
    else:
        raise InputError(_misfit(key, images.shape[1:], input_shape, pad))
    for start in range(0, len(images) if floats else 0, 256):
        with np.errstate(over="ignore"):
            finite = np.isfinite(images[start : start + 256].astype(np.float32)).reshape(len(images[start : start + 256]), -1).all(axis=1)
        if not finite.all():
            raise InputError(f"`{key}`[{start + int(np.argmin(finite))}] holds NaN or infinity: every value must be finite.")
    return images


def _misfit(key: str, shape: tuple[int, ...], input_shape: Sequence[int], pad: int | None) -> str:
    wanted = ",".join(map(str, input_shape))
    problem = f"`{key}` holds images of {_times(shape)}, which do not fit the network's input {wanted}"
    if pad is None:
        return f"{problem}: resize them, or leave --data out."
    problem += f" with pad {pad}"
    for layout in (shape, (*shape[1:], *shape[:1]), (*shape, 1)):
        gaps = {wide - narrow for wide, narrow in zip(input_shape[1:], layout, strict=False)}
        fits = len(layout) == len(input_shape) and layout[-1] == input_shape[0] and len(gaps) == 1
        if fits and (gap := gaps.pop()) >= 0 and gap % 2 == 0:
            return f"{problem}: pass --pad {gap // 2}."
    return f"{problem}: {_image_remedy(shape, input_shape, pad)}."


def _image_remedy(shape: tuple[int, ...], input_shape: Sequence[int], pad: int) -> str:
    """What to do about images whose channels or sizes are not the network's."""
    channels, axes = input_shape[0], len(input_shape) - 1
    if len(shape) == axes:
        found, spatial = 1, shape
    elif len(shape) != axes + 1:
        return f"store each image with {axes} spatial axes, and its channels first or last"
    elif shape[-1] <= 4 or shape[0] > 4:
        found, spatial = shape[-1], shape[:-1]
    else:
        found, spatial = shape[0], shape[1:]
    if found != channels:
        return _channel_remedy(found, channels)
    wanted = _times([size - 2 * pad for size in input_shape[1:]])
    return (
        f"resize the images to {wanted} as for training, or pass --input {channels},{','.join(str(size + 2 * pad) for size in spatial)} "
        "if the network was trained on that size"
    )


def _channel_remedy(found: int, channels: int) -> str:
    if found == 1 and channels == 3:
        return "the images are grayscale and the network reads 3 channels: repeat them, numpy.repeat(images[..., None], 3, axis=-1)"
    if found == 3 and channels == 1:
        return "the images have 3 channels and the network reads grayscale: convert them as for training"
    if found == 4 and channels == 3:
        return "the images have a fourth channel, probably alpha: leave it out, images[..., :3]"
    return f"the images have {found} channel{'s' if found > 1 else ''} and the network reads {channels}: store those that it was trained on"


def checked_labels(arrays: Mapping[str, Array], split: str, num_classes: int | None) -> Integers:
    """The labels of a split, (N,), from (N,) or (N, 1).

    Raises:
        InputError: when they are missing, not whole numbers, more or fewer than the images, or out of range.
    """
    key, images = f"{split}_labels", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: add one whole number per image.")
    labels = arrays[key]
    cure = remedy_of_kind(labels, "image")
    if labels.dtype.kind not in "iub":
        raise InputError(f"`{key}` is {labels.dtype}: labels must be whole numbers from 0: {cure or 'store the number of each class'}.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        also = f": {cure}" if cure else ""
        raise InputError(f"`{key}` has shape {labels.shape}: it must be (N,) or (N, 1), one label per image{also}.")
    same_length(key, labels, split, images)
    top = (num_classes or MAX_CLASSES) - 1
    wrong = np.flatnonzero((labels < 0) | (labels > top))
    if len(wrong):
        where = f"`{key}`[{wrong[0]}] is {labels[wrong[0]]}: labels must be 0 to {top}; {len(wrong)} of {len(labels)} are not"
        raise InputError(f"{where}: {remedy_of_range(labels, top + 1)}.")
    return labels.astype(np.int64)


def checked_masks(arrays: Mapping[str, Array], split: str, num_classes: int, shape: Sequence[int]) -> Array:
    """The masks of a split, in one of the two forms of `optimize.data.masks`.

    Args:
        arrays: as read.
        split: one of `SPLITS`.
        num_classes: outputs of the network, K.
        shape: *spatial of a mask.

    Returns:
        Bool (N, K, *spatial) for one output, or for masks (N, K, *spatial); else whole numbers (N, *spatial).

    Raises:
        InputError: when they are missing, not whole numbers, of another shape, more or fewer than the images, or out of range.
    """
    key, images = f"{split}_masks", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: the network gives a mask, so add one mask per image.")
    masks = arrays[key]
    if masks.dtype.kind not in "iub":
        cure = remedy_of_kind(masks, "pixel") or "store the number of each pixel's class"
        raise InputError(f"`{key}` is {masks.dtype}: masks must be whole numbers or booleans: {cure}.")
    if masks.shape[1:] in ((1, *shape), (*shape, 1)):
        masks = masks.reshape(-1, *shape)
    one_each = masks.shape[1:] == (num_classes, *shape)
    if masks.shape[1:] != tuple(shape) and not one_each:
        wanted = " or ".join(_times(each) for each in (shape, (num_classes, *shape))[: min(num_classes, 2)])
        raise InputError(f"`{key}` holds masks of {_times(masks.shape[1:])}: the network asks for {wanted}; resize or rearrange them.")
    same_length(key, masks, split, images)
    if one_each or num_classes == 1:
        return _binary(key, masks).reshape(-1, num_classes, *shape)
    outside = (masks < 0) | (masks >= num_classes)
    if outside.any():
        _in_range(key, masks, outside, f"0 to {num_classes - 1}, 0 for the background", remedy_of_range(masks, num_classes, "masks"))
    return masks.astype(np.uint8 if num_classes <= 256 else np.int64)


def _binary(key: str, masks: Array) -> Array:
    """0 and 1, or 0 and 255, as booleans."""
    one = 255 if masks.max() == 255 else 1
    outside = (masks != 0) & (masks != one)
    if outside.any():
        values = np.unique(masks)
        several = "the network gives one mask, and these hold several classes: check the model, or store what it was trained to find as 1"
        cure = several if len(values) > 2 else f"store masks == {values[-1]} instead"
        _in_range(key, masks, outside, "0 and 1, or 0 and 255", cure)
    return masks.astype(bool)


def _in_range(key: str, masks: Array, wrong: Array, rule: str, cure: str) -> None:
    item = int(np.argmax(wrong.reshape(len(wrong), -1).any(1)))
    raise InputError(f"`{key}`[{item}] holds {masks[item][wrong[item]][0]}: masks must hold {rule}: {cure}.")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def same_length(key: str, array: Array, split: str, images: Array) -> None:
    """See that `array`, called `key`, has one entry for each of the split's images.

    Raises:
        InputError: when it has not.
    """
    if len(array) != len(images):
        raise InputError(f"`{key}` has {len(array)} entries for {len(images)} images in `{split}_images`: there must be one per image.")
