"""PNG files are written by Pillow, and read by it and by the runner."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from optimize.deploy.runner.errors import WrongInput
from optimize.deploy.runner.images import MAX_BYTES, png
from optimize.deploy.runner.masks import as_png


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(pixels: np.ndarray, filters: list[int], colour: int, depth: int) -> bytes:
    """A PNG whose rows have these filters, by the definitions of the standard, byte by byte."""
    height = len(pixels)
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8).astype(int)
    step = max(1, rows.shape[1] // pixels.shape[1])
    stored = bytearray()
    for y in range(height):
        stored.append(filters[y])
        for x in range(rows.shape[1]):
            a = rows[y, x - step] if x >= step else 0
            b = rows[y - 1, x] if y else 0
            c = rows[y - 1, x - step] if y and x >= step else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            stored.append((rows[y, x] - (0, a, b, (a + b) // 2, paeth)[filters[y]]) % 256)
    header = struct.pack(">IIBBBBB", pixels.shape[1], height, depth, colour, 0, 0, 0)
    return png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(stored))) + chunk(b"IEND", b"")


KINDS = {0: (), 2: (3,), 4: (2,), 6: (4,)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_kind_and_filter_is_read_as_pillow_reads_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    colour, wide = data.draw(st.sampled_from(sorted(KINDS))), data.draw(st.booleans())
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    pixels = data.draw(arrays.arrays(np.uint16 if wide else np.uint8, (height, width, *KINDS[colour])))
    filters = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    path = tmp_path_factory.mktemp("png") / "x.png"
    path.write_bytes(encoded(pixels, filters, colour, 16 if wide else 8))
    np.testing.assert_array_equal(png.read(path).values, pixels)
    # Pillow keeps 8 bits of the 16 of colours, so it is asked only where it keeps all
    if not wide or colour == 0:
        np.testing.assert_array_equal(np.asarray(Image.open(path)).astype(pixels.dtype), pixels)


@settings(max_examples=20, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_what_pillow_writes_is_read(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "x.png"
    Image.fromarray(pixels).save(path)
    picture = png.read(path)
    assert picture.channels_last
    np.testing.assert_array_equal(picture.values, pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_become_colours(tmp_path: Path, bits: int) -> None:
    draw = np.random.default_rng(bits)
    image = Image.fromarray(draw.integers(0, 2**bits, (5, 11), dtype=np.uint8), mode=None).convert("P")
    image.putdata(draw.integers(0, 2**bits, 55).tolist())
    image.putpalette(draw.integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes())
    image.save(tmp_path / "x.png", bits=bits)
    np.testing.assert_array_equal(png.read(tmp_path / "x.png").values, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("values", [np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(600, 612, dtype=np.uint16).reshape(4, 3)])
def test_masks_that_are_written_are_what_pillow_reads(values: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(as_png(values))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(as_png(values)))), values)
    np.testing.assert_array_equal(png.read(tmp_path / "x.png").values, values)


def whole() -> bytes:
    return encoded(np.arange(12, dtype=np.uint8).reshape(3, 4), [0, 1, 4], 0, 8)


def with_header(*, width: int = 4, height: int = 3, depth: int = 8, colour: int = 0, interlace: int = 0, packing: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, packing, 0, interlace)
    return png.SIGNATURE + chunk(b"IHDR", header) + whole()[8 + 25 :]


def rows(content: bytes) -> bytes:
    return with_header()[: 8 + 25] + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_header(interlace=1), "interlaced"),
        (with_header(depth=4), "4 bits"),
        (with_header(colour=1), "header"),
        (with_header(packing=1), "header"),
        (with_header(width=0), "header"),
        (with_header(width=2**30, height=2**30), f"more than {MAX_BYTES >> 20} MiB"),
        (with_header(height=4), "fewer or more"),
        (with_header(height=2), "fewer or more"),
        (with_header(colour=3), "no palette"),
        (rows(bytes(14)), "fewer or more"),
        (rows(bytes(10**8)), "fewer or more"),
        (rows(b"\5" + bytes(14)), "filter 5"),
        (whole()[:-3], "it is cut short"),
        (whole()[:40] + b"\xff" + whole()[41:], "checksum"),
        (whole()[: 8 + 25] + chunk(b"tRNS", b"\0\0") + whole()[8 + 25 :], "transparent"),
        (whole()[: 8 + 25] + chunk(b"NEWS", b"") + whole()[8 + 25 :], "not known"),
        (png.SIGNATURE + whole()[8 + 25 :], "header is missing"),
    ],
)
def test_what_is_not_read_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(WrongInput, match=reason) as problem:
        png.read(tmp_path / "x.png")
    assert str(tmp_path / "x.png") in str(problem.value)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_ends_in_one_line(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    content = bytearray(whole())
    content[8 + place % (len(content) - 8)] = value
    path = tmp_path_factory.mktemp("png") / "x.png"
    path.write_bytes(content)
    # damage to what is not read, such as the checksum's own place in IEND, may leave the pixels as they are; no other error is raised
    with suppress(WrongInput):
        np.testing.assert_array_equal(png.read(path).values, np.arange(12).reshape(3, 4))
