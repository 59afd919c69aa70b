"""A TorchScript file (torch.jit.save), traced or scripted. It is read only when the user trusts its author (`trust_pickle`).

Such a file is a program: reading it runs what its modules do when they are set up, and torch promises no safety against a hostile one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from optimize.errors import InputError
from optimize.loading.by_way_of_onnx import script_network
from optimize.loading.factory import describe
from optimize.loading.foreign_files import SAVE_INSTEAD, ZIP, zip_names
from optimize.loading.model_formats import NetworkFile, ShapedNetwork

NAMED = "TorchScript"


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is a zip archive with code of TorchScript in it."""
    if not head.startswith(ZIP):
        return False
    names = zip_names(path)
    return any(name.rpartition("/")[2] == "constants.pkl" for name in names) and any("/code/" in name for name in names)


def read(path: Path, *, trust_pickle: bool, code: Path) -> NetworkFile:
    """Return the file as what builds its network.

    Raises:
        InputError: when the user has not said that the author of the file is trusted.
    """
    if not trust_pickle:
        raise InputError(
            f"`model` (={path}) is TorchScript, which is a program, and torch runs it: {SAVE_INSTEAD}, or pass the network as ONNX, "
            "or pass --trust-pickle if you trust its author."
        )
    return NetworkFile(partial(_built, path))


def _built(path: Path, input_shape: Sequence[int]) -> ShapedNetwork:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the format, which people have all the same
            script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as problem:  # whatever torch raises on a damaged file
        raise InputError(f"`model` (={path}) cannot be read as TorchScript ({describe(problem)[:200]}): save it again.") from problem
    return script_network(script, path, input_shape)
