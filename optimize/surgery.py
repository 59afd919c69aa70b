"""Cutting channels out of a network, always in a copy.

A copy shares every tensor it does not change: nothing in the package writes into a weight, so sharing is safe and a copy costs almost
nothing. Training must ask for a copy of its own (`twin(module, share=False)`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph import CHANNELWISE, ChannelGroup, Index, Side, Slot


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


def misfit(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> str | None:
    """Why cutting the group's channels is not the same as nobody reading them; None where it is.

    The trace takes an operation it does not know for an element-wise one. Here the network itself is asked, with every other channel gone
    on some inputs, (N, C, *spatial): operations that mix channels (a softmax, a normalisation), fixed shapes and channels that are part
    of the output all show.
    """
    keep = np.arange(0, group.size, 2)
    unread = module
    try:
        for slot in group.consumers:
            layer = module.get_submodule(slot.module)
            gone = torch.from_numpy(np.delete(slot.index, keep, axis=0).ravel())
            weight = layer.get_parameter("weight").index_fill(0 if getattr(layer, "transposed", False) else 1, gone, 0)
            unread = with_tensors(unread, slot.module, weight=weight)
        with torch.inference_mode():
            want, got = unread(inputs.clone()), keep_channels(module, group, keep)(inputs.clone())
    except Exception as problem:  # the user's forward, on shapes it may not expect: whatever it raises means "cannot be cut"
        return f"the network does not run with fewer channels ({type(problem).__name__})"
    if want.shape != got.shape:
        return "the channels are part of the network's output"
    return None if torch.allclose(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max())) else "something mixes the channels"


def outputs_left(module: nn.Module, group: ChannelGroup, keep: Index) -> dict[str, Index]:
    """Of each layer that makes the group's channels, the outputs that stay; some may belong to other groups."""
    makers = [slot for slot in group.slots if slot.side == "out"]
    every = {slot.module: np.arange(width(module.get_submodule(slot.module), "out")) for slot in makers}
    return {slot.module: np.delete(every[slot.module], np.delete(slot.index, keep, axis=0).ravel()) for slot in makers}


def kept_after(kept: Mapping[str, Index], module: nn.Module, group: ChannelGroup, keep: Index) -> dict[str, Index]:
    """What `Candidate.kept` becomes when, of the network as it stands, `group` holds only the channels `keep`."""
    left = outputs_left(module, group, keep)
    return {**kept, **{name: kept[name][stay] if name in kept else stay for name, stay in left.items()}}


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
        assign(layer, key, value)
    return changed


def _cut(layer: nn.Module, slot: Slot, keep: Index) -> None:
    size = width(layer, slot.side)
    mask = torch.ones(size, dtype=torch.bool)
    mask[torch.from_numpy(slot.index.ravel().copy())] = False
    mask[torch.from_numpy(slot.index[keep].ravel().copy())] = True
    positions = mask.nonzero().flatten()
    depthwise = getattr(layer, "groups", 1) > 1
    if isinstance(layer, CHANNELWISE) or depthwise or slot.side == "out":
        axis = 1 if getattr(layer, "transposed", False) and not depthwise else 0
        for key, tensor in list(chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False))):
            if tensor.dim() and not (isinstance(layer, nn.PReLU) and tensor.numel() == 1):
                assign(layer, key, tensor.index_select(axis if key == "weight" else 0, positions))
    else:
        axis = 0 if getattr(layer, "transposed", False) else 1
        assign(layer, "weight", layer.get_parameter("weight").index_select(axis, positions))
    renumber(layer)


def width(layer: nn.Module, side: Side) -> int:
    """How many channels a layer makes, or reads."""
    if isinstance(layer, CHANNELWISE):
        return int(layer.num_parameters if isinstance(layer, nn.PReLU) else layer.num_features)
    kind = "features" if isinstance(layer, nn.Linear) else "channels"
    return int(getattr(layer, f"{side}_{kind}"))


def renumber(layer: Any) -> None:
    """Bring a layer's own numbers of channels in line with the shapes of its tensors."""
    shape = layer.weight.shape if layer.weight is not None else layer.running_mean.shape
    if isinstance(layer, nn.PReLU):
        layer.num_parameters = shape[0]
    elif isinstance(layer, CHANNELWISE):
        layer.num_features = shape[0]
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif 1 < layer.groups == layer.in_channels == layer.out_channels:
        layer.in_channels = layer.out_channels = layer.groups = shape[0]
    elif layer.transposed:
        layer.in_channels, layer.out_channels = shape[0], shape[1] * layer.groups
    else:
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups


def assign(layer: nn.Module, key: str, value: torch.Tensor) -> None:
    """Give a layer another parameter or buffer; one that was absent becomes a parameter."""
    old = getattr(layer, key)
    fresh = value.detach().clone()
    setattr(layer, key, nn.Parameter(fresh) if isinstance(old, nn.Parameter) or old is None else fresh)
