"""Cutting channels out of a network, always in a copy.

A copy shares every tensor it does not change: nothing in the package writes into a weight, so sharing is safe and a copy costs almost
nothing. Training must ask for a copy of its own (`twin(module, share=False)`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.channel_groups import ChannelGroup, Index, Slot
from optimize.graph.layer_types import BATCH_NORMS, CHANNELWISE, INSTANCE_NORMS, affine_norm, depthwise, groups, unsupported_reason
from optimize.graph.layer_types import width as width
from optimize.graph.module_copy import copied


def copy_module(module: nn.Module, *, share: bool = True, instead: Mapping[nn.Module, nn.Module] | None = None) -> nn.Module:
    """A copy of the network and of all that its hooks and closures hold.

    Args:
        module: what to copy.
        share: whether the tensors themselves are the same ones.
        instead: layers -> what stands in their places in the copy, under every name and in every list they are known by.
    """
    return copied(module, share=share, instead=instead or {})


def keep_channels(module: nn.Module, group: ChannelGroup, keep: Index) -> nn.Module:
    """A copy of the network in which `group` holds only the channels `keep` (in that order)."""
    pruned = copy_module(module)
    for slot in group.slots:
        _cut(pruned.get_submodule(slot.module), slot, keep)
    return pruned


def check_cut(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> str | None:
    """Why cutting the group's channels is not the same as nobody reading them; None where it is.

    Whatever the trace may have misjudged, here the network itself is asked, with half of the channels gone, on some inputs,
    (N, C, *spatial): operations that mix channels (a softmax, a normalisation), fixed shapes and channels that are part of the output
    all show.
    """
    # a regular cut and one without a pattern: channels may be counted off in blocks
    for keep in (np.arange(0, group.size, 2), np.sort(np.random.default_rng(0).permutation(group.size)[: group.size // 2 + 1])):
        try:
            with torch.inference_mode():
                want = mask_channels(module, group, np.setdiff1d(np.arange(group.size), keep))(inputs.clone())
                got = keep_channels(module, group, keep)(inputs.clone())
        except Exception as problem:  # the user's forward, on shapes it may not expect: whatever it raises means "cannot be cut"
            return f"the network does not run with fewer channels ({type(problem).__name__})"
        if want.shape != got.shape:
            return "the channels are part of the network's output"
        if not torch.allclose(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max())):
            return "something mixes the channels"
    return None


def mask_channels(module: nn.Module, group: ChannelGroup, channels: Index) -> nn.Module:
    """A copy of the network in which nobody reads these channels of the group."""
    for slot in group.consumers:
        layer = module.get_submodule(slot.module)
        weight, positions = layer.get_parameter("weight").detach(), torch.from_numpy(slot.index[channels].ravel())
        if getattr(layer, "transposed", False):
            weight = weight.index_fill(0, positions, 0)
        else:
            weight = weight.index_fill(1, positions % weight.shape[1], 0)
        module = with_tensors(module, slot.module, weight=weight)
    return module


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
    """A copy of the network with another layer under `name`, and under whatever other names the old one had."""
    return copy_module(module, instead={module.get_submodule(name): new})


def with_batch_norms(module: nn.Module) -> nn.Module:
    """The network with a batch norm for each instance norm that has running statistics: in eval mode both compute the same."""
    instead: dict[nn.Module, nn.Module] = {}
    for layer in module.modules():
        if isinstance(layer, INSTANCE_NORMS) and affine_norm(layer) and unsupported_reason(layer) is None:
            kind = next(batch for instance, batch in zip(INSTANCE_NORMS, BATCH_NORMS, strict=True) if isinstance(layer, instance))
            norm = kind(layer.num_features, layer.eps, affine=layer.affine).eval()
            for key, tensor in chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False)):
                assign(norm, key, tensor)
            instead[layer] = norm
    return copy_module(module, instead=instead) if instead else module


def with_tensors(module: nn.Module, name: str, **tensors: torch.Tensor) -> nn.Module:
    """A copy of the network in which the layer `name` has these parameters or buffers."""
    changed = copy_module(module)
    layer = changed.get_submodule(name)
    for key, value in tensors.items():
        assign(layer, key, value)
    return changed


def _cut(layer: nn.Module, slot: Slot, keep: Index) -> None:
    left = np.delete(np.arange(width(layer, slot.side)), np.delete(slot.index, keep, axis=0).ravel())
    positions = torch.from_numpy(left)
    if slot.side == "in":
        transposed = getattr(layer, "transposed", False)
        # of a grouped convolution every group reads as many, at the same places
        there = positions if transposed else positions[: len(positions) // groups(layer)]
        assign(layer, "weight", layer.get_parameter("weight").index_select(0 if transposed else 1, there))
        renumber(layer)
        return
    for key, tensor in list(chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False))):
        if key == "weight" and getattr(layer, "transposed", False) and not depthwise(layer):
            assign(layer, key, tensor.index_select(1, positions[: len(positions) // groups(layer)]))
        elif tensor.dim():
            assign(layer, key, tensor.index_select(0, positions))
    renumber(layer, left)


def renumber(layer: Any, made: Index | None = None) -> None:
    """Bring a layer's own numbers of channels in line with the shapes of its tensors.

    Args:
        layer: whose tensors were changed.
        made: of the outputs it still counts, those it makes; None for all.
    """
    if isinstance(layer, CHANNELWISE):
        if made is not None:
            setattr(layer, "num_parameters" if isinstance(layer, nn.PReLU) else "num_features", len(made))
        return
    shape = layer.weight.shape
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
        return
    if made is not None:  # a group that makes nothing any more is gone, with the inputs it read
        layer.groups = len(np.unique(made // (layer.out_channels // layer.groups)))
    axes = (0, 1) if layer.transposed else (1, 0)
    layer.in_channels, layer.out_channels = (shape[axis] * (layer.groups if axis else 1) for axis in axes)


def assign(layer: nn.Module, key: str, value: torch.Tensor) -> None:
    """Give a layer another parameter or buffer; one that was absent becomes a parameter."""
    old = getattr(layer, key)
    fresh = value.detach().clone()
    setattr(layer, key, nn.Parameter(fresh) if isinstance(old, nn.Parameter) or old is None else fresh)
