"""What is inside a file of weights: recognised by its content, never by its name, and read without running anything in it.

A pickle is a program. `torch.load(weights_only=True)` runs none of it and refuses whatever is not plain tensors and containers; only the
user's own word (`trust_pickle`) lifts that, and only for a file that was refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from optimize.errors import InputError
from optimize.factory import describe, user_code
from optimize.foreign import foreign, model_folder

Weights: TypeAlias = dict[str, torch.Tensor]

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_SAVE_INSTEAD = "save model.state_dict() with torch.save and pass --arch file.py:factory"
# Training scripts keep a numpy score or their arguments beside the weights: plain values that run nothing.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: tuple[Any, ...] = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")),
    argparse.Namespace,
)


def read_checkpoint(path: Path, *, trust_pickle: bool = False, code: Path | None = None) -> nn.Module | Weights:
    """Read the weights, or with `trust_pickle` possibly the whole network, that a file holds.

    Weights nested under `state_dict`, `model_state_dict` or `model`, or under the only name that holds tensors, are unwrapped.

    Args:
        path: a PyTorch file (zip or legacy) or safetensors, under any name.
        trust_pickle: the user trusts the file's author to run code here.
        code: folder a trusted pickle may import its classes from; by default the one the file lies in.

    Raises:
        InputError: when there is no such file, when it is damaged, of another kind, or a pickle that was not trusted.
    """
    head = first_bytes(path)
    if head[8:9] == b"{" and head[9:10] in b'"} \n':
        try:
            return _unwrap(load_file(path), path)
        except (SafetensorError, OSError) as problem:
            raise InputError(f"`model` (={path}) is damaged safetensors ({describe(problem)}): copy it again.") from problem
    _refuse_foreign(path, head)
    return _unwrap(_torch_load(path, trust_pickle, (code or path.absolute().parent)), path)


def first_bytes(path: Path) -> bytes:
    """The first 64 bytes of a file of weights.

    Raises:
        InputError: when there is no such file, it is empty, of another kind, or it cannot be opened.
    """
    if not path.exists():
        raise InputError(f"`model` (={path}) does not exist: check the path.")
    if path.is_dir():
        raise InputError(f"`model` (={path}) {model_folder(path)}.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as problem:
        raise InputError(f"`model` (={path}) cannot be opened ({describe(problem)}): see to its permissions.") from problem
    if not head:
        raise InputError(f"`model` (={path}) is empty: copy it again.")
    if (kind := foreign(path, head)) is not None:
        raise InputError(f"`model` (={path}) is {kind}.")
    return head


def _refuse_foreign(path: Path, head: bytes) -> None:
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"`model` (={path}) is a Git LFS pointer, not the weights: run `git lfs pull`.")
    kind = _zip_kind(path) if head.startswith(b"PK") else "ONNX" if head[:1] == b"\x08" or path.suffix == ".onnx" else None
    if kind is not None:
        raise InputError(f"`model` (={path}) is {kind}, which is not readable yet: {_SAVE_INSTEAD}.")


def _zip_kind(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as problem:
        raise InputError(f"`model` (={path}) is damaged or cut short ({describe(problem)}): copy it again.") from problem
    leaves = {name.rpartition("/")[2] for name in names}
    if leaves & {"archive_format", "serialized_exported_program.json"}:
        return "an exported program (.pt2)"
    if "constants.pkl" in leaves and any("/code/" in name for name in names):
        return "TorchScript"
    return None if "data.pkl" in leaves else "a zip file without PyTorch weights"


def _torch_load(path: Path, trust_pickle: bool, code: Path) -> object:
    try:
        # An open file, not its path: torch.load would go by the suffix again.
        with path.open("rb") as file, torch.serialization.safe_globals(list(_HARMLESS)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:
        refused = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|load of) ([\w.]+)", str(problem))
        # Whatever is no refusal of a name is a damaged file, and trusting its author would not mend it.
        if refused is None or not isinstance(problem, pickle.UnpicklingError):
            reason = describe(problem.__cause__ or problem).split(". ")[0]
            raise InputError(f"`model` (={path}) is damaged or no PyTorch file ({reason}): copy it again, or save it anew.") from problem
        if not trust_pickle:
            raise InputError(
                f"`model` (={path}) is a pickle that wants to run {refused[1]}, and a pickle can run anything: {_SAVE_INSTEAD}, "
                "or pass --trust-pickle if you trust its author."
            ) from problem
    with path.open("rb") as file, user_code(code, f"`model` (={path}), loaded as a trusted pickle,"):
        return torch.load(file, map_location="cpu", weights_only=False)


def _unwrap(loaded: object, path: Path) -> nn.Module | Weights:
    while isinstance(loaded, Mapping):
        inner = {key: value for key, value in loaded.items() if isinstance(value, nn.Module) or _has_tensors(value)}
        named = [key for key in _NESTED_UNDER if key in inner]
        if not named and len(inner) > 1:
            raise InputError(f"`model` (={path}) holds several sets of weights ({', '.join(map(str, inner))}): save one of them alone.")
        if not inner:
            break
        loaded = inner[named[0]] if named else next(iter(inner.values()))
    if isinstance(loaded, nn.Module):
        return loaded.module if isinstance(loaded, nn.DataParallel) else loaded
    if not isinstance(loaded, Mapping):
        raise InputError(f"`model` (={path}) holds a {type(loaded).__name__}, not named weights: {_SAVE_INSTEAD}.")
    other = [str(key) for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]
    if other or not loaded:
        found = f"entries that are no tensors ({', '.join(other[:3])})" if other else "no weights"
        raise InputError(f"`model` (={path}) holds {found}: {_SAVE_INSTEAD}.")
    return dict(loaded)


def _has_tensors(value: object) -> bool:
    """Whether a value is, or holds one level down, a mapping of names to tensors; an optimizer's state is keyed by number."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    named = [entry for key, entry in value.items() if isinstance(key, str)]
    return any(isinstance(entry, torch.Tensor | nn.Module) or _has_tensors(entry) for entry in named)
