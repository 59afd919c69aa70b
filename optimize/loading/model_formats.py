"""Find the format of a model's file by its content, never by its name.

Each module in `optimize/loading/formats/` is one format. The folder is looked through at each call, so a new format is a new file there,
and nothing else: the command, `load_model` and the errors for files that cannot be read know it at once.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from torch import nn

from optimize.errors import InputError
from optimize.loading import formats
from optimize.loading.factory import describe
from optimize.loading.foreign_files import unsupported_folder_reason, unsupported_reason

HEAD_BYTES = 64


class ShapedNetwork(nn.Module):
    """A network whose file says what its input is.

    Attributes:
        input_shape: shape of one input, (C, *spatial).
        notes: sentences on what was read from the file.
    """

    input_shape: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NetworkFile:
    """A file that holds a whole network, and may leave the size of its input open.

    Args:
        build: (C, *spatial) as the user gave it, or nothing -> the network.
    """

    build: Callable[[Sequence[int]], ShapedNetwork]


class ModelFormat(Protocol):
    """The functions and names that a module in `optimize/loading/formats/` must define.

    A library that only this format needs is imported inside `read`, so that the others work without it.

    Attributes:
        NAMED: the format as it is named in errors, without an article: "safetensors".
    """

    NAMED: str

    def recognises(self, path: Path, head: bytes) -> bool:
        """Return whether a file, or a folder, is of this format.

        Args:
            path: path of the file or folder.
            head: the first `HEAD_BYTES` bytes of the file, or fewer where it is shorter; empty for a folder.
        """

    def read(self, path: Path, *, trust_pickle: bool, code: Path) -> object:
        """Return the weights as a mapping of names to tensors, which may be nested; or the whole network, as a module or a `NetworkFile`.

        Nothing in the file may be executed unless `trust_pickle` is true. What this raises becomes one line that calls the file damaged.

        Args:
            path: path of the file.
            trust_pickle: whether the user trusts the file's author to run code here; a format that runs none ignores it.
            code: folder that trusted code may import its classes from.
        """


def model_formats() -> list[ModelFormat]:
    """Return all formats, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    return [cast(ModelFormat, import_module(f"{formats.__name__}.{name}")) for name in names]


def format_of(path: Path) -> ModelFormat:
    """Return the first format that recognises the file; no weights are read.

    Raises:
        InputError: when there is no such file, it is empty, it cannot be opened, or no format recognises it; the line says what the file
            seems to be, and what to do instead.
    """
    head = _first_bytes(path)
    for format in model_formats():
        if format.recognises(path, head):
            return format
    names = [format.NAMED for format in model_formats()]
    raise InputError(
        f"`model` (={path}) {unsupported_folder_reason(path, names) if path.is_dir() else unsupported_reason(path, head, names)}."
    )


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise InputError(f"`model` (={path}) does not exist: check the path.")
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as problem:
        raise InputError(f"`model` (={path}) cannot be opened ({describe(problem)}): see to its permissions.") from problem
    if not head:
        raise InputError(f"`model` (={path}) is empty: copy it again.")
    return head
