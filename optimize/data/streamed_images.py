"""Images that come one after the other, such as those of a torch Dataset: kept in memory while they are few, else in a file.

    IN_MEMORY_BYTES are reached at image 900     images 0 to 899 are written to a file, and memory is given back
    image 901, 902, …                            are written behind them
    `images()`                                   a stack that reads row k of the file

The file lies in the folder of decoded images (`optimize.data.disk_cache`), and is removed when the stack is no longer used.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np

from optimize.data.array_types import Array
from optimize.data.disk_cache import VARIABLE, has_room, image_cache_folder
from optimize.data.image_cache import IN_MEMORY_BYTES
from optimize.data.lazy_images import Images, LazyImages
from optimize.data.stored_rows import RowsOfFile
from optimize.errors import InputError

ROOM_BYTES = 2**28
"""Bytes for which room is asked at a time, since nobody knows how many a stream will have."""


class StreamedImages:
    """Takes images in their order, and gives them as one stack.

    Args:
        where: what the images are of, for errors: "data['val']".

    Example:
        >>> stream = StreamedImages("data['val']")
        >>> stream.add(np.zeros((2, 4, 4, 1), np.uint8))
        >>> stream.add(np.ones((1, 4, 4, 1), np.uint8))
        >>> stream.images()[:, 0, 0, 0].tolist()
        [0, 0, 1]
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._parts: list[Array] = []
        self._count = self._bytes = self._allowed = 0
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._form: tuple[tuple[int, ...], np.dtype] | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, images: Array) -> None:
        """Take some images, (n, *item_shape).

        Raises:
            InputError: when their shape or type is not that of the first ones, or there is no room for a file of them.
        """
        form = images.shape[1:], images.dtype
        self._form = self._form or form
        if form[0] != self._form[0]:
            shapes = ", ".join(map(str, sorted((form[0], self._form[0]))))
            raise InputError(f"`{self._where}` has images of different shapes ({shapes}): resize them alike.")
        if form[1].kind != self._form[1].kind:
            raise InputError(f"`{self._where}` has images of {self._form[1]} and of {form[1]}: convert them alike.")
        images = images.astype(self._form[1], copy=False)
        self._count += len(images)
        self._bytes += images.nbytes
        if self._file is None and self._bytes <= IN_MEMORY_BYTES:
            # copied: a dataset may fill one array again for each item
            self._parts.append(np.array(images))
            return
        if self._bytes > self._allowed:
            self._ask_for_room()
        assert self._file is not None
        for part in self._parts:
            self._file.write(np.ascontiguousarray(part).data)
        self._parts = []
        self._file.write(np.ascontiguousarray(images).data)

    def images(self) -> Images:
        """Return all images, (N, *item_shape)."""
        assert self._form is not None
        if self._file is None or self._path is None:
            return np.concatenate(self._parts)
        self._file.close()
        shape, dtype = self._form
        read = RowsOfFile(str(self._path), 0, shape, dtype)
        # the stack keeps the file open, and another process may still open it by its name
        weakref.finalize(read, _remove, self._path, os.getpid())
        self._path = None
        return LazyImages(range(self._count), read, shape, dtype, np.arange(self._count, dtype=np.int64))

    def discard(self) -> None:
        """Remove the file of a stream that ended early."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _ask_for_room(self) -> None:
        folder = image_cache_folder()
        keep = () if self._path is None else (self._path,)
        if folder is None or not has_room(folder, max(ROOM_BYTES, self._bytes - self._allowed), keep):
            kept = "nothing is kept on disk" if folder is None else f"{folder} has no room for more"
            raise InputError(
                f"`{self._where}` has more images than memory is used for ({self._bytes:,} bytes up to item {self._count:,}), and {kept}: "
                f"set {VARIABLE} to a folder with room, or pass fewer images."
            )
        self._allowed = self._bytes + ROOM_BYTES
        if self._path is None:
            self._path = folder / f"{os.getpid()}.{uuid4().hex}.stream"
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _remove(path: Path, owner: int) -> None:
    """Remove a file, unless this is a copy of the process that wrote it, such as a worker of a loader."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
