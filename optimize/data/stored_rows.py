"""The rows of a large array in an `.npz`, read from the archive as they are needed.

An array that `numpy.savez` wrote lies in the archive as it is, so its rows are read from there. One of `numpy.savez_compressed` can only be
read from its start; it is written out once, into the folder of decoded images (`optimize.data.disk_cache`).
"""

from __future__ import annotations

import os
import weakref
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from optimize.data.array_types import Array
from optimize.data.disk_cache import has_room, image_cache_folder, key_of, state_of
from optimize.data.lazy_images import LazyImages

LARGE_BYTES = 2**28
"""Bytes from which an array is not read as a whole."""
CHUNK = 2**22
_LOCAL_HEADER = 30


@dataclass(frozen=True)
class RowsOfFile:
    """Reads row k of an array that lies in a file, from the byte `start` on.

    Args:
        path: file that holds the array's bytes, in C order.
        start: position of row 0, in bytes.
        item_shape: shape of a row.
        dtype: type of the values.
    """

    path: str
    start: int
    item_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        _ = self._descriptor

    def __call__(self, row: int) -> Array:
        """Return row `row`, of shape `item_shape`."""
        size = prod(self.item_shape) * self.dtype.itemsize
        # read and not mapped: pages of a mapped file would count as this process's memory
        content = os.pread(self._descriptor, size, self.start + row * size)
        return np.frombuffer(content, self.dtype).reshape(self.item_shape)

    @cached_property
    def _descriptor(self) -> int:
        # opened at once and kept, so that rows can still be read when another run removes the file to make room
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        # another process opens the file itself
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}


def large_member(path: Path, name: str) -> LazyImages | None:
    """Return an array of an archive as a stack of rows; None where it is small, has no rows, or cannot be read in parts.

    The bytes of the whole array are checked once, as NumPy does when it reads it.

    Args:
        path: an `.npz`.
        name: name of the array.

    Raises:
        zipfile.BadZipFile: when the bytes are not those that were written.
    """
    with zipfile.ZipFile(path) as archive:
        member = next((member for member in archive.infolist() if member.filename in (name, f"{name}.npy")), None)
        if member is None or member.file_size < LARGE_BYTES:
            return None
        with archive.open(member) as stream:
            shape, ordered_by_columns, dtype = _header(stream)
            start = stream.tell()
            if ordered_by_columns or len(shape) < 2 or dtype.hasobject or not prod(shape):
                return None
            if member.compress_type == zipfile.ZIP_STORED:
                file, start = str(path), _position(path, member) + start
                _drain(stream)
            elif (written := _written_out(stream, path, member)) is not None:
                file, start = str(written), 0
            else:
                return None
    read = RowsOfFile(file, start, shape[1:], dtype)
    return LazyImages(range(shape[0]), read, shape[1:], dtype, np.arange(shape[0], dtype=np.int64))


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    return npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)


def _position(path: Path, member: zipfile.ZipInfo) -> int:
    """Return the position of a member's first byte: behind its local header, whose name and extra field have lengths of their own."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
    return member.header_offset + _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _drain(stream: Any) -> None:
    """Read to the end, where the checksum is compared."""
    while stream.read(CHUNK):
        pass


def _written_out(stream: Any, path: Path, member: zipfile.ZipInfo) -> Path | None:
    """Return a file with the array's bytes, which is written unless an earlier run did; None where there is no folder or no room for it."""
    folder = image_cache_folder()
    if folder is None:
        return None
    file = folder / f"{key_of([state_of(path), member.filename, str(member.CRC)])}.rows"
    if file.exists() and file.stat().st_size == member.file_size - stream.tell():
        os.utime(file)
        return file
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        if not has_room(folder, member.file_size, keep=(file,)):
            return None
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
            _copy(stream, written)
        os.replace(draft, file)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            draft.unlink()
    return file


def _copy(stream: Any, written: BinaryIO) -> None:
    while chunk := stream.read(CHUNK):
        written.write(chunk)
