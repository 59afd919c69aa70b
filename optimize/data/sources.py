"""Read the arrays of a user's data, whatever format they are stored in.

Each module in `optimize/data/formats/` is one format. The folder is looked through at each call, so a new format is a new file there, and
nothing else: the command, `load_data` and the error for a source that no format recognises know it at once.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import numpy as np

from optimize.data import formats
from optimize.data.arrays import Array
from optimize.data.layout import is_known, meant_name
from optimize.data.lazy_images import LazyImages
from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.loading.foreign_files import weights_as_data
from optimize.progress import note


class DataFormat(Protocol):
    """The functions and names that a module in `optimize/data/formats/` must define.

    A library that only this format needs is imported inside `read`, so that the others work without it.

    Attributes:
        NAMED: the format as it is named in errors, behind "pass": "an .npz".
    """

    NAMED: str

    def recognises(self, source: str) -> bool:
        """Return whether the source is of this format, by a look at its content or its name; false where there is nothing at that path.

        Raises:
            InputError: when the source is clearly meant to be of this format and cannot be read, with the remedy.
        """

    def read(self, source: str) -> Mapping[str, Any]:
        """Return arrays, or what NumPy can make arrays of, by the names in `optimize.data.layout`; images may be a `LazyImages`.

        A mapping that reads each array when it is asked for saves memory: names that `is_known` does not know are never asked for. What
        this or the mapping raises becomes one line that names the source and the array.
        """


def data_formats() -> list[DataFormat]:
    """Return all formats, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    return [cast(DataFormat, import_module(f"{formats.__name__}.{name}")) for name in names]


def format_of(source: str | Path) -> DataFormat:
    """Return the first format that recognises the source; no array is read.

    Raises:
        InputError: when none does, with what the source seems to be and what to pass instead.
    """
    if not str(source):
        raise InputError("`data` is missing: pass --data file.npz or --data file.py:factory, or set [data] path in optimize.toml.")
    try:
        # lazily: the second format is asked only where the first does not know the source
        recognising = (format for format in data_formats() if format.recognises(str(source)))
        return next(recognising, None) or _refuse(Path(source))
    except OSError as problem:
        raise InputError(f"`data` (={source}) cannot be opened ({describe(problem)}): see to its permissions.") from problem


def read_arrays(source: str | Path) -> dict[str, Array]:
    """Return the arrays of a source whose names are known (`optimize.data.layout`).

    Args:
        source: a file, a folder or a text that one of the `data_formats` recognises.

    Raises:
        InputError: when the source is missing, empty, damaged, of no known format, or holds no images for train, val or test.
    """
    format = format_of(source)
    name = ""
    try:
        stored = format.read(str(source))
        arrays = {}
        # arrays of other names are never read: they may be large, or hold objects
        for name in filter(is_known, stored):
            arrays[name] = _as_array(stored[name], name, source)
    except InputError:
        raise
    except Exception as problem:  # whatever the library that reads a format raises on a damaged file
        raise InputError(f"`data` (={source}): {name or 'it'} cannot be read ({describe(problem)}): copy or save it again.") from problem
    for passed_over, meant in ((key, meant_name(str(key))) for key in stored):
        if meant is not None and meant not in arrays:
            # a file may hold anything, so this is no error; but patients that are passed over may stand in two splits unnoticed
            note(f"`data` (={source}): {passed_over} is not read: if it is {meant}, call it so.")
    if not any(f"{split}_images" in arrays for split in ("train", "val", "test")):
        names = list(stored)
        listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise InputError(
            f"`data` (={source}) has no array 'val_images', 'test_images' or 'train_images'; it has {listed or 'none'}: "
            "name them as MedMNIST does."
        )
    return arrays


def _as_array(value: object, name: str, source: str | Path) -> Array:
    if isinstance(value, LazyImages):
        return cast(Array, value)  # it is indexed as an array, and is decoded only where images are used
    try:
        return np.asarray(value)
    except Exception as problem:
        raise InputError(f"`data` (={source}): {name} cannot become an array ({describe(problem)}): return numpy arrays.") from problem


def _refuse(path: Path) -> NoReturn:
    """Raise the error for a source that no format recognises."""
    *names, last = [format.NAMED for format in data_formats()]
    known = f"{', '.join(names)} or {last}"
    if path.is_dir():
        raise InputError(f"`data` (={path}) is a folder that no format recognises: pass {known}; a factory may read any folder.")
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
    raise InputError(f"`data` (={path}) is of no format that can be read, or cut short: pass {known}, or copy it again.")
