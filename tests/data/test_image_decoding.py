"""Image files as their own libraries write them, against the pixels that were written."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optimize.data.image_decoding import MAX_PIXELS, decode_file, to_channels
from optimize.errors import InputError
from tests.data.dicom_files import dicom

GRAY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)


@pytest.mark.parametrize("ending", ["png", "tiff", "bmp"])
def test_eight_bits_are_bytes_with_channels_last(ending: str, tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / f"gray.{ending}")
    Image.fromarray(COLOUR).save(tmp_path / f"colour.{ending}")

    np.testing.assert_array_equal(decode_file(tmp_path / f"gray.{ending}"), GRAY[..., None])
    np.testing.assert_array_equal(decode_file(tmp_path / f"colour.{ending}"), COLOUR)


def test_alpha_and_palettes_become_colour(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOUR, GRAY])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([GRAY, GRAY])).save(tmp_path / "la.png")
    Image.fromarray(COLOUR).quantize(64).save(tmp_path / "palette.png")
    Image.fromarray(GRAY > 100).save(tmp_path / "binary.png")

    np.testing.assert_array_equal(decode_file(tmp_path / "rgba.png"), COLOUR)
    np.testing.assert_array_equal(decode_file(tmp_path / "la.png"), GRAY[..., None])
    np.testing.assert_array_equal(decode_file(tmp_path / "binary.png"), (GRAY > 100)[..., None] * np.uint8(255))
    assert decode_file(tmp_path / "palette.png").shape == (4, 6, 3)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_are_floats_up_to_one(ending: str, tmp_path: Path) -> None:
    deep = GRAY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / f"deep.{ending}")

    pixels = decode_file(tmp_path / f"deep.{ending}")

    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[..., 0], GRAY / 255, rtol=1e-6)


def test_an_image_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is upright after a quarter turn clockwise
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)

    np.testing.assert_array_equal(decode_file(tmp_path / "turned.png"), np.rot90(COLOUR, -1))


def test_dicom_without_a_window_is_rescaled(tmp_path: Path) -> None:
    pixels = decode_file(dicom(tmp_path / "a.dcm", GRAY, 12, RescaleSlope=2, RescaleIntercept=-1024))

    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[..., 0], 2.0 * GRAY - 1024)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    plain = decode_file(dicom(tmp_path / "a.dcm", GRAY, 12, PhotometricInterpretation="MONOCHROME1"))
    window = {"WindowCenter": 100, "WindowWidth": 101}
    windowed, usual = (
        decode_file(dicom(tmp_path / f"{kind}.dcm", GRAY, 12, PhotometricInterpretation=kind, **window))
        for kind in ("MONOCHROME1", "MONOCHROME2")
    )

    np.testing.assert_array_equal(plain[..., 0], 4095.0 - GRAY)
    np.testing.assert_allclose(windowed, 1 - usual, atol=1e-6)


def test_a_window_reaches_from_black_to_white(tmp_path: Path) -> None:
    # PS3.3 C.11.2.1.2.1: the window 101 wide around 100 is black up to 49.5 and white above 149.5, linear between
    expected = np.clip((GRAY - 49.5) / 100, 0, 1)
    rescaled = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": [-800.5, 5], "WindowWidth": [201, 5]}

    plain = decode_file(dicom(tmp_path / "a.dcm", GRAY, 12, WindowCenter=100, WindowWidth=101))
    slope = decode_file(dicom(tmp_path / "b.dcm", GRAY, 12, **rescaled))

    np.testing.assert_allclose(plain[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(slope[..., 0], np.clip((2.0 * GRAY - 1000 + 901) / 200, 0, 1), atol=1e-6)


def test_gray_and_colour_stand_for_each_other() -> None:
    luma = np.asarray(Image.fromarray(COLOUR).convert("L"))

    np.testing.assert_array_equal(to_channels(COLOUR, 1)[..., 0], luma)
    np.testing.assert_allclose(to_channels(COLOUR.astype(np.float32), 1)[..., 0], luma, atol=0.6)
    np.testing.assert_array_equal(to_channels(GRAY[..., None], 3), np.dstack([GRAY] * 3))
    assert to_channels(COLOUR, 4) is COLOUR


def header_alone(width: int, height: int) -> bytes:
    """A PNG file that states a size, and holds no pixels."""
    sizes = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    chunk = b"IHDR" + sizes
    return (
        b"\x89PNG\r\n\x1a\n"
        + len(sizes).to_bytes(4)
        + chunk
        + zlib.crc32(chunk).to_bytes(4)
        + b"\0\0\0\0IDAT"
        + zlib.crc32(b"IDAT").to_bytes(4)
    )


def test_a_damaged_or_huge_file_is_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole, "PNG")
    contents = {
        "cut.png": whole.getvalue()[:4000],
        "empty.jpg": b"",
        "text.tif": b"no image at all",
        "text.dcm": b"no image at all",
        "wide.png": header_alone(2**14, MAX_PIXELS // 2**14 + 1),
        "bomb.png": header_alone(2**20, 2**20),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"image .*{name} .*leave it out\.$") as refused:
            decode_file(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_a_dicom_file_of_many_frames_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", np.stack([GRAY] * 3), 12)

    with pytest.raises(InputError, match="holds 3 frames"):
        decode_file(path)
