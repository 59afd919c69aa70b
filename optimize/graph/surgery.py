"""Cutting channels out of a network, in a copy or in place.

A copy shares every tensor it does not change: nothing in the package writes into a weight, so sharing is safe and a copy takes almost no
memory. Training must ask for a copy of its own (`copy_module(module, share=False)`).

A copy takes time, though: all objects of the network are visited. A step that changes one layer after the other makes one private copy, and
changes that with the functions that work in place (`cut_in_place`, `mask_in_place`, `set_tensors`). They give a layer new tensors and never
write into old ones, so the networks that share the old ones stay as they are. No one else may hold the module that is passed.

Example: conv1 (3 -> 4), norm1, conv2 (4 -> 5), all with 3x3 kernels, and the group of conv1's 4 channels. Keeping channels 0 and 2 selects
from conv1's weight (4, 3, 3, 3) the rows 0 and 2, from each of norm1's vectors the entries 0 and 2, and from conv2's weight (5, 4, 3, 3)
the columns 0 and 2. The weights are (2, 3, 3, 3) and (5, 2, 3, 3) then, and conv2's output has the same shape as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.channel_groups import ChannelGroup, Index
from optimize.graph.channel_groups import Slot as Slot
from optimize.graph.layer_types import (
    BATCH_NORMS,
    CHANNELWISE,
    INSTANCE_NORMS,
    Side,
    affine_norm,
    depthwise,
    groups,
    unsupported_reason,
    width_name,
)
from optimize.graph.layer_types import width as width
from optimize.graph.module_copy import deep_copy


def copy_module(module: nn.Module, *, share: bool = True, instead: Mapping[nn.Module, nn.Module] | None = None) -> nn.Module:
    """Return a copy of the network and of all that its hooks and closures hold.

    Args:
        module: the network.
        share: whether the copy uses the same tensors.
        instead: layers -> their replacements in the copy, under every name and in every list that refers to them.
    """
    return deep_copy(module, share=share, instead=instead or {})


def keep_channels(module: nn.Module, group: ChannelGroup, keep: Index) -> nn.Module:
    """Return a copy of the network in which `group` holds only the channels `keep`, (k,), rising."""
    pruned = copy_module(module)
    cut_in_place(pruned, group, keep)
    return pruned


def cut_in_place(module: nn.Module, group: ChannelGroup, keep: Index) -> None:
    """Leave only the channels `keep` of `group` in a network.

    Args:
        module: a private copy, such as `copy_module` makes; it is changed.
        group: the channels, numbered as in the network.
        keep: channels that stay, (k,), rising.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> index = np.arange(6)[:, None]
        >>> private = copy_module(net)
        >>> cut_in_place(private, ChannelGroup(6, (Slot("0", "out", index), Slot("2", "in", index))), np.array([0, 3]))
        >>> private[0].out_features, private[2].in_features, net[0].out_features
        (2, 2, 6)
    """
    cut_groups_in_place(module, [(group, keep)])


def cut_groups_in_place(module: nn.Module, cuts: Iterable[tuple[ChannelGroup, Index]]) -> None:
    """Leave only some channels of several groups in a network, all at once: no group has to be renumbered for the cut of another.

    Args:
        module: a private copy; it is changed.
        cuts: groups, all numbered as in the network before any cut, each with the channels that stay.
    """
    # the outputs first: a layer that makes and reads the channels may lose whole groups of a grouped convolution with its outputs
    for (name, side), lost in sorted(lost_positions(cuts).items(), key=lambda entry: entry[0][1] == "in"):
        layer = module.get_submodule(name)
        _cut(layer, side, np.delete(np.arange(width(layer, side)), lost))


def lost_positions(cuts: Iterable[tuple[ChannelGroup, Index]]) -> dict[tuple[str, Side], Index]:
    """Return (layer, side) -> the positions that go there, for every slot of groups that keep only some channels.

    Args:
        cuts: groups, each with the channels that stay.
    """
    parts: dict[tuple[str, Side], list[Index]] = {}
    for group, keep in cuts:
        gone = np.setdiff1d(np.arange(group.size), keep)
        for slot in group.slots:
            parts.setdefault((slot.module, slot.side), []).append(slot.index[gone].ravel())
    return {place: np.concatenate(lost) for place, lost in parts.items()}


def mask_channels(module: nn.Module, group: ChannelGroup, channels: Index) -> nn.Module:
    """Return a copy of the network in which the readers' weights for these channels of the group are zero."""
    masked = copy_module(module)
    mask_in_place(masked, group, channels)
    return masked


def mask_in_place(module: nn.Module, group: ChannelGroup, channels: Index) -> None:
    """Set the readers' weights for these channels of the group to zero.

    Args:
        module: a private copy; it is changed.
        group: the channels, numbered as in the network.
        channels: the channels that no layer reads afterwards, (k,).
    """
    for slot in group.consumers:
        layer = module.get_submodule(slot.module)
        weight, positions = layer.get_parameter("weight").detach(), torch.from_numpy(slot.index[channels].ravel())
        if getattr(layer, "transposed", False):
            weight = weight.index_fill(0, positions, 0)
        else:
            # a grouped weight counts its columns within the group; the channels go at the same place of every group
            weight = weight.index_fill(1, positions % weight.shape[1], 0)
        assign(layer, "weight", weight)


def outputs_left(module: nn.Module, group: ChannelGroup, keep: Index) -> dict[str, Index]:
    """Return for each layer that makes the group's channels the outputs that stay; some may belong to other groups."""
    makers = [slot for slot in group.slots if slot.side == "out"]
    every = {slot.module: np.arange(width(module.get_submodule(slot.module), "out")) for slot in makers}
    return {slot.module: np.delete(every[slot.module], np.delete(slot.index, keep, axis=0).ravel()) for slot in makers}


def kept_after(kept: Mapping[str, Index], module: nn.Module, group: ChannelGroup, keep: Index) -> dict[str, Index]:
    """Return the new `Candidate.kept` when `group`, in the network as it is, holds only the channels `keep`.

    Example: a layer of 8 channels had kept [0, 2, 3, 7] of the original. Keeping its present channels 1 and 3 leaves [2, 7].

    Args:
        kept: the original's output channels that are left, for every narrowed layer.
        module: the network before this cut.
        group: the group that is cut.
        keep: its present channels that stay.
    """
    left = outputs_left(module, group, keep)
    return {**kept, **{name: kept[name][stay] if name in kept else stay for name, stay in left.items()}}


def replace_module(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Return a copy of the network with another layer under `name`, and under all other names of the old one."""
    return copy_module(module, instead={module.get_submodule(name): new})


def runs_on(module: nn.Module, example: torch.Tensor) -> bool:
    """Return whether a network runs after a layer was replaced: its forward may ask the old layer for its weight or its sizes."""
    try:
        with torch.inference_mode():
            module(example.clone())
    except Exception:  # the user's forward: whatever it raises means that the layer has to stay
        return False
    return True


def with_batch_norms(module: nn.Module) -> nn.Module:
    """Return the network with a batch norm for each instance norm that has running statistics: in eval mode both compute the same."""
    instead: dict[nn.Module, nn.Module] = {}
    for layer in module.modules():
        if isinstance(layer, INSTANCE_NORMS) and affine_norm(layer) and unsupported_reason(layer) is None:
            kind = next(batch for instance, batch in zip(INSTANCE_NORMS, BATCH_NORMS, strict=True) if isinstance(layer, instance))
            # the exporter folds a batch norm into the convolution in front of it, and leaves an instance norm as an operation of its own
            norm = kind(layer.num_features, layer.eps, affine=layer.affine).eval()
            for key, tensor in chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False)):
                assign(norm, key, tensor)
            instead[layer] = norm
    return copy_module(module, instead=instead) if instead else module


def with_tensors(module: nn.Module, name: str, **tensors: torch.Tensor) -> nn.Module:
    """Return a copy of the network in which the layer `name` has these parameters or buffers."""
    changed = copy_module(module)
    set_tensors(changed, name, **tensors)
    return changed


def set_tensors(module: nn.Module, name: str, **tensors: torch.Tensor) -> None:
    """Give the layer `name` these parameters or buffers.

    Args:
        module: a private copy; it is changed.
        name: name of the layer.
        tensors: new values, by the name of the parameter or buffer; they are copied.
    """
    layer = module.get_submodule(name)
    for key, value in tensors.items():
        assign(layer, key, value)


def _cut(layer: nn.Module, side: Side, left: Index) -> None:
    """Cut one side of a layer, in place, down to the positions `left`."""
    positions = torch.from_numpy(left)
    if side == "in":
        transposed = getattr(layer, "transposed", False)
        # The weight of a grouped convolution has (in / groups) columns, which all groups share. The channels are cut at the same place of
        # every group, so the first group's positions are the columns: of 8 inputs in 2 groups without 1 and 5, the first 3 of the
        # positions [0, 2, 3, 4, 6, 7].
        columns = positions if transposed else positions[: len(positions) // groups(layer)]
        assign(layer, "weight", layer.get_parameter("weight").index_select(0 if transposed else 1, columns))
        renumber(layer)
        return
    for key, tensor in list(chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False))):
        if key == "weight" and getattr(layer, "transposed", False) and not depthwise(layer):
            assign(layer, key, tensor.index_select(1, positions[: len(positions) // groups(layer)]))
        # every other tensor (bias, a norm's statistics, a PReLU's slopes) has its outputs first; a counter of batches has no dimension
        elif tensor.dim():
            assign(layer, key, tensor.index_select(0, positions))
    renumber(layer, left)


def renumber(layer: Any, made: Index | None = None) -> None:
    """Set a layer's own numbers of channels by the shapes of its tensors.

    Args:
        layer: the layer whose tensors were changed.
        made: the outputs that are left of those that it still counts; None for all.
    """
    if isinstance(layer, CHANNELWISE):
        if made is not None:
            if isinstance(layer, nn.GroupNorm):  # whole groups of the norm are gone, and the others keep their size
                layer.num_groups = len(np.unique(made // (layer.num_channels // layer.num_groups)))
            setattr(layer, width_name(layer), len(made))
        return
    shape = layer.weight.shape
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
        return
    if made is not None:  # a group that makes nothing any more is gone, with the inputs it read
        layer.groups = len(np.unique(made // (layer.out_channels // layer.groups)))
    # axis 1 of the weight counts within a group, axis 0 over all: (in, out / groups) where transposed, else (out, in / groups)
    axes = (0, 1) if layer.transposed else (1, 0)
    layer.in_channels, layer.out_channels = (shape[axis] * (layer.groups if axis else 1) for axis in axes)


def assign(layer: nn.Module, key: str, value: torch.Tensor) -> None:
    """Set a parameter or buffer of a layer, in place; one that was None becomes a parameter."""
    old = getattr(layer, key)
    fresh = value.detach().clone()
    setattr(layer, key, nn.Parameter(fresh) if isinstance(old, nn.Parameter) or old is None else fresh)
