"""Ranges of activations that were measured before, for the next quantization of the same file with the same inputs.

Mixes of one network differ in the layers that stay in float. The ranges are measured on the float network in any case, so all mixes share
them: of three dozen mixes one runs the calibration inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from optimize.candidate import Floats

MAX_KEPT = 4
"""Largest number of files whose ranges are kept, a few kilobytes each: those of all inputs and of a few, for two networks."""
_kept: dict[str, str] = {}


@contextmanager
def ranges_file(onnx: Path, inputs: Floats, folder: Path) -> Iterator[Path]:
    """Yield a file of ranges for `quantize_static`, which reads it where it exists and writes it where it does not.

    Args:
        onnx: file of the float model.
        inputs: calibration inputs, (N, C, *spatial).
        folder: temporary folder that the file is written to.
    """
    made_for = hashlib.sha256(onnx.read_bytes())
    made_for.update(repr(inputs.shape).encode())
    made_for.update(np.ascontiguousarray(inputs).data)
    key, file = made_for.hexdigest(), folder / "ranges.json"
    if key in _kept:
        file.write_text(_kept[key], encoding="utf-8")
    yield file
    if file.is_file():
        # the oldest goes first: a dict keeps the order of its entries
        _kept[key] = file.read_text(encoding="utf-8")
        while len(_kept) > MAX_KEPT:
            del _kept[next(iter(_kept))]
