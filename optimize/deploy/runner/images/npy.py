"""Arrays of numpy, as they were saved for the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import WrongInput
from . import Picture

NAME = "npy"
ENDINGS = (".npy",)


def matches(path: Path, head: bytes) -> bool:
    """Return whether a file is an array of numpy."""
    return head.startswith(b"\x93NUMPY")


def read(path: Path) -> Picture:
    """Return the array of a file: one image, or a stack of them, which stays on disk until it is used.

    Raises:
        WrongInput: when it holds objects, or is damaged.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError) as problem:
        said = " ".join(str(problem).split())[:200]
        raise WrongInput(f"`{path}` is no array that can be read ({said}): save numbers with numpy.save.") from None
    return Picture(np.asarray(values), as_stored=True)
