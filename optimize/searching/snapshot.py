"""A candidate on disk, without pickle: its tensors, which channels it kept, and the steps that made it.

Tensors that are those of the candidate it was made from can be left out: a step that changes two layers of a large network then costs
the disk two layers.

The structure is not stored. Steps only narrow layers, split one into several in a row, give one a bias or take one out, and all of that
shows in the shapes of the tensors and in the channels that were kept, so the original network and the file are enough to build the
candidate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Step
from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.graph.bypass import remove_layers, removed_layers
from optimize.graph.layer_types import Convolution
from optimize.graph.surgery import assign, copy_module, renumber
from optimize.graph.trace import CHANNELWISE, LINEAR_MAPS, Index
from optimize.importance import name_of, signals
from optimize.steps import steps
from optimize.steps.factorize_convolutions import parts_in_a_row

_KEPT = "kept channels of "


def save(candidate: Candidate, path: Path, since: Candidate | None = None) -> None:
    """Write the candidate as safetensors, atomically; without the tensors that are equal in `since`, which `restore` must then be given."""
    from safetensors.torch import save_file

    known = {} if since is None else since.module.state_dict()
    state = candidate.module.state_dict()
    # Example: a step refits 2 of 50 layers. 48 layers' tensors are named in the metadata only, and are taken from `since` when it is
    # restored.
    same = [name for name, tensor in state.items() if name in known and torch.equal(known[name], tensor)]
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in state.items() if name not in same}
    tensors |= {_KEPT + name: torch.from_numpy(np.array(index)) for name, index in candidate.kept.items()}
    # one entry: the order of several in the file is not ours to say
    made = json.dumps({"lineage": [describe(step) for step in candidate.lineage], "same": same})
    write_atomically(path, lambda draft: save_file(tensors, draft, metadata={"made": made}))


def restore(original: Candidate, path: Path, since: Candidate | None = None) -> Candidate:
    """Build the candidate again.

    Args:
        original: the original network, whose structure the candidate has.
        path: path of the file.
        since: the candidate that `save` was given.

    Raises:
        InputError: when the file is unreadable or was made from another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            made = json.loads(file.metadata()["made"])
        lineage = tuple(_step(entry) for entry in made["lineage"])
        known = {} if since is None else since.module.state_dict()
        tensors |= {name: known[name] for name in made["same"]}
        kept = {name.removeprefix(_KEPT): tensor.numpy() for name, tensor in tensors.items() if name.startswith(_KEPT)}
        module = rebuilt(original.module, {name: tensor for name, tensor in tensors.items() if not name.startswith(_KEPT)}, kept)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        text = " ".join(str(problem).split())[:200]
        raise InputError(f"`{path}` is no snapshot of this model ({text}): delete the folder it is in and start again.") from problem
    return replace(original, module=module, lineage=lineage, kept=kept)


def describe(step: Step) -> dict[str, object]:
    """Return a step as plain data: its name and its settings; a step or a signal among the settings has the same form."""
    return {"step": type(step).__name__, "settings": _settings(step)}


def _settings(value: Any) -> dict[str, object]:
    return {setting.name: _plain(getattr(value, setting.name)) for setting in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    if not is_dataclass(value):
        return value
    if type(value) in signals().values():
        return {"signal": name_of(value), "settings": _settings(value)}  # type: ignore[arg-type]
    return describe(value)  # type: ignore[arg-type]


def _step(entry: Mapping[str, Any]) -> Step:
    return steps()[entry["step"]](**{name: _setting(value) for name, value in entry["settings"].items()})


def _setting(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_setting(part) for part in value)
    if isinstance(value, dict) and "signal" in value:
        return signals()[value["signal"]](**{name: _setting(part) for name, part in value["settings"].items()})
    return _step(value) if isinstance(value, dict) else value


def rebuilt(module: nn.Module, tensors: dict[str, torch.Tensor], kept: Mapping[str, Index] | None = None) -> nn.Module:
    """Return the network that steps made of the original's `module`, from the tensors in its state dict.

    Raises:
        KeyError: when they are those of another network, as may be AttributeError, RuntimeError or ValueError.
    """
    tied = _tied(module)
    # First the layers that are gone (`kept` says so), then the split layers, whose parts' names end in ".0", ".1", …. Only then does every
    # tensor of the file have a place to go to.
    module = remove_layers(module, removed_layers(kept or {}))
    pairs: dict[nn.Module, nn.Module] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and f"{name}.0.weight" in tensors:
            # Linear(1, 1) is only a frame: the tensors below bring their shapes with them.
            pairs[layer] = nn.Sequential(*(nn.Linear(1, 1, bias=f"{name}.{place}.bias" in tensors) for place in (0, 1))).eval()
        elif isinstance(layer, Convolution) and f"{name}.0.weight" in tensors:
            pairs[layer] = nn.Sequential(*parts_in_a_row(layer, _shapes(tensors, name))).eval()
    module = copy_module(module, instead=pairs) if pairs else module
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        assign(module.get_submodule(owner), key, tensor)
    # assigning by name gives every name a tensor of its own, so weights that were shared have to be joined again
    _tie(module, tied)
    for name, layer in module.named_modules():
        if isinstance(layer, LINEAR_MAPS + CHANNELWISE):
            renumber(layer, (kept or {}).get(name))
    # too few or too many: either way the file belongs to another network
    if missing := module.state_dict().keys() ^ tensors.keys():
        raise KeyError(f"{len(missing)} tensors are missing or unknown, {min(missing)} among them")
    return module


def _shapes(tensors: Mapping[str, torch.Tensor], name: str) -> list[torch.Size]:
    """Return the shapes of the weights of a layer that was split, in the order of its parts."""
    keys = (f"{name}.{place}.weight" for place in count())
    return [tensors[key].shape for key in takewhile(tensors.__contains__, keys)]


def _tied(module: nn.Module) -> list[list[str]]:
    """Return groups of names under which one parameter lies."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _tie(module: nn.Module, tied: list[list[str]]) -> None:
    """Let names be one parameter again where no step gave them values of their own."""
    there = dict(module.named_parameters(remove_duplicate=False))
    for names in tied:
        present = [name for name in names if name in there]
        for name in present[1:]:
            owner, _, key = name.rpartition(".")
            # a step that changed one of two shared layers has separated them, and their values differ since
            if torch.equal(there[name], there[present[0]]):
                setattr(module.get_submodule(owner), key, there[present[0]])
