"""A NumPy archive (`.npz`): the format of MedMNIST, and the usual one."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from optimize.data.arrays import Array
from optimize.data.stored_rows import large_member
from optimize.errors import InputError
from optimize.loading.foreign_files import weights_as_data

NAMED = "an .npz"


def recognises(source: str) -> bool:
    """Return whether the source is a zip archive that holds no weights of PyTorch.

    Raises:
        InputError: when the name ends in `.npz` and the content is no whole archive.
    """
    path = Path(source)
    if not path.is_file() or not path.stat().st_size or weights_as_data(path):
        return False
    with path.open("rb") as file:
        whole = zipfile.is_zipfile(file)
    if path.suffix == ".npz" and not whole:
        raise InputError(f"`data` (={path}) is no .npz, or one cut short: copy it again, or write it with numpy.savez_compressed.")
    return whole


def read(source: str) -> Mapping[str, Array]:
    """Return the arrays of the archive by name; each is decompressed when it is asked for, and large images only row by row."""
    return _Archive(Path(source))


class _Archive(Mapping[str, Array]):
    """An archive that is opened again for each array, so that no file stays open and only the arrays that are needed are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with np.load(path, allow_pickle=False) as archive:
            self._names = [name for name in archive.files if isinstance(name, str)]

    def __getitem__(self, name: str) -> Array:
        # labels are small, and masks are compared as whole arrays
        if name.endswith("_images") and (large := large_member(self._path, name)) is not None:
            return cast(Array, large)  # it is indexed as an array
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        except ValueError as problem:
            if "Object arrays" not in str(problem):
                raise
            raise InputError(f"`data` (={self._path}): {name} holds Python objects: save plain numbers or text.") from problem

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
