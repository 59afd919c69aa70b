"""Images that lie one after the other in a large file, such as an archive or a table: each is read from its own bytes when it is needed."""

from __future__ import annotations

import os
from typing import NamedTuple

from optimize.data.array_types import Array
from optimize.data.image_decoding import decode_bytes
from optimize.errors import InputError, printable

MAX_IMAGE_BYTES = 2**28
"""Most bytes of one image, as it is stored."""


class FilePart(NamedTuple):
    """The bytes of one image in a file.

    Args:
        path: path of the file.
        start: position of the first byte.
        size: number of bytes.
        name: name of the image in the file, whose ending says how it is read.
    """

    path: str
    start: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"


def decode_part(part: FilePart) -> Array:
    """Return the image in a part of a file, (H, W, C), as `image_decoding.decode_file` gives that of a whole file.

    Raises:
        InputError: when it cannot be read, or is larger than `MAX_IMAGE_BYTES`.
    """
    if part.size > MAX_IMAGE_BYTES:
        said = f"`data`: image {printable(str(part))} has {part.size:,} bytes"
        raise InputError(f"{said}, at most {MAX_IMAGE_BYTES:,} are read: store it smaller, or leave it out.")
    try:
        with open(part.path, "rb", buffering=0) as file:
            # read and not mapped: pages of a mapped file would count as this process's memory
            content = os.pread(file.fileno(), part.size, part.start)
    except OSError as problem:
        raise InputError(f"`data`: image {printable(str(part))} cannot be read ({problem.strerror}): see to the file.") from problem
    return decode_bytes(content, part.name, str(part))
