"""Removing a whole layer, always in a copy: what read the layer's output reads the layer's input instead.

A layer costs time even where it makes next to nothing: its call, and its pass over the positions. Where its input and output have the same
positions, the network runs without it: the layer and the norm behind it become identities, and each reader gets as many columns as it needs
now, with weights of zero until it is refitted. An activation behind them stays; a ReLU behind a ReLU changes nothing.

Example: conv1 (3 -> 16), norm1, relu, conv2 (16 -> 8), all with 3x3 kernels and padding 1. Without conv1 and norm1, conv2 reads the 3
channels of the image, so its weight (8, 16, 3, 3) becomes zeros of shape (8, 3, 3, 3), and least squares fits it to the original's output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.layer_calls import calls
from optimize.graph.layer_types import BATCH_NORMS, groups, width
from optimize.graph.surgery import assign, copy_module, renumber
from optimize.graph.trace import LINEAR_MAPS, ChannelGroup, Index, Slot

NONE: Index = np.empty(0, dtype=np.int64)


def bypassed(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> nn.Module | None:
    """Return a copy of the network without the layer that makes the group's channels; None where it does not run without.

    Args:
        module: the network.
        group: channels that one layer alone makes, with norms of their own and readers that have a closed-form repair.
        inputs: (N, C, *spatial), a few inputs to try it on.
    """
    reads = _channels_read(module, group, inputs)
    if reads is None:
        return None
    changed = remove_layers(module, makers(group))
    for slot in group.consumers:
        _widen(changed.get_submodule(slot.module), slot, reads)
    return changed if _same_output_shape(module, changed, inputs) else None


def makers(group: ChannelGroup) -> list[str]:
    """Return the layers that would go: the one that makes the channels, and the norms behind it."""
    return [slot.module for slot in group.slots if slot.side == "out"]


def without_layers(kept: Mapping[str, Index], group: ChannelGroup) -> dict[str, Index]:
    """Return the new `Candidate.kept`: no channel is left of a layer that was removed."""
    return {**kept, **dict.fromkeys(makers(group), NONE)}


def removed_layers(kept: Mapping[str, Index]) -> list[str]:
    """Return the names of the layers that were removed."""
    return [name for name, index in kept.items() if not len(index)]


def remove_layers(module: nn.Module, names: Collection[str]) -> nn.Module:
    """Return a copy of the network with identities in place of the named layers.

    Raises:
        AttributeError: when there is no such layer.
        KeyError: when the layer is of a kind that is never removed.
    """
    layers = [module.get_submodule(name) for name in names]
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, (*LINEAR_MAPS, *BATCH_NORMS)):
            raise KeyError(f"{name} is not a layer that can be removed")
    return copy_module(module, instead={layer: nn.Identity().eval() for layer in layers})


def _channels_read(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> int | None:
    """Return how many channels the layer reads, where it and its norms alone make the group and keep the positions; else None."""
    layers = {name: module.get_submodule(name) for name in makers(group)}
    linear = [name for name, layer in layers.items() if isinstance(layer, LINEAR_MAPS)]
    if len(linear) != 1 or any(not isinstance(layer, (*LINEAR_MAPS, *BATCH_NORMS)) for layer in layers.values()):
        return None
    whole = np.arange(group.size)
    for slot in group.slots:
        # a norm behind a concatenation of several layers is not this layer's alone
        if slot.side == "out" and (slot.index.shape[1] != 1 or not np.array_equal(slot.index.ravel(), whole)):
            return None
        # the layer makes other channels too, which others read
        if slot.side == "out" and width(layers[slot.module], "out") != group.size:
            return None
        # a reader must have the group's columns side by side, so that another number of columns can take their place
        if slot.side == "in" and (slot.module in layers or not _contiguous(slot) or groups(module.get_submodule(slot.module)) > 1):
            return None
    [name] = linear
    axis = -1 if isinstance(layers[name], nn.Linear) else 1

    def positions(_: str, layer_input: torch.Tensor, output: torch.Tensor) -> tuple[list[int], list[int]]:
        read, made = list(layer_input.shape), list(output.shape)
        del read[axis], made[axis]
        return read, made

    shapes = [shape for _, shape in calls(module, [name], inputs[:1], positions)]  # of every call
    # a stride, or a border without padding, changes the positions, and what read the output could not read the input
    return width(layers[name], "in") if len(shapes) == 1 and shapes[0][0] == shapes[0][1] else None


def _contiguous(slot: Slot) -> bool:
    """Return whether the channels are neighbours, in order, where they are read."""
    places = slot.index.ravel()
    return bool(np.array_equal(places, np.arange(places[0], places[0] + len(places))))


def _widen(layer: nn.Module, slot: Slot, channels: int) -> None:
    """Change a reader so that it reads this many channels in place of the group's, with weights of zero."""
    weight, axis = layer.get_parameter("weight").detach(), 0 if getattr(layer, "transposed", False) else 1
    start, count = int(slot.index[0, 0]), slot.index.size
    # a reader behind a concatenation keeps the columns of the other branches on both sides
    in_front, old, behind = torch.split(weight, [start, count, weight.shape[axis] - start - count], axis)
    shape = list(old.shape)
    # flattened maps have several columns for each channel: 16 channels of 2x2 maps are 64 columns; 3 in their place are 12
    shape[axis] = channels * slot.index.shape[1]
    assign(layer, "weight", torch.cat([in_front, old.new_zeros(shape), behind], axis))
    renumber(layer)


def _same_output_shape(module: nn.Module, changed: nn.Module, inputs: torch.Tensor) -> bool:
    """Return whether both networks run and give outputs of the same shape."""
    try:
        with torch.inference_mode():
            shapes: list[Any] = [network(inputs.clone()).shape for network in (module, changed)]
    except Exception:  # the user's forward may use the layer's attributes: whatever it raises means "not without this layer"
        return False
    return bool(shapes[0] == shapes[1])
