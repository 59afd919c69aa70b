"""Find the network's weights, or the whole network, in a file.

How the file is read is up to its format (`optimize.loading.model_formats`). Its content may be nested, because training scripts save
weights beside an epoch, an optimizer's state and a running average of the weights. Example:

    {"epoch": 90,                                    no tensors: left out
     "state_dict": {"conv.weight": …},               taken: a usual name
     "state_dict_ema": {"conv.weight": …},           a running average: left out, with a note on `--weights state_dict_ema`
     "optimizer": {"state": {0: {…}}, …}}            no tensors by name: left out
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.loading.foreign_files import SAVE_INSTEAD
from optimize.loading.model_formats import NetworkFile, format_of

Weights: TypeAlias = dict[str, torch.Tensor]

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_AVERAGED = re.compile(r"(^|[_.\- ])(ema|swa|avg|averaged?|shadow|polyak|teacher)([_.\- ]|$)")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a file of weights.

    Args:
        content: the weights by name, or the whole network, or a file that builds one.
        notes: sentences on which of several sets of weights was taken, and how to take another one.
    """

    content: nn.Module | Weights | NetworkFile
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, *, trust_pickle: bool = False, code: Path | None = None, weights: str | None = None) -> Checkpoint:
    """Read the weights, or with `trust_pickle` possibly the whole network, that a file holds.

    Weights nested under `state_dict`, `model_state_dict` or `model`, or under the only name that holds tensors, are unwrapped. Where the
    file also holds their running average (EMA, SWA), the weights themselves are taken.

    Args:
        path: a file that one of the formats in `optimize/loading/formats/` recognises, under any name.
        trust_pickle: the user trusts the file's author to run code here.
        code: folder a trusted pickle may import its classes from; None for the folder of the file.
        weights: name, or beginning of the names, of the weights to take; None for the choice above.

    Raises:
        InputError: when there is no such file, when it is damaged, of another kind, or a pickle that was not trusted; when there are no
            such weights in it, or several and none was chosen.
    """
    format = format_of(path)
    try:
        content = format.read(path, trust_pickle=trust_pickle, code=code or path.absolute().parent)
    except InputError:
        raise
    except Exception as problem:  # whatever the library that reads a format raises on a damaged file
        raise InputError(f"`model` (={path}) is damaged {format.NAMED} ({describe(problem)}): copy it again.") from problem
    return _unwrap(content, path, weights)


def averaged(name: str) -> bool:
    """Return whether weights under this name, such as `ema`, `state_dict_ema`, `swa_model` or `netEMA`, are a running average of others."""
    return _AVERAGED.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


def _unwrap(loaded: object, path: Path, chosen_name: str | None) -> Checkpoint:
    """Return the one set of weights in nested containers: the one of that name, or the one that `_choice` takes at each level."""
    notes: tuple[str, ...] = ()
    if isinstance(loaded, NetworkFile):
        return Checkpoint(loaded)
    # a name that the user gave may lie at any depth; after it the usual choice goes on inside
    if chosen_name is not None:
        loaded = _under(loaded, chosen_name, path)
    while isinstance(loaded, Mapping):
        inner = {str(key): value for key, value in loaded.items() if isinstance(value, nn.Module) or _has_tensors(value)}
        if not inner:
            break
        chosen = _choice(list(inner), path)
        # a set of half the size or more may be another network, as a teacher is, so the note names it; a small one is a loss or a counter
        alternatives = [key for key in inner if key != chosen and (averaged(key) or _size(inner[key]) >= _size(inner[chosen]) / 2)]
        unnamed = [name for name in _lists(loaded) if averaged(name)]
        if chosen_name is None and (alternatives or unnamed):
            notes = (*notes, _note(chosen, alternatives, unnamed))
        loaded = inner[chosen]
    if isinstance(loaded, nn.Module):
        # a wrapper for several GPUs or for averaging holds the network itself as `module`
        return Checkpoint(loaded.module if isinstance(loaded, nn.DataParallel | AveragedModel) else loaded, notes)
    if not isinstance(loaded, Mapping):
        raise InputError(f"`model` (={path}) holds a {type(loaded).__name__}, not named weights: {SAVE_INSTEAD}.")
    no_tensors = [str(key) for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, torch.Tensor))]
    if no_tensors or not loaded:
        content = f"entries that are no tensors ({', '.join(no_tensors[:3])})" if no_tensors else "no weights"
        raise InputError(f"`model` (={path}) holds {content}: {SAVE_INSTEAD}.")
    return Checkpoint(dict(loaded), notes)


def _choice(keys: list[str], path: Path) -> str:
    """Return the name of the set of weights that is taken where the user named none: a usual name, else the only one that is no average."""
    # each rule decides only where it leaves one name; a usual name first, then the only set that is no average, then the only set
    for several in ([key for key in _NESTED_UNDER if key in keys][:1], [key for key in keys if not averaged(key)], keys):
        if len(several) == 1:
            return several[0]
    raise InputError(f"`model` (={path}) holds several sets of weights ({', '.join(keys)}): choose one, such as --weights {keys[0]}.")


def _note(chosen: str, alternatives: list[str], unnamed: list[str]) -> str:
    text = f"the weights are those under `{chosen}`"
    if alternatives:
        text += f"; the file also holds `{'`, `'.join(alternatives)}`: take them with --weights {alternatives[0]}"
    if unnamed:
        text += f"; `{unnamed[0]}` holds averaged weights without names: to take those, copy them into the model and save its state_dict"
    return text


def _under(loaded: object, name_of_set: str, path: Path) -> object:
    """Return what the file holds under a name, at any depth, or under names that begin with it."""
    sets = dict(_sets(loaded))
    for name, value in sets.items():
        if name == name_of_set or name.endswith(f".{name_of_set}"):
            return value
    for value in (loaded, *sets.values()):
        if isinstance(value, Mapping):
            part = {key: tensor for key, tensor in value.items() if isinstance(key, str) and key.startswith(f"{name_of_set}.")}
            if any(isinstance(tensor, torch.Tensor) for tensor in part.values()):
                return {key.removeprefix(f"{name_of_set}."): tensor for key, tensor in part.items()}
    firsts = dict.fromkeys(str(key).partition(".")[0] for key in (loaded if isinstance(loaded, Mapping) else ()))
    names = list(sets) or [first for first in firsts if first]
    held = ", ".join(names[:8]) or "no weights by name"
    raise InputError(f"`--weights` (={name_of_set}) is nothing in `model` (={path}): it holds {held}.")


def _sets(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield all sets of weights by dotted name, outer ones first."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(part, nn.Module) or _has_tensors(part):
                inner = f"{name}.{key}".lstrip(".")
                yield inner, part
                yield from _sets(part, inner)


def _lists(loaded: Mapping[Any, Any], name: str = "") -> Iterator[str]:
    """Yield the names of lists of tensors, at most two levels down."""
    for key, value in loaded.items():
        inner = f"{name}.{key}".lstrip(".")
        if isinstance(value, list | tuple) and value and all(isinstance(tensor, torch.Tensor) for tensor in value):
            yield inner
        elif isinstance(value, Mapping) and not name:
            yield from _lists(value, inner)


def _size(value: object) -> int:
    """Return the number of tensors in a set of weights, at any depth."""
    if isinstance(value, nn.Module):
        return len(value.state_dict())
    return sum(map(_size, value.values())) if isinstance(value, Mapping) else int(isinstance(value, torch.Tensor))


def _has_tensors(value: object) -> bool:
    """Return whether a value is, or holds one level down, a mapping of names to tensors; an optimizer's state is keyed by number."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    named = [entry for key, entry in value.items() if isinstance(key, str)]
    return any(isinstance(entry, torch.Tensor | nn.Module) or _has_tensors(entry) for entry in named)
