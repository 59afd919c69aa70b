"""Timings of kernels that full TensorRT took on a GPU, kept in the user's cache folder: the next compilation times only what is new.

TensorRT for RTX times nothing when it compiles, and has nothing to keep.
"""

from __future__ import annotations

import re
from pathlib import Path

from optimize.files import cache_folder, write_atomically
from optimize.progress import note


def recall(name: str) -> bytes:
    """Return the timings of this name; none when there are none, or they cannot be read."""
    try:
        return _file(name).read_bytes()
    except OSError:
        return b""


def keep(name: str, timings: bytes) -> None:
    """Replace the timings of this name. Where that is not possible, the next compilation only takes longer."""
    file = _file(name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, timings)
    except OSError as problem:
        note(f"The timings of kernels are not kept: {problem}.")


def _file(name: str) -> Path:
    return cache_folder("timings") / f"{re.sub('[^A-Za-z0-9.]+', '-', name)}.cache"
