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
    except OSError as problem:
        raise WrongInput(f"`{path}` cannot be read ({problem.strerror or 'damaged'}): save numbers with numpy.save.") from None
    except Exception as problem:  # whatever numpy and the parsers below it raise about a file that comes from outside
        raise WrongInput(f"`{path}` is no array that can be read ({_plainly(str(problem))}): save numbers with numpy.save.") from None
    return Picture(np.asarray(values), as_stored=True)


def _plainly(said: str) -> str:
    """Return what is wrong with a file, of which numpy says only what its own calls had to complain of."""
    # the header ends early, or fewer numbers follow than it says
    if said.startswith(("EOF", "mmap length")):
        return "it is cut short"
    return "it holds objects" if "Python objects" in said else "its header is damaged"
