"""Data as objects of this process instead of a file: arrays, torch tensors, a torch `Dataset` or a `DataLoader` for each split.

Whatever comes in leaves as the arrays that an `.npz` would hold (`optimize/data/arrays.py`), so that everything behind reads one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from optimize.data.arrays import Array
from optimize.data.layout import CLASS_KEYS, SPLITS, is_known, meant_name
from optimize.data.lazy_images import LazyImages
from optimize.errors import InputError, did_you_mean

MAX_CHANNELS = 4
"""An axis of at most so many is taken for the channels where the layout of images has to be guessed."""
_NAMES_OF_VAL = ("validation", "valid", "dev", "eval")
_COLUMNS = ("images", "labels", "masks", "patient", "group", "id", "names")
_COLUMNS_RULE = f"name columns {', '.join(map(repr, _COLUMNS))} or 'NAME_group', or leave it out"
_FORMS = "arrays named as in MedMNIST, or 'train', 'val' and 'test' with (images, labels), a torch Dataset or a DataLoader each"


def arrays_of(source: object) -> dict[str, Array]:
    """Return the arrays of data in memory, by the names that an `.npz` in the MedMNIST layout has.

    Args:
        source: a mapping, of one of two kinds. Names of arrays (`train_images`, `train_labels`, `val_*`, `test_*`, …) to arrays or tensors.
            Or names of splits ("train", "calibration", "val", "test") to their content: a pair (images, labels), a mapping with
            "images", "labels" or "masks" and further columns, a torch `Dataset` of such pairs, or a `DataLoader` of batches of them.
            Labels of more than one axis are masks.

    Raises:
        InputError: when it is none of these, lacks "val" or "test", or a loader shuffles, drops items or changes from reading to reading.

    Example:
        >>> images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
        >>> sorted(arrays_of({"val": (images, labels), "test": (images, labels)}))
        ['test_images', 'test_labels', 'val_images', 'val_labels']
    """
    if not isinstance(source, Mapping):
        raise InputError(f"`data` is a {type(source).__name__}: pass a path, a prepared Dataset, or a dict of {_FORMS}.")
    # "train_images" is a name of an array, "train" one of a split; both kinds of mapping are taken
    if any(str(key).endswith("_images") for key in source):
        _require_no_lookalike(map(str, source))
        arrays = {str(key): as_array(value, str(key)) for key, value in source.items() if is_known(str(key))}
    else:
        arrays = {}
        for name, content in source.items():
            arrays |= _split_arrays(str(name), content)
    if not any(f"{name}_images" in arrays for name in ("train", "val", "test")):
        has = ", ".join(map(str, source)) or "nothing"
        raise InputError(f"`data` has no 'train', 'val' or 'test' split; it has {has}: pass a dict of {_FORMS}.")
    return arrays


def as_array(value: object, name: str) -> Array:
    """Return a numpy array of an array, a tensor, an image or a list; without a copy where that is possible.

    Raises:
        InputError: when it cannot become an array of numbers or text.
    """
    if isinstance(value, LazyImages):
        return cast(Array, value)  # it is indexed as an array, and is decoded only where images are used
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except Exception as problem:  # whatever an object raises that only looks like an array
        raise InputError(f"`data`: {name} cannot become an array ({' '.join(str(problem).split())[:200]}): pass numpy arrays.") from problem
    if array.dtype.kind == "O" and array.size and len({type(item) for item in array.flat}) == 1 and isinstance(array.flat[0], str | int):
        array = np.array(array.tolist())  # a column of a table, such as pandas gives it
    if array.dtype.kind == "O":
        raise InputError(f"`data`: {name} holds Python objects, or rows of different lengths: pass one array of numbers or text.")
    return array


def input_shape_of(arrays: Mapping[str, Array], pad: int = 0) -> tuple[int, ...]:
    """Return the shape of one input, (C, *spatial), that images of this form become.

    Args:
        arrays: arrays by name, from `arrays_of`.
        pad: zeros that will be added on each side of each spatial axis.

    Raises:
        InputError: when no axis, or none alone, looks like the channels.

    Example:
        >>> input_shape_of({"val_images": np.zeros((5, 28, 28, 3), np.uint8)})
        (3, 28, 28)
    """
    images = next(arrays[f"{split}_images"] for split in ("val", "test", "train") if f"{split}_images" in arrays)
    shape, floats = images.shape[1:], images.dtype.kind == "f"
    if len(shape) == 2:
        channels, spatial = 1, shape
    # one axis is small and the other is not: 3 x 28 x 28 and 28 x 28 x 3 say it themselves
    elif len(shape) > 2 and (shape[0] <= MAX_CHANNELS) != (shape[-1] <= MAX_CHANNELS):
        first = shape[0] <= MAX_CHANNELS
        channels, spatial = (shape[0], shape[1:]) if first else (shape[-1], shape[:-1])
    elif len(shape) > 2 and (floats or shape[-1] <= MAX_CHANNELS):  # both axes could be channels, or floats of many: by the usual layout
        channels, spatial = (shape[0], shape[1:]) if floats else (shape[-1], shape[:-1])
    else:
        raise InputError(f"`input_shape` is missing: images of {'x'.join(map(str, shape))} do not show it; pass input_shape=(C, H, W).")
    return channels, *(size + 2 * pad for size in spatial)


def _require_no_lookalike(keys: Iterable[str]) -> None:
    """See that no array is meant as patients or subgroups and passed over for its name: the splits could share patients unnoticed."""
    for key in keys:
        if name := meant_name(key):
            raise InputError(f"`data` has {key!r}, which is not read: call it {name!r}, or leave it out.")


def _split_arrays(name: str, content: object) -> dict[str, Array]:
    """Return the arrays of one split, or of the names of the classes."""
    if name in CLASS_KEYS:
        return {name: as_array(content, name)}
    if name not in SPLITS:
        if name.lower() in _NAMES_OF_VAL:
            raise InputError(f"`data` has {name!r}: call this split 'val'.")
        raise InputError(f"`data` has {name!r}, which is no split{did_you_mean(name, SPLITS)}: name them {', '.join(map(repr, SPLITS))}.")
    where = f"data[{name!r}]"
    if isinstance(content, Mapping):
        for column in map(str, content):
            if not is_known(f"{name}_{column}"):
                raise InputError(f"`{where}` has {column!r}, which is not read{did_you_mean(column, _COLUMNS)}: {_COLUMNS_RULE}.")
        return {f"{name}_{column}": as_array(value, f"{where}[{column!r}]") for column, value in content.items()}
    if isinstance(content, DataLoader):
        images, labels = _loaded(content, where)
    elif isinstance(content, tuple | list) and len(content) == 2:
        images, labels = (as_array(part, where) for part in content)
    elif hasattr(content, "__getitem__") and hasattr(content, "__len__") and not isinstance(content, np.ndarray | torch.Tensor):
        images, labels = _items(content, where)
    else:
        raise InputError(f"`{where}` is a {type(content).__name__}: pass (images, labels), a torch Dataset or a DataLoader.")
    # (N,) and (N, 1) are labels, (N, H, W) is a mask for each image
    kind = "masks" if labels.ndim > 2 else "labels"
    return {f"{name}_images": images, f"{name}_{kind}": labels}


def _loaded(loader: DataLoader[Any], where: str) -> tuple[Array, Array]:
    """Return images and labels of a loader, in its order, which must be that of its items."""
    batched, remedy = loader.batch_sampler, "pass DataLoader(dataset, batch_size=…, shuffle=False), or the dataset itself"
    if isinstance(loader.dataset, IterableDataset):
        raise InputError(f"`{where}` is a DataLoader of an IterableDataset, which has no fixed order: pass arrays or a map-style Dataset.")
    if not isinstance(loader.sampler, SequentialSampler) or type(batched) not in (BatchSampler, type(None)):
        raise InputError(f"`{where}` is a DataLoader that shuffles or samples, so no two runs would see the same data: {remedy}.")
    # the last items that do not fill a batch would be missing from every figure
    if loader.drop_last and len(loader.dataset) % (loader.batch_size or 1):  # type: ignore[arg-type]
        raise InputError(f"`{where}` is a DataLoader with drop_last=True, which leaves items out: {remedy}.")
    parts = [tuple(as_array(part, where) for part in _pair(batch, where)) for batch in _read(loader, where)]
    if not parts:
        raise InputError(f"`{where}` is an empty DataLoader: every split needs at least one item.")
    single = loader.batch_size is None
    for what, column in (("images", 0), ("labels", 1)):
        _require_alike({part[column].shape[0 if single else 1 :] for part in parts}, what, where)
    if single:  # the loader hands out single items
        return np.stack([image for image, _ in parts]), np.stack([label for _, label in parts])
    # read twice: random augmentation in the dataset gives another image the second time
    first = _pair(next(iter(loader)), where)[0]
    _require_same(parts[0][0], as_array(first, where), where)
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _items(dataset: Any, where: str) -> tuple[Array, Array]:
    """Return images and labels of a torch `Dataset` of pairs."""
    count = len(dataset)
    if not count:
        raise InputError(f"`{where}` is empty: every split needs at least one item.")
    pairs = [tuple(as_array(part, where) for part in _pair(item, where)) for item in _read(map(dataset.__getitem__, range(count)), where)]
    _require_same(pairs[0][0], as_array(_pair(dataset[0], where)[0], where), where)
    _require_alike({image.shape for image, _ in pairs}, "images", where)
    _require_alike({label.shape for _, label in pairs}, "labels", where)
    return np.stack([image for image, _ in pairs]), np.stack([label for _, label in pairs])


def _read(items: Iterable[Any], where: str) -> Iterator[Any]:
    """The items, or batches, of a user's dataset, whose code may fail at any of them.

    Raises:
        InputError: naming the position and what the dataset raised.
    """
    position, iterator = 0, None
    while True:
        try:
            iterator = iter(items) if iterator is None else iterator
            item = next(iterator)
        except StopIteration:
            return
        except Exception as problem:  # whatever the code of the dataset raises
            said = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
            raise InputError(f"`{where}` fails at item or batch {position} ({said}): mend the dataset, or leave that out.") from problem
        yield item
        position += 1


def _require_alike(shapes: set[tuple[int, ...]], what: str, where: str) -> None:
    """See that the items of a split can be put into one array."""
    if len(shapes) > 1:
        cure = "resize them alike" if what == "images" else "give each item one of the same form"
        raise InputError(f"`{where}` has {what} of different shapes ({', '.join(map(str, sorted(shapes)[:3]))}): {cure}.")


def _pair(item: object, where: str) -> Sequence[object]:
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(f"`{where}` gives a {type(item).__name__}: each item, or batch, must be a pair (images, labels).")
    return item[:2]


def _require_same(first: Array, again: Array, where: str) -> None:
    """Check that a second reading gives the same images, as it does not where they are augmented at random."""
    if first.shape != again.shape or not np.array_equal(first, again, equal_nan=first.dtype.kind == "f"):
        raise InputError(f"`{where}` gives other images when it is read again: leave random augmentation out of it.")
