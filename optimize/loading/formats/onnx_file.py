"""An ONNX file: the network is rebuilt from its nodes (`optimize/loading/onnx_network.py`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from optimize.loading.model_formats import NetworkFile

NAMED = "ONNX"
LATEST_IR = 32
"""An ONNX file begins with the version of its format, a small number."""


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is a protocol buffer that begins with ONNX's version, and goes on with a text, a graph or operator sets."""
    return len(head) > 2 and head[0] == 8 and 0 < head[1] <= LATEST_IR and head[2:3] in b"\x12\x1a\x22\x2a\x32\x3a\x42"


def read(path: Path, *, trust_pickle: bool, code: Path) -> NetworkFile:
    """Return the file as what builds its network, for a shape of input that it may leave open."""
    from optimize.loading.onnx_network import read_onnx  # late: it needs onnx, and other formats do not

    return NetworkFile(partial(read_onnx, path))
