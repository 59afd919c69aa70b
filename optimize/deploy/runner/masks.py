"""Writes masks beside the names of their images: PNG, NIfTI where the image was NIfTI, and .npy for other volumes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from .images import nifti
from .images.png import SIGNATURE
from .preprocess import Array


def write(folder: Path, name: str, source: Path, mask: Array) -> Path:
    """Write one mask and return its file.

    Args:
        folder: folder to write into, which exists.
        name: name of the file, without its ending.
        source: file of the image.
        mask: class numbers (*spatial) of uint8 or uint16, or bool (*spatial), which is written as 0 and 255.
    """
    values = mask.astype(np.uint8) * np.uint8(255) if mask.dtype == bool else mask
    with source.open("rb") as stream:
        is_nifti = nifti.matches(source, stream.read(352))
    if is_nifti:
        return _write_nifti(folder / f"{name}.nii.gz", source, values)
    if values.ndim != 2:
        path = folder / f"{name}.npy"
        np.save(path, values, allow_pickle=False)
        return path
    path = folder / f"{name}.png"
    path.write_bytes(as_png(values))
    return path


def as_png(values: Array) -> bytes:
    """Return (H, W) of uint8 or uint16 as a grey PNG, or (H, W, 3) of uint8 as RGB."""
    height, width = values.shape[:2]
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    # the byte before each row names its filter: none
    stored = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, 2 if values.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(stored)), (b"IEND", b""))
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    return SIGNATURE + b"".join(packed)


def _write_nifti(path: Path, source: Path, values: Array) -> Path:
    """Write a mask with the position in space of its image, so that viewers lay one over the other."""
    import nibabel

    image = nifti.opened(source)
    nibabel.save(nibabel.Nifti1Image(values.reshape(image.shape), image.affine), path)
    return path
