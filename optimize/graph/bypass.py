"""Taking a whole layer out, always in a copy: what read its output reads its input instead.

A layer costs time even where it makes next to nothing: its call, and its pass over the positions. Where input and output have the same
positions, the network runs without it: the layer and the norm behind it become identities, and each reader gets as many columns as it
needs now, with weights of zero until it is refitted. An activation behind them stays; a ReLU behind a ReLU changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.layer_types import BATCH_NORMS, groups, width
from optimize.graph.replay import calls
from optimize.graph.surgery import assign, copy_module, renumber
from optimize.graph.trace import LINEAR_MAPS, ChannelGroup, Index, Slot

NONE: Index = np.empty(0, dtype=np.int64)


def bypassed(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> nn.Module | None:
    """A copy of the network without the layer that makes the group's channels; None where it does not run without.

    Args:
        module: the network.
        group: channels that one layer alone makes; only norms of their own and closed-form readers may have to do with them.
        inputs: some, (N, C, *spatial), to try it on.
    """
    reads = _passes(module, group, inputs)
    if reads is None:
        return None
    changed = emptied(module, makers(group))
    for slot in group.consumers:
        _widen(changed.get_submodule(slot.module), slot, reads)
    return changed if _alike(module, changed, inputs) else None


def makers(group: ChannelGroup) -> list[str]:
    """The layers that would go: the one that makes the channels, and the norms behind it."""
    return [slot.module for slot in group.slots if slot.side == "out"]


def without_layers(kept: Mapping[str, Index], group: ChannelGroup) -> dict[str, Index]:
    """What `Candidate.kept` becomes: of a layer that is gone no channel is left."""
    return {**kept, **dict.fromkeys(makers(group), NONE)}


def gone(kept: Mapping[str, Index]) -> list[str]:
    """The layers that were taken out."""
    return [name for name, index in kept.items() if not len(index)]


def emptied(module: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy of the network with identities in the place of the named layers.

    Raises:
        AttributeError: when there is no such layer.
        KeyError: when it is of a kind that is never taken out.
    """
    layers = [module.get_submodule(name) for name in names]
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, (*LINEAR_MAPS, *BATCH_NORMS)):
            raise KeyError(f"{name} is no layer that can be taken out")
    return copy_module(module, instead={layer: nn.Identity().eval() for layer in layers})


def _passes(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> int | None:
    """How many channels the layer reads, where it and its norms are the only makers and leave the positions as they are; else None."""
    layers = {name: module.get_submodule(name) for name in makers(group)}
    linear = [name for name, layer in layers.items() if isinstance(layer, LINEAR_MAPS)]
    if len(linear) != 1 or any(not isinstance(layer, (*LINEAR_MAPS, *BATCH_NORMS)) for layer in layers.values()):
        return None
    whole = np.arange(group.size)
    for slot in group.slots:
        # what a concatenation of several layers goes through is not this one's alone
        if slot.side == "out" and (slot.index.shape[1] != 1 or not np.array_equal(slot.index.ravel(), whole)):
            return None
        if slot.side == "out" and width(layers[slot.module], "out") != group.size:
            return None
        if slot.side == "in" and (slot.module in layers or not _in_a_row(slot) or groups(module.get_submodule(slot.module)) > 1):
            return None
    [name] = linear
    axis = -1 if isinstance(layers[name], nn.Linear) else 1

    def positions(_: str, given: torch.Tensor, output: torch.Tensor) -> tuple[list[int], list[int]]:
        read, made = list(given.shape), list(output.shape)
        del read[axis], made[axis]
        return read, made

    seen = calls(module, [name], inputs[:1], positions)
    return width(layers[name], "in") if len(seen) == 1 and seen[0][1][0] == seen[0][1][1] else None


def _in_a_row(slot: Slot) -> bool:
    """Whether the channels lie beside one another, in order, where they are read."""
    places = slot.index.ravel()
    return bool(np.array_equal(places, np.arange(places[0], places[0] + len(places))))


def _widen(layer: nn.Module, slot: Slot, channels: int) -> None:
    """Have a reader read so many channels in the place of the group's."""
    weight, axis = layer.get_parameter("weight").detach(), 0 if getattr(layer, "transposed", False) else 1
    start, count = int(slot.index[0, 0]), slot.index.size
    before, old, after = torch.split(weight, [start, count, weight.shape[axis] - start - count], axis)
    shape = list(old.shape)
    shape[axis] = channels * slot.index.shape[1]
    assign(layer, "weight", torch.cat([before, old.new_zeros(shape), after], axis))
    renumber(layer)


def _alike(module: nn.Module, changed: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether both give outputs of one shape."""
    try:
        with torch.inference_mode():
            shapes: list[Any] = [each(inputs.clone()).shape for each in (module, changed)]
    except Exception:  # the user's forward, on a layer it may look into: whatever it raises means "not without it"
        return False
    return bool(shapes[0] == shapes[1])
