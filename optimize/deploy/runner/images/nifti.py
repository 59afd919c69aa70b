"""NIfTI, where nibabel is installed: the values with the file's scaling, with the axes in the order of the file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WrongInput
from . import MAX_BYTES, Picture

NAME = "NIfTI (with nibabel)"
ENDINGS = (".nii", ".nii.gz")
_MAGICS = {344: (b"n+1\0",), 4: (b"n+2\0\r\n\x1a\n",)}
"""Place in the file -> magic bytes there, of NIfTI-1 and NIfTI-2."""


def matches(path: Path, head: bytes) -> bool:
    """Return whether a file is NIfTI in one piece; packed ones are known by their name, .nii.gz."""
    if path.name.lower().endswith(".nii.gz"):
        return head.startswith(b"\x1f\x8b")
    return any(head[place:].startswith(magics) for place, magics in _MAGICS.items())


def read(path: Path) -> Picture:
    """Return the values of a file, (X, Y, Z) as they lie in it: nothing is turned to another orientation.

    Raises:
        WrongInput: when nibabel is not installed, or the file is damaged or too large.
    """
    image = opened(path)
    try:
        # unpacked it may be far larger than the file
        if math.prod(image.shape) * image.get_data_dtype().itemsize > MAX_BYTES:
            raise ValueError(f"its numbers take more than {MAX_BYTES >> 20} MiB")
        return Picture(np.asarray(image.dataobj))
    except Exception as problem:  # whatever nibabel raises about a file that comes from outside
        raise _damaged(path, problem) from None


def opened(path: Path) -> Any:
    """Return a file as nibabel opens it; its header alone is read.

    Raises:
        WrongInput: when nibabel is not installed, or the file is damaged.
    """
    try:
        import nibabel
    except ImportError:
        raise WrongInput(f"`{path}` is NIfTI, and nibabel is not installed: pip install nibabel, or give .npy.") from None
    try:
        return nibabel.load(path)
    except Exception as problem:  # whatever nibabel raises about a file that comes from outside
        raise _damaged(path, problem) from None


def _damaged(path: Path, problem: Exception) -> WrongInput:
    said = " ".join(str(problem).split())[:200]
    return WrongInput(f"`{path}` cannot be read as NIfTI ({said}): save it again, or give .npy.")
