"""What is inside a file of weights: recognised by its content, never by its name, and read without running anything in it.

A pickle is a program. `torch.load(weights_only=True)` runs none of it and refuses whatever is not plain tensors and containers; only the
user's own word (`trust_pickle`) lifts that, and only for a file that was refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from optimize.errors import InputError
from optimize.loading.factory import describe, user_code
from optimize.loading.foreign_files import foreign, model_folder

Weights: TypeAlias = dict[str, torch.Tensor]

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_AVERAGED = re.compile(r"(^|[_.\- ])(ema|swa|avg|averaged?|shadow|polyak|teacher)([_.\- ]|$)")
_SAVE_INSTEAD = "save model.state_dict() with torch.save and pass --arch file.py:factory"
# Training scripts keep a numpy score, the state of numpy's generator or their arguments beside the weights: plain values that run nothing.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
_HARMLESS: tuple[Any, ...] = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    (_ARRAY, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "bool", "U1", "S1")),
    argparse.Namespace,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds.

    Args:
        content: the weights by name, or the whole network.
        notes: which of several sets of weights they are, and how to take another one.
    """

    content: nn.Module | Weights
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, *, trust_pickle: bool = False, code: Path | None = None, weights: str | None = None) -> Checkpoint:
    """Read the weights, or with `trust_pickle` possibly the whole network, that a file holds.

    Weights nested under `state_dict`, `model_state_dict` or `model`, or under the only name that holds tensors, are unwrapped. Where the
    file also holds their running average (EMA, SWA), the weights themselves are taken.

    Args:
        path: a PyTorch file (zip or legacy) or safetensors, under any name.
        trust_pickle: the user trusts the file's author to run code here.
        code: folder a trusted pickle may import its classes from; by default the one the file lies in.
        weights: name, or beginning of the names, of the weights to take; None for the choice above.

    Raises:
        InputError: when there is no such file, when it is damaged, of another kind, or a pickle that was not trusted; when there are no
            such weights in it, or several and none was chosen.
    """
    head = first_bytes(path)
    if head[8:9] == b"{" and head[9:10] in b'"} \n':
        try:
            return _unwrap(_safetensors(path), path, weights)
        except (SafetensorError, OSError) as problem:
            raise InputError(f"`model` (={path}) is damaged safetensors ({describe(problem)}): copy it again.") from problem
    _refuse_foreign(path, head)
    return _unwrap(_torch_load(path, trust_pickle, (code or path.absolute().parent)), path, weights)


def averaged(name: str) -> bool:
    """Whether weights under this name, such as `ema`, `state_dict_ema`, `swa_model` or `netEMA`, are a running average of others."""
    return _AVERAGED.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


def _safetensors(path: Path) -> Weights:
    """The tensors, tied ones under each of their names: of several `save_model` writes one, and the others into the metadata."""
    found: Weights = load_file(path)
    with safe_open(path, framework="pt") as file:
        tied = dict(file.metadata() or {})
    return found | {name: found[kept] for name, kept in tied.items() if kept in found and name not in found}


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
        refused = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|load of|but got <class) '?([\w.]+)", str(problem))
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


def _unwrap(loaded: object, path: Path, wanted: str | None) -> Checkpoint:
    notes: tuple[str, ...] = ()
    asked = wanted is not None
    if wanted is not None:
        loaded = _under(loaded, wanted, path)
    while isinstance(loaded, Mapping):
        inner = {str(key): value for key, value in loaded.items() if isinstance(value, nn.Module) or _has_tensors(value)}
        if not inner:
            break
        chosen = _choice(list(inner), path)
        others = [key for key in inner if key != chosen and (averaged(key) or _size(inner[key]) >= _size(inner[chosen]) / 2)]
        unnamed = [name for name in _lists(loaded) if averaged(name)]
        if not asked and (others or unnamed):
            notes = (*notes, _told(chosen, others, unnamed))
        loaded = inner[chosen]
    if isinstance(loaded, nn.Module):
        return Checkpoint(loaded.module if isinstance(loaded, nn.DataParallel | AveragedModel) else loaded, notes)
    if not isinstance(loaded, Mapping):
        raise InputError(f"`model` (={path}) holds a {type(loaded).__name__}, not named weights: {_SAVE_INSTEAD}.")
    other = [str(key) for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]
    if other or not loaded:
        found = f"entries that are no tensors ({', '.join(other[:3])})" if other else "no weights"
        raise InputError(f"`model` (={path}) holds {found}: {_SAVE_INSTEAD}.")
    return Checkpoint(dict(loaded), notes)


def _choice(keys: list[str], path: Path) -> str:
    """The set of weights that is taken where nobody chose."""
    for several in ([key for key in _NESTED_UNDER if key in keys][:1], [key for key in keys if not averaged(key)], keys):
        if len(several) == 1:
            return several[0]
    raise InputError(f"`model` (={path}) holds several sets of weights ({', '.join(keys)}): choose one, such as --weights {keys[0]}.")


def _told(chosen: str, others: list[str], unnamed: list[str]) -> str:
    text = f"the weights are those under `{chosen}`"
    if others:
        text += f"; the file also holds `{'`, `'.join(others)}`: take them with --weights {others[0]}"
    if unnamed:
        text += f"; `{unnamed[0]}` holds averaged weights without names: to take those, copy them into the model and save its state_dict"
    return text


def _under(loaded: object, wanted: str, path: Path) -> object:
    """What the file holds under a name, at any depth, or under names that begin with it."""
    sets = dict(_sets(loaded))
    for name, value in sets.items():
        if name == wanted or name.endswith(f".{wanted}"):
            return value
    for value in (loaded, *sets.values()):
        if isinstance(value, Mapping):
            part = {key: tensor for key, tensor in value.items() if isinstance(key, str) and key.startswith(f"{wanted}.")}
            if any(isinstance(tensor, torch.Tensor) for tensor in part.values()):
                return {key.removeprefix(f"{wanted}."): tensor for key, tensor in part.items()}
    firsts = dict.fromkeys(str(key).partition(".")[0] for key in (loaded if isinstance(loaded, Mapping) else ()))
    names = list(sets) or [first for first in firsts if first]
    raise InputError(f"`--weights` (={wanted}) is nothing in `model` (={path}): it holds {', '.join(names[:8]) or 'no weights by name'}.")


def _sets(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """All sets of weights, outer ones first, by dotted name."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(part, nn.Module) or _has_tensors(part):
                inner = f"{name}.{key}".lstrip(".")
                yield inner, part
                yield from _sets(part, inner)


def _lists(loaded: Mapping[Any, Any], name: str = "") -> Iterator[str]:
    """Names of lists of tensors, two levels down at most."""
    for key, value in loaded.items():
        inner = f"{name}.{key}".lstrip(".")
        if isinstance(value, list | tuple) and value and all(isinstance(each, torch.Tensor) for each in value):
            yield inner
        elif isinstance(value, Mapping) and not name:
            yield from _lists(value, inner)


def _size(value: object) -> int:
    """How many tensors a set of weights holds, at any depth."""
    if isinstance(value, nn.Module):
        return len(value.state_dict())
    return sum(map(_size, value.values())) if isinstance(value, Mapping) else int(isinstance(value, torch.Tensor))


def _has_tensors(value: object) -> bool:
    """Whether a value is, or holds one level down, a mapping of names to tensors; an optimizer's state is keyed by number."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    named = [entry for key, entry in value.items() if isinstance(key, str)]
    return any(isinstance(entry, torch.Tensor | nn.Module) or _has_tensors(entry) for entry in named)
