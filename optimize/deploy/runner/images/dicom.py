"""DICOM, where pydicom is installed: the stored values, with slope and intercept of the file applied where it has them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import WrongInput
from . import MAX_BYTES, Picture

NAME = "DICOM (with pydicom)"
ENDINGS = (".dcm",)
_MAGIC_AT = 128
_SIZES = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")
_LARGEST_SAMPLE = 4
"""Bytes of the largest sample that DICOM has."""


def matches(path: Path, head: bytes) -> bool:
    """Return whether a file is DICOM with its preamble."""
    return head[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM"


def read(path: Path) -> Picture:
    """Return the pixels of a file: (H, W), (H, W, 3), or (frames, H, W).

    Values are those that the modality defines: stored value * slope + intercept, such as Hounsfield units; without a slope, as stored.
    No window is applied.

    Raises:
        WrongInput: when pydicom is not installed, the pixels cannot be decoded, or the file shows white as its smallest value.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_rescale
    except ImportError:
        raise WrongInput(f"`{path}` is DICOM, and pydicom is not installed: pip install pydicom, or give PNG or .npy.") from None
    try:
        dataset = pydicom.dcmread(path)
        # unpacked they may be far larger than the file
        if math.prod(int(dataset.get(name) or 1) for name in _SIZES) * _LARGEST_SAMPLE > MAX_BYTES:
            raise ValueError(f"its pixels take more than {MAX_BYTES >> 20} MiB")
        values, kind = dataset.pixel_array, str(dataset.PhotometricInterpretation)
        rescaled = "RescaleSlope" in dataset and "RescaleIntercept" in dataset
        changes = rescaled and (float(dataset.RescaleSlope), float(dataset.RescaleIntercept)) != (1.0, 0.0)
        values = apply_rescale(values, dataset) if changes else values
    except Exception as problem:  # whatever pydicom and its decoders raise about a file that comes from outside
        said = " ".join(str(problem).split())[:200]
        raise WrongInput(f"`{path}` cannot be read as DICOM ({said}): give it uncompressed, or as .npy.") from None
    if kind not in ("MONOCHROME2", "RGB"):
        raise WrongInput(f"`{path}` is {kind[:40]!a}, read are MONOCHROME2 and RGB: convert it as for the run, or give .npy.")
    return Picture(np.asarray(values), channels_last=kind == "RGB")
