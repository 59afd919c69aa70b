"""The benefit of removing one channel, as the published loop counts it.

    benefit = prior * ( own + .25 readers + .10 / steps )

- own: multiply-accumulates per input that make the channel, H_out W_out C_in k^2.
- readers: those of the convolutions that read it, H_n W_n C_next k^2, summed over all of them. Linear layers count zero.
- steps: how many channels the group is above the next lower width that kernels run well at (32, 40, ... 512), where that is within 8.
  Beside the others this term only breaks ties.
- prior: favours deep layers.

Example: a 3x3 convolution from 16 to 34 channels on 8x8 maps, read by a 3x3 convolution of 10 outputs on the same maps. One channel costs
64 * 16 * 9 = 9216 to make and 64 * 10 * 9 = 5760 to read; 34 is 2 above 32. The benefit is 9216 + .25 * 5760 + .10 / 2 = 10656.05.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from optimize.graph.trace import ChannelGroup, Slot
from optimize.searching.published.layout import FeatureMaps

KERNEL_WIDTHS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, *range(256, 513, 32))
MAX_STEPS = 8
READER_SHARE, ALIGNMENT_SHARE = 0.25, 0.10
PRIORS_OF_FIVE = (0.90, 0.95, 1.0, 1.10, 1.15)
PRIOR_FIRST, PRIOR_LAST = 0.88, 1.15
"""Priors of the first and the last layer, where there are not five layers in five blocks."""


def benefit(module: nn.Module, group: ChannelGroup, maps: Mapping[str, FeatureMaps], prior: float = 1.0) -> float:
    """Return the benefit of removing one channel of the group, in multiply-accumulates per input.

    Args:
        module: the network.
        group: the channels.
        maps: sizes of every layer's feature maps, from `feature_maps`.
        prior: factor for the group's depth, from `priors`.
    """
    own = sum(_macs(module, slot, maps) for slot in group.slots if slot.side == "out")
    readers = sum(_macs(module, slot, maps) for slot in group.consumers)
    return prior * (own + READER_SHARE * readers + ALIGNMENT_SHARE * nearness(group.size))


def nearness(width: int) -> float:
    """Return 1 / steps down to the next lower width of `KERNEL_WIDTHS`; 0 where there is none within `MAX_STEPS`."""
    steps = min((width - lower for lower in KERNEL_WIDTHS if lower < width), default=MAX_STEPS + 1)
    return 1 / steps if steps <= MAX_STEPS else 0.0


def priors(groups: Sequence[ChannelGroup], blocks: Mapping[str, int]) -> dict[str, float]:
    """Return the prior of every group, by name; 1 for groups without a block.

    Args:
        groups: groups of channels, in execution order.
        blocks: the block of every group that a convolution makes.
    """
    placed = [group.name for group in groups if group.name in blocks]
    five = [blocks[name] for name in placed] == list(range(len(PRIORS_OF_FIVE)))
    scale = PRIORS_OF_FIVE if five else np.linspace(PRIOR_FIRST, PRIOR_LAST, len(placed)) if len(placed) > 1 else (1.0,)
    return {**{group.name: 1.0 for group in groups}, **{name: float(prior) for name, prior in zip(placed, scale, strict=False)}}


def _macs(module: nn.Module, slot: Slot, maps: Mapping[str, FeatureMaps]) -> float:
    """Return the multiply-accumulates that one channel costs in a layer that makes or reads it; 0 in a norm or a linear layer."""
    layer = module.get_submodule(slot.module)
    if slot.module not in maps or isinstance(layer, nn.Linear):
        return 0.0
    weight, transposed = layer.get_parameter("weight"), bool(getattr(layer, "transposed", False))
    depthwise = getattr(layer, "groups", 1) > 1
    # numel / shape[axis] is the number of weights that one channel has in this layer. The weight is (out, in / groups, *kernel), with the
    # first two exchanged in a transposed convolution; in a depthwise one a channel has one row, whether it is read or made.
    axis = 0 if depthwise or (slot.side == "out") != transposed else 1
    positions = maps[slot.module].positions_read if transposed else maps[slot.module].positions_made
    return float(positions * weight.numel() / weight.shape[axis] * slot.index.shape[1])
