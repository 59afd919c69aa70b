"""PNG (ISO/IEC 15948) with the standard library and numpy: 8 and 16 bits in grey and RGB, with or without alpha, and palettes.

A row is stored as the difference to a prediction from its neighbours, by one of five filters:

    c b        0 none, 1 a, 2 b, 3 the mean of a and b, 4 whichever of a, b, c is nearest to a + b - c (Paeth)
    a x

So a pixel needs the one to its left and three of the row above. All pixels with the same x + y, a diagonal, need only the two diagonals
before. They are computed at once: W + H steps of numpy instead of W * H of Python.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import WrongInput
from ..preprocess import Array
from . import MAX_BYTES, Picture

NAME = "PNG"
ENDINGS = (".png",)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples of a pixel: grey, RGB, place in a palette, grey with alpha, RGB with alpha."""
_PALETTE = 3
_HEADER = ">IIBBBBB"
"""Form of the chunk IHDR: width, height, depth, colour type, and how it is packed, filtered and interlaced."""


@dataclass(frozen=True)
class Header:
    """The chunk IHDR.

    Args:
        width: pixels of a row.
        height: number of rows.
        depth: bits of a sample.
        colour: colour type.
    """

    width: int
    height: int
    depth: int
    colour: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without the one that names its filter."""
        return (self.width * _SAMPLES[self.colour] * self.depth + 7) // 8


def matches(path: Path, head: bytes) -> bool:
    """Return whether a file is a PNG."""
    return head.startswith(SIGNATURE)


def read(path: Path) -> Picture:
    """Return the pixels of a PNG, uint8 or uint16, (H, W) for grey, else (H, W, samples); palettes become RGB.

    Raises:
        WrongInput: when it is damaged, or of a kind that is not read.
    """
    try:
        header, palette, packed = _chunks(path.read_bytes())
        rows = _rows(header, packed)
        return _picture(header, palette, rows)
    except ValueError as problem:
        remedy = "save it again, with 8 or 16 bits, not interlaced"
        raise WrongInput(f"`{path}` cannot be read as PNG ({str(problem)[:200]}): {remedy}.") from None


def _chunks(content: bytes) -> tuple[Header, Array | None, bytes]:
    """Return the header, the palette and the packed rows."""
    header: Header | None = None
    palette: Array | None = None
    data: list[bytes] = []
    place, last = len(SIGNATURE), b""
    while last != b"IEND":
        # a chunk has its length, its kind, what it holds, and a checksum
        length, kind = struct.unpack(">I4s", content[place : place + 8]) if len(content) >= place + 8 else (0, b"")
        if len(content) < place + 12 + length:
            raise ValueError("it is cut short")
        body = content[place + 8 : place + 8 + length]
        (crc,) = struct.unpack_from(">I", content, place + 8 + length)
        if crc != zlib.crc32(kind + body):
            raise ValueError(f"the checksum of its chunk {_name(kind)} differs")
        if (header is None) is not (kind == b"IHDR"):
            raise ValueError("its header is missing, or not alone")
        if kind == b"IHDR":
            header = _header(body)
        elif kind == b"PLTE":
            if not body or len(body) % 3:
                raise ValueError("its palette is damaged")
            palette = np.frombuffer(body, np.uint8).reshape(-1, 3)
        elif kind == b"tRNS":
            raise ValueError("it has transparent colours")
        elif kind == b"IDAT":
            if data and last != kind:
                raise ValueError("its rows are not in one piece")
            data.append(body)
        elif kind != b"IEND" and not kind[0] & 0x20:
            raise ValueError(f"its chunk {_name(kind)} is not known, and is marked as needed")
        place, last = place + 12 + length, kind
    assert header is not None
    return header, palette, b"".join(data)


def _name(kind: bytes) -> str:
    return kind.decode("ascii", "backslashreplace")


def _header(body: bytes) -> Header:
    if len(body) != struct.calcsize(_HEADER):
        raise ValueError("its header is damaged")
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(_HEADER, body)
    if colour not in _SAMPLES or packing or filtering or interlace > 1 or not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise ValueError("its header is not one of a PNG")
    if depth not in ((1, 2, 4, 8) if colour == _PALETTE else (8, 16)):
        raise ValueError(f"it has {depth} bits a sample")
    if interlace:
        raise ValueError("it is interlaced")
    header = Header(width, height, depth, colour)
    if (header.row_bytes + 1) * height > MAX_BYTES:
        raise ValueError(f"its pixels take more than {MAX_BYTES >> 20} MiB")
    return header


def _rows(header: Header, packed: bytes) -> npt.NDArray[np.uint8]:
    """Return the bytes of all rows, (H, bytes of a row), with the filters undone."""
    size = (header.row_bytes + 1) * header.height
    unpacking = zlib.decompressobj()
    # never more than there may be: the rest of a bomb is not unpacked
    try:
        content = unpacking.decompress(packed, size)
        whole = len(content) == size and not unpacking.decompress(unpacking.unconsumed_tail, 1) and unpacking.eof
    except zlib.error:
        whole = False
    if not whole:
        raise ValueError("its rows are fewer or more than its header says, or damaged")
    stored = np.frombuffer(content, np.uint8).reshape(header.height, header.row_bytes + 1)
    filters = stored[:, 0]
    if filters.max() > 4:
        raise ValueError(f"a row has filter {filters.max()}")
    if not filters.any():
        return stored[:, 1:]
    # the neighbours are those of the same sample: bytes of a whole pixel go together, at least one
    step = max(1, _SAMPLES[header.colour] * header.depth // 8)
    return _unfiltered(stored[:, 1:].reshape(header.height, -1, step), filters).reshape(header.height, -1)


def _unfiltered(stored: npt.NDArray[np.uint8], filters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Undo the filters of rows.

    Args:
        stored: differences, (H, W, bytes of a pixel).
        filters: filter of each row, (H,).
    """
    height, width, step = stored.shape
    # diagonal t holds pixel (y, t - y) in row y; outside of the image it holds zeros, as the standard asks
    diagonals = np.zeros((width + height - 1, height, step), np.uint8)
    for y in range(height):
        diagonals[y : y + width, y] = stored[y]
    kinds = [np.flatnonzero(filters == kind) for kind in range(5)]
    before, earlier = np.zeros((2, height + 1, step), np.int16)
    for diagonal in diagonals:
        # row y of `before` shifted by one is the pixel above, (y - 1, x); that of `earlier` is (y - 1, x - 1)
        left, above, corner = before[1:], before[:-1], earlier[:-1]
        predicted = np.zeros((height, step), np.int16)
        predicted[kinds[1]] = left[kinds[1]]
        predicted[kinds[2]] = above[kinds[2]]
        predicted[kinds[3]] = (left[kinds[3]] + above[kinds[3]]) >> 1
        predicted[kinds[4]] = _paeth(left[kinds[4]], above[kinds[4]], corner[kinds[4]])
        diagonal += predicted.astype(np.uint8)
        earlier, before = before, np.zeros((height + 1, step), np.int16)
        before[1:] = diagonal
    rows = np.empty_like(stored)
    for y in range(height):
        rows[y] = diagonals[y : y + width, y]
    return rows


def _paeth(left: Array, above: Array, corner: Array) -> Array:
    """Return whichever neighbour is nearest to left + above - corner; of equals the left one, then the one above."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    nearest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)


def _picture(header: Header, palette: Array | None, rows: npt.NDArray[np.uint8]) -> Picture:
    if header.colour == _PALETTE:
        if palette is None:
            raise ValueError("it has no palette")
        bits = np.unpackbits(rows, axis=1).reshape(header.height, -1, header.depth)[:, : header.width]
        places = bits @ (1 << np.arange(header.depth)[::-1])
        if places.max() >= len(palette):
            raise ValueError("a pixel names a colour that its palette has not")
        return Picture(palette[places], channels_last=True)
    # samples of 16 bits are stored with the high byte first
    samples = rows if header.depth == 8 else np.ascontiguousarray(rows).view(">u2").astype(np.uint16)
    pixels = samples.reshape(header.height, header.width, _SAMPLES[header.colour])
    return Picture(pixels, channels_last=True) if pixels.shape[2] > 1 else Picture(pixels[..., 0])
