"""Decoded images are kept: those of a small stack in memory, those of a large one in a file on disk, where the next run finds them.

An image is decoded once, and read about ten times: for hashes, checks of calibration, training, verdicts. Beside the file of images stands
one of hashes, 8 bytes an image, 0 for an image that is not there yet:

    KEY.images     | image 0 | image 1 |    ...   | image 3 |
    KEY.hashes     |   h0    |   h1    |     0    |   h3    |

An image is written before its hash, and is compared with its hash when it is read. So a run that was interrupted, a full disk and two runs
that fill one file all leave a file that is right as far as it says so; whatever is not right is decoded again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import metadata
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.array_types import Array, Integers
from optimize.data.disk_cache import has_room, image_cache_folder, key_of, state_of
from optimize.data.file_parts import FilePart
from optimize.data.lazy_images import LazyImages, content_hash

IN_MEMORY_BYTES = 2**27
"""Most bytes of a stack that is decoded into memory at once."""
FORMAT = "1"
"""Number to be raised when decoding changes, so that images decoded before are not used."""
DECODERS = ("pillow", "pydicom", "numpy")
"""Packages that decode; images decoded by other versions of them are not used."""


def kept(images: LazyImages) -> Array | LazyImages:
    """Return images that are decoded only once: an array where they are few, else a stack with a file on disk, if there is room.

    Args:
        images: stack of image files, whose sources are paths, or parts of files.
    """
    size = images.size * images.dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        return images[:]
    folder, key = image_cache_folder(), _key(images)
    if folder is None or key is None:
        return images
    item_bytes = prod(images.item_shape) * images.dtype.itemsize
    stored, hashes = folder / f"{key}.images", folder / f"{key}.hashes"
    try:
        # what is there already was counted when it was made
        if not hashes.exists() and not has_room(folder, size, keep=(stored, hashes)):
            return images
        for path, length in ((stored, len(images.sources) * item_bytes), (hashes, len(images.sources) * 8)):
            _reserve(path, length)
        known = np.fromfile(hashes, np.int64)
    except OSError:
        return images
    rows = {source: row for row, source in enumerate(images.sources)}
    return replace(images, decode=_Stored(images.decode, rows, stored, hashes, known, images.item_shape, images.dtype), known_hashes={})


@dataclass(frozen=True, eq=False)
class _Stored:
    """Reads an image from the file of images; decodes it, and writes it there, where it is missing or not what it should be."""

    decode: Callable[[Any], Array]
    rows: dict[Any, int]
    images: Path
    hashes: Path
    known: Integers
    item_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, source: Any) -> Array:
        row = self.rows[source]
        # a file that was removed meanwhile is not needed: the image is decoded
        with suppress(OSError):
            if (image := self._read(row)) is not None:
                return image
        image = self.decode(source)
        if image.shape == self.item_shape and image.dtype == self.dtype:
            with suppress(OSError):
                self._write(row, image)
        return image

    def _read(self, row: int) -> Array | None:
        if not self.known[row]:
            return None
        size = prod(self.item_shape) * self.dtype.itemsize
        with self.images.open("rb", buffering=0) as file:
            # read and not mapped: pages of a mapped file would count as this process's memory
            content = os.pread(file.fileno(), size, row * size)
        if len(content) < size:
            return None
        image = np.frombuffer(content, self.dtype).reshape(self.item_shape)
        return image if content_hash(image) == self.known[row] else None

    def _write(self, row: int, image: Array) -> None:
        content = image.tobytes()
        with self.images.open("r+b", buffering=0) as file:
            whole = os.pwrite(file.fileno(), content, row * len(content)) == len(content)
        if whole:
            self.known[row] = content_hash(image)
            with self.hashes.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), self.known[row].tobytes(), row * 8)


def _reserve(path: Path, length: int) -> None:
    """Make a file of this length that only the user may read; what it holds already stays, and counts as just used."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.truncate(length)
    os.utime(path)


def _key(images: LazyImages) -> str | None:
    """Return a name that changes with the files, with the way they are decoded and with what decodes them; None where that is not known."""
    with suppress(OSError, ValueError):
        form = FORMAT, described(images.decode), *_versions(), str(images.item_shape), str(images.dtype)
        return key_of([*form, *_states(images.sources)])
    return None


def _states(sources: Sequence[Any]) -> Iterator[str]:
    """Yield what changes when the content of a source does: the state of its file, and of a part of a file its place, too."""
    known: dict[str, str] = {}
    for source in sources:
        path = source.path if isinstance(source, FilePart) else source
        # thousands of images may lie in one file
        known[path] = known.get(path) or state_of(path)
        yield f"{known[path]}:{source.start}:{source.size}" if isinstance(source, FilePart) else known[path]


def described(value: object) -> str:
    """Return a text for a function that is the same in every process, with the settings that are bound to it.

    Args:
        value: a function of a module, a `partial` of one, or a dataclass that is called and holds only such functions, numbers and text.

    Raises:
        ValueError: when it is or holds anything else, such as a function made inside another one, which has no name of its own.

    Example:
        >>> described(partial(content_hash, image=7))
        'partial(optimize.data.lazy_images.content_hash; image=7)'
    """
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, partial):
        named = ", ".join(f"{name}={described(argument)}" for name, argument in sorted(value.keywords.items()))
        return f"partial({', '.join(map(described, (value.func, *value.args)))}; {named})"
    if is_dataclass(value) and not isinstance(value, type):
        named = ", ".join(f"{field.name}={described(getattr(value, field.name))}" for field in fields(value))
        return f"{described(type(value))}({named})"
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '<unknown>')}"
    if "<" in name:
        raise ValueError(f"{value!r} has no name that another process knows")
    return name


def _versions() -> list[str]:
    """Return the versions of the packages that decode, of those that are installed."""
    versions = []
    for package in DECODERS:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    return versions
