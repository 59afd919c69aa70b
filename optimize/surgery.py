"""Cutting channels out of a network, always in a copy.

A copy shares every tensor it does not change: nothing in the package writes into a weight, so sharing is safe and a copy costs almost
nothing. Training must ask for a copy of its own (`twin(module, share=False)`).
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import nn

from optimize.graph import CHANNELWISE, ChannelGroup, Index, Slot


def twin(module: nn.Module, *, share: bool = True) -> nn.Module:
    """A copy of the network; with `share`, the tensors themselves are the same ones."""
    memo = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())} if share else {}
    return copy.deepcopy(module, memo)


def keep_channels(module: nn.Module, group: ChannelGroup, keep: Index) -> nn.Module:
    """A copy of the network in which `group` holds only the channels `keep` (in that order)."""
    pruned = twin(module)
    for slot in group.slots:
        _cut(pruned.get_submodule(slot.module), slot, keep)
    return pruned


def replace_module(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """A copy of the network with another layer under `name`."""
    changed = twin(module)
    parent, _, leaf = name.rpartition(".")
    setattr(changed.get_submodule(parent), leaf, new)
    return changed


def with_tensors(module: nn.Module, name: str, **tensors: torch.Tensor) -> nn.Module:
    """A copy of the network in which the layer `name` has these parameters or buffers."""
    changed = twin(module)
    layer = changed.get_submodule(name)
    for key, value in tensors.items():
        _assign(layer, key, value)
    return changed


def _cut(layer: nn.Module, slot: Slot, keep: Index) -> None:
    size = _width(layer, slot)
    mask = torch.ones(size, dtype=torch.bool)
    mask[torch.from_numpy(slot.index.ravel().copy())] = False
    mask[torch.from_numpy(slot.index[keep].ravel().copy())] = True
    positions = mask.nonzero().flatten()
    depthwise = getattr(layer, "groups", 1) > 1
    if isinstance(layer, CHANNELWISE) or depthwise or slot.side == "out":
        axis = 1 if getattr(layer, "transposed", False) and not depthwise else 0
        for key, tensor in list(chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False))):
            if tensor.dim() and not (isinstance(layer, nn.PReLU) and tensor.numel() == 1):
                _assign(layer, key, tensor.index_select(axis if key == "weight" else 0, positions))
    else:
        axis = 0 if getattr(layer, "transposed", False) else 1
        _assign(layer, "weight", layer.get_parameter("weight").index_select(axis, positions))
    _renumber(layer, slot, len(positions), depthwise)


def _width(layer: nn.Module, slot: Slot) -> int:
    if isinstance(layer, CHANNELWISE):
        return int(layer.num_parameters if isinstance(layer, nn.PReLU) else layer.num_features)
    kind = "features" if isinstance(layer, nn.Linear) else "channels"
    return int(getattr(layer, f"{slot.side}_{kind}"))


def _renumber(layer: Any, slot: Slot, count: int, depthwise: bool) -> None:
    if isinstance(layer, nn.PReLU):
        layer.num_parameters = count if layer.num_parameters > 1 else 1
    elif isinstance(layer, CHANNELWISE):
        layer.num_features = count
    elif isinstance(layer, nn.Linear):
        setattr(layer, f"{slot.side}_features", count)
    elif depthwise:
        layer.in_channels = layer.out_channels = layer.groups = count
    else:
        setattr(layer, f"{slot.side}_channels", count)


def _assign(layer: nn.Module, key: str, value: torch.Tensor) -> None:
    old = getattr(layer, key)
    fresh = value.detach().clone()
    setattr(layer, key, nn.Parameter(fresh) if isinstance(old, nn.Parameter) or old is None else fresh)
