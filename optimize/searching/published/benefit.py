"""What the loss of one channel saves, as the published loop counts it.

    benefit = prior * ( own + .25 next + .10 / steps )

own is the multiply-accumulates per input that make the channel, H_out W_out C_in k^2; next those that read it, H_n W_n C_next k^2, over all
convolutions that do. Linear layers count nothing. steps is how many channels the group is above the next lower width that kernels like
(32, 40, ... 512), where that is within 8; beside the others this term only breaks ties. The prior favours deep layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from optimize.graph.trace import ChannelGroup, Slot
from optimize.searching.published.layout import Maps

PLATEAUS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, *range(256, 513, 32))
REACH = 8
NEXT, ALIGNED = 0.25, 0.10
FIVE = (0.90, 0.95, 1.0, 1.10, 1.15)
SHALLOW, DEEP = 0.88, 1.15
"""Priors of the first and the last layer, where there are not five layers in five blocks."""


def benefit(module: nn.Module, group: ChannelGroup, maps: Mapping[str, Maps], prior: float = 1.0) -> float:
    """Of one channel of the group, in multiply-accumulates per input."""
    own = sum(_macs(module, slot, maps) for slot in group.slots if slot.side == "out")
    after = sum(_macs(module, slot, maps) for slot in group.consumers)
    return prior * (own + NEXT * after + ALIGNED * nearness(group.size))


def nearness(width: int) -> float:
    """1 / steps down to the next lower plateau; 0 where there is none within 8."""
    steps = min((width - plateau for plateau in PLATEAUS if plateau < width), default=REACH + 1)
    return 1 / steps if steps <= REACH else 0.0


def priors(groups: Sequence[ChannelGroup], blocks: Mapping[str, int]) -> dict[str, float]:
    """The prior of every group, by name; groups in execution order, 1 for those without a block."""
    placed = [group.name for group in groups if group.name in blocks]
    five = [blocks[name] for name in placed] == list(range(len(FIVE)))
    scale = FIVE if five else np.linspace(SHALLOW, DEEP, len(placed)) if len(placed) > 1 else (1.0,)
    return {**{group.name: 1.0 for group in groups}, **{name: float(each) for name, each in zip(placed, scale, strict=False)}}


def _macs(module: nn.Module, slot: Slot, maps: Mapping[str, Maps]) -> float:
    """Multiply-accumulates that one channel costs in a layer that makes or reads it; none in a norm or a linear layer."""
    layer = module.get_submodule(slot.module)
    if slot.module not in maps or isinstance(layer, nn.Linear):
        return 0.0
    weight, transposed = layer.get_parameter("weight"), bool(getattr(layer, "transposed", False))
    depthwise = getattr(layer, "groups", 1) > 1
    axis = 0 if depthwise or (slot.side == "out") != transposed else 1
    positions = maps[slot.module].read if transposed else maps[slot.module].made
    return float(positions * weight.numel() / weight.shape[axis] * slot.index.shape[1])
