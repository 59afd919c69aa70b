"""Sizes of the feature maps of each layer, and the block that a group of channels belongs to.

A block is what lies between two spatial down-samplings. Only the size of the maps counts: with side = the geometric mean of a map's
extents, layers share a block when their sides differ by less than a factor sqrt(2). That lies half way (on a logarithmic scale) between a
border that was not padded and a halving. So no layer name is needed, and in a U-Net the decoder shares the blocks of the encoder.

Example: sides 32, 30, 16, 14, 7 give blocks 0, 0, 1, 1, 2, since 16 <= 32 / sqrt(2) and 7 <= 16 / sqrt(2), while 30 and 14 are not far
enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import LINEAR_MAPS, ChannelGroup


@dataclass(frozen=True)
class FeatureMaps:
    """Sizes of the maps that one layer reads and makes for one input.

    Args:
        read: positions of the maps it reads, over all its calls.
        made: positions of the maps it makes, over all its calls.
        side: geometric mean of the extents of the maps it makes.
    """

    positions_read: int
    positions_made: int
    side: float


def feature_maps(candidate: Candidate) -> dict[str, FeatureMaps]:
    """Return the maps of every convolution and linear layer that is called, in execution order; a linear layer has maps of one position."""
    maps: dict[str, FeatureMaps] = {}

    def recorder(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor) -> None:
            layer_input = args[0] if args else named["input"]
            extents = [[] if isinstance(layer, nn.Linear) else list(tensor.shape[2:]) for tensor in (layer_input, output)]
            read, made = (prod(sizes) for sizes in extents)
            # a layer that is called several times pays for the positions of every call; its block is that of its largest maps
            known = maps.get(name, FeatureMaps(0, 0, 0.0))
            # the geometric mean of the extents: 16 x 4 maps have the side 8, the square root of 64 positions
            side = float(made) ** (1 / max(1, len(extents[1])))
            maps[name] = FeatureMaps(known.positions_read + read, known.positions_made + made, max(known.side, side))

        return hook

    layers = [(name, layer) for name, layer in candidate.module.named_modules() if isinstance(layer, LINEAR_MAPS)]
    handles = [layer.register_forward_hook(recorder(name), with_kwargs=True) for name, layer in layers]
    try:
        with torch.inference_mode():
            candidate.module(candidate.example.clone())
    finally:
        for handle in handles:
            handle.remove()
    return maps


def blocks(candidate: Candidate, groups: Sequence[ChannelGroup]) -> dict[str, int]:
    """Return the block of every group whose channels a convolution makes: 0 for the largest maps. Other groups are left out."""
    maps = feature_maps(candidate)
    sides = {group.name: maps[group.name].side for group in groups if convolves(candidate.module, group) and group.name in maps}
    levels: list[float] = []
    for side in sorted(set(sides.values()), reverse=True):
        # sides fall, so each is compared with the side that began its block: 32, 30, 16 begin blocks at 32 and at 16
        if not levels or side <= levels[-1] / sqrt(2):
            levels.append(side)
    return {name: max(place for place, level in enumerate(levels) if side <= level) for name, side in sides.items()}


def convolves(module: nn.Module, group: ChannelGroup) -> bool:
    """Return whether a convolution makes the group's channels."""
    maker: Any = module.get_submodule(group.name)
    return isinstance(maker, LINEAR_MAPS) and not isinstance(maker, nn.Linear)
