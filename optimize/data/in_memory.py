"""Data as objects of this process instead of a file: arrays, torch tensors, a torch `Dataset` or a `DataLoader` for each split.

Whatever comes in leaves as the arrays that an `.npz` would hold (`optimize/data/arrays.py`), so that everything behind reads one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from optimize.data.array_conversion import as_array as as_array
from optimize.data.arrays import Array
from optimize.data.layout import CLASS_KEYS, SPLITS, is_known, meant_name
from optimize.data.torch_datasets import items_of
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
        InputError: when it is none of these, or a dataset fails, samples its items or changes from reading to reading.

    Example:
        >>> import numpy as np
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


def input_shape_of(arrays: Mapping[str, Array], pad: int = 0) -> tuple[int, ...]:
    """Return the shape of one input, (C, *spatial), that images of this form become.

    Args:
        arrays: arrays by name, from `arrays_of`.
        pad: zeros that will be added on each side of each spatial axis.

    Raises:
        InputError: when no axis, or none alone, looks like the channels.

    Example:
        >>> import numpy as np
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
    if isinstance(content, tuple | list) and len(content) == 2:
        images, labels = (as_array(part, where) for part in content)
    else:
        images, labels = items_of(content, where)
    # (N,) and (N, 1) are labels, (N, H, W) is a mask for each image
    kind = "masks" if labels.ndim > 2 else "labels"
    return {f"{name}_images": images, f"{name}_{kind}": labels}
