"""A program that `torch.export.save` wrote (.pt2). It is read only when the user trusts its author (`trust_pickle`).

`torch.export.load` can run what a file says: it evaluates the expressions of dynamic sizes as Python (`sympy.sympify`), unpickles
constants that are objects (`pickle.loads`), and loads compiled libraries (`data/aotinductor/`). None of them goes through `torch.load`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from optimize.errors import InputError
from optimize.loading.by_way_of_onnx import rebuilt_from_onnx
from optimize.loading.factory import describe
from optimize.loading.foreign_files import ZIP, zip_names
from optimize.loading.model_formats import NetworkFile, ShapedNetwork

NAMED = "exported program (.pt2)"
MARKS = {"archive_format", "serialized_exported_program.json"}


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is a zip archive with the marks of an exported program."""
    return head.startswith(ZIP) and bool({name.rpartition("/")[2] for name in zip_names(path)} & MARKS)


def read(path: Path, *, trust_pickle: bool, code: Path) -> NetworkFile:
    """Return the file as what builds its network.

    Raises:
        InputError: when the user has not said that the author of the file is trusted.
    """
    if not trust_pickle:
        raise InputError(
            f"`model` (={path}) is an exported program (.pt2), and torch can run what is written in one while it reads it: pass the "
            "network as ONNX (torch.onnx.export), or pass --trust-pickle if you trust its author."
        )
    return NetworkFile(partial(_built, path))


def _built(path: Path, input_shape: Sequence[int]) -> ShapedNetwork:
    try:
        with _weights_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on versions of the format, which torch reads all the same
            program = torch.export.load(path)
    except Exception as problem:  # whatever torch raises on a damaged file, or on one that wants to run something
        raise InputError(f"`model` (={path}) cannot be read as an exported program ({describe(problem)}): export it again.") from problem

    def write(onnx: Path) -> None:
        written = torch.onnx.export(program, (), dynamo=True, verbose=False)
        assert written is not None
        written.save(onnx)

    return rebuilt_from_onnx(path, write, input_shape)


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let `torch.load` read tensors alone while the block runs, whatever its caller asks for."""
    original = torch.load

    def load(*args: Any, **settings: Any) -> Any:
        return original(*args, **{**settings, "weights_only": True})

    torch.load = load
    try:
        yield
    finally:
        torch.load = original
