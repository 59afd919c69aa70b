"""A candidate on disk, without pickle: its tensors, which channels it kept, and the steps that made it.

The structure is not stored. Steps only narrow layers, split a linear layer in two or give one a bias, and all of that shows in the shapes
of the tensors, so the original network and the file are enough to build the candidate again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Step
from optimize.errors import InputError
from optimize.graph import CHANNELWISE, LINEAR_MAPS, Index
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune
from optimize.steps.repair import Repair
from optimize.surgery import assign, renumber, twin

STEPS: dict[str, type] = {step.__name__: step for step in (Prune, Repair, Factorize)}
_KEPT = "kept channels of "


def save(candidate: Candidate, path: Path) -> None:
    """Write the candidate as safetensors, atomically."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in candidate.module.state_dict().items()}
    tensors |= {_KEPT + name: torch.from_numpy(np.array(index)) for name, index in candidate.kept.items()}
    lineage = json.dumps([describe(step) for step in candidate.lineage])
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(tensors, draft, metadata={"lineage": lineage})
    os.replace(draft, path)


def restore(original: Candidate, path: Path) -> Candidate:
    """Build the candidate again from the original it was made from.

    Raises:
        InputError: when the file is unreadable or was made from another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            lineage = tuple(_step(entry) for entry in json.loads(file.metadata()["lineage"]))
        kept = {name.removeprefix(_KEPT): tensor.numpy() for name, tensor in tensors.items() if name.startswith(_KEPT)}
        module = _reshaped(original.module, {name: tensor for name, tensor in tensors.items() if not name.startswith(_KEPT)}, kept)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        text = " ".join(str(problem).split())[:200]
        raise InputError(f"`{path}` is no snapshot of this model ({text}): delete the folder it is in and start again.") from problem
    return Candidate(module, original.example, lineage, kept)


def describe(step: Step) -> dict[str, object]:
    """A step as plain data: its name and its settings."""
    return {"step": type(step).__name__, "settings": asdict(step)}


def _step(entry: dict[str, object]) -> Step:
    settings = entry["settings"]
    assert isinstance(settings, dict)
    step: Step = STEPS[str(entry["step"])](**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
    return step


def _reshaped(module: nn.Module, tensors: dict[str, torch.Tensor], kept: dict[str, Index]) -> nn.Module:
    module = twin(module)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear) and f"{name}.0.weight" in tensors:
            parent, _, leaf = name.rpartition(".")
            pair = [nn.Linear(1, 1, bias=f"{name}.{place}.bias" in tensors) for place in (0, 1)]
            setattr(module.get_submodule(parent), leaf, nn.Sequential(*pair).eval())
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        assign(module.get_submodule(owner), key, tensor)
    for name, layer in module.named_modules():
        if isinstance(layer, LINEAR_MAPS + CHANNELWISE):
            renumber(layer, kept.get(name))
    if missing := module.state_dict().keys() ^ tensors.keys():
        raise KeyError(f"{len(missing)} tensors are missing or unknown, {min(missing)} among them")
    return module
