"""Decode one image file: PNG, JPEG, TIFF, BMP or WebP with Pillow, DICOM with pydicom.

What is stored in many ways comes out in one, as a viewer shows it:

    8 bits, palette, black and white     uint8 (H, W, 1) or (H, W, 3); an alpha channel is dropped
    16 bits                              float32 (H, W, 1), 0 to 1: divided by 65535
    floats (TIFF)                        float32 (H, W, 1), as stored
    EXIF orientation                     applied, so that up is up
    DICOM                                modality LUT or rescale slope, then the first VOI window, to float32 0 to 1; without a window the
                                         rescaled values, as float32; MONOCHROME1 is inverted, so that bright is bright

A file is not trusted: the pixels that its header states are bounded before they are decoded.
"""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.array_types import Array
from optimize.data.image_packages import image_package
from optimize.errors import InputError, printable
from optimize.loading.factory import describe

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DICOM = (".dcm", ".dicom")
MAX_PIXELS = 2**26
"""Most pixels of one image, 8192 x 8192: a small file can state far more, and would take all memory."""


def is_image_name(name: str) -> bool:
    """Return whether a file of this name is decoded: its ending says so, and it is no file that systems leave behind.

    Example:
        >>> [is_image_name(name) for name in ("a.PNG", "scan.dcm", "._a.png", "Thumbs.db", "notes.txt")]
        [True, True, False, False, False]
    """
    return not name.startswith(".") and name.lower().endswith((*PHOTOGRAPHS, *DICOM))


def decode_file(path: str | Path) -> Array:
    """Return the image in a file, (H, W, C), uint8 or float32; the same file gives the same image.

    Raises:
        InputError: when the file cannot be read as an image, states more than `MAX_PIXELS` pixels, or the package that reads it is missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (5, 4), 7).save(f"{folder}/a.png")
        ...     decode_file(f"{folder}/a.png").shape
        (4, 5, 1)
    """
    return _decoded(path, str(path), str(path))


def decode_bytes(content: bytes, name: str, where: str) -> Array:
    """Return the image in the bytes of a file, as `decode_file` does.

    Args:
        content: bytes of the file.
        name: name of the file; its ending says whether it is DICOM.
        where: what it is, for errors.

    Raises:
        InputError: when the bytes cannot be read as an image, or state more than `MAX_PIXELS` pixels.
    """
    return _decoded(BytesIO(content), name, where)


def _decoded(file: str | Path | BytesIO, name: str, where: str) -> Array:
    read, shown = _dicom if name.lower().endswith(DICOM) else _photograph, printable(where)
    try:
        return read(file, shown)
    except InputError:
        raise
    except Exception as problem:  # whatever the library that reads a format raises on a damaged file
        raise InputError(f"`data`: image {shown} cannot be read ({describe(problem)}): copy it again, or leave it out.") from problem


def to_channels(image: Array, channels: int) -> Array:
    """Return an image (H, W, C) with the network's number of channels, where gray and colour can stand for each other; else as it is.

    Gray is repeated for three channels. Colour becomes gray by the luma of ITU-R BT.601, as in Pillow.

    Example:
        >>> to_channels(np.full((1, 1, 3), (255, 0, 0), np.uint8), 1).tolist()
        [[[76]]]
    """
    stored = image.shape[-1]
    if stored == 1 and channels == 3:
        return np.repeat(image, 3, axis=-1)
    if stored == 3 and channels == 1:
        if image.dtype == np.uint8:
            # Pillow's own whole-number weights, so that the result is the same to the bit
            luma = image.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
            return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
        return np.asarray(image @ np.array([0.299, 0.587, 0.114], image.dtype))[..., None]
    return image


def _photograph(file: str | Path | BytesIO, shown: str) -> Array:
    with _package("PIL.Image", shown).open(file) as image:
        _require_bounded(shown, *image.size)
        upright = _package("PIL.ImageOps", shown).exif_transpose(image)
        mode = upright.mode
        # "I" is what Pillow makes of 16-bit PNG files in some versions
        if mode.startswith("I"):
            return (np.asarray(upright, dtype=np.float32) / np.float32(65535))[..., None]
        if mode == "F":
            return np.asarray(upright, dtype=np.float32)[..., None]
        gray = mode in ("L", "LA", "1")
        pixels = np.asarray(upright.convert("L" if gray else "RGB"))
    return pixels[..., None] if gray else pixels


def _dicom(file: str | Path | BytesIO, shown: str) -> Array:
    pydicom = _package("pydicom", shown)
    pixels = import_module("pydicom.pixels")
    stored = pydicom.dcmread(file)
    frames = int(getattr(stored, "NumberOfFrames", None) or 1)
    if frames > 1:
        raise InputError(f"`data`: image {shown} holds {frames} frames: store each as a file of its own.")
    _require_bounded(shown, int(stored.Columns), int(stored.Rows))
    # colour comes out as RGB, whatever it is stored in
    raw = pixels.pixel_array(stored)
    if raw.ndim == 3:
        return np.asarray(raw) if raw.dtype == np.uint8 else (raw / np.float32(2**stored.BitsStored - 1)).astype(np.float32)
    inverted = stored.PhotometricInterpretation == "MONOCHROME1"
    values = pixels.apply_modality_lut(raw, stored)
    if stored.get("VOILUTSequence") or stored.get("WindowCenter") not in (None, ""):
        low, top = _shown_range(stored)
        gray = (np.asarray(pixels.apply_voi_lut(values, stored, index=0), dtype=np.float64) - low) / (top - low)
        return np.asarray(1 - gray if inverted else gray, dtype=np.float32)[..., None]
    if inverted:
        # mirrored within what can be stored, and not within this image, so that all images of one device stay comparable
        lowest = -(2 ** (stored.BitsStored - 1)) if stored.PixelRepresentation else 0
        mirrored = 2 * lowest + 2**stored.BitsStored - 1 - raw.astype(np.int64)
        values = pixels.apply_modality_lut(mirrored.astype(raw.dtype), stored)
    return np.asarray(values, dtype=np.float32)[..., None]


def _shown_range(stored: Any) -> tuple[float, float]:
    """Return the smallest and the largest value that a DICOM file's VOI transform gives: its black and its white."""
    if stored.get("VOILUTSequence"):
        return 0.0, 2.0 ** stored.VOILUTSequence[0].LUTDescriptor[2] - 1
    center, width = (float(np.atleast_1d(stored[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    # what lies far outside of the window becomes black or white; by pydicom itself, which knows all forms of windows
    outside = np.array([center - 100 * width, center + 100 * width])
    low, top = import_module("pydicom.pixels").apply_voi_lut(outside, stored, index=0)
    return float(low), float(top)


def _require_bounded(shown: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        stated = f"`data`: image {shown} states {width}x{height} pixels"
        raise InputError(f"{stated}, more than {MAX_PIXELS:,} are not decoded: store it smaller, or leave it out.")


def _package(module: str, shown: str) -> Any:
    return image_package(module, f"`data`: image {shown}")
