"""How large the maps of each layer are, and so which block a group of channels belongs to.

A block is what lies between two spatial down-samplings. It shows in the size of the maps alone: with side = the geometric mean of a map's
extents, layers share a block when their sides differ by less than the square root of 2, half way (on a logarithmic scale) between a border
that was not padded and a halving. So it needs no name, and the decoder of a U-Net lies beside the encoder it answers.
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
class Maps:
    """What one layer reads and makes for one input.

    Args:
        read: positions of the maps it reads, over all its calls.
        made: positions of the maps it makes, over all its calls.
        side: geometric mean of the extents of the maps it makes.
    """

    read: int
    made: int
    side: float


def layout(candidate: Candidate) -> dict[str, Maps]:
    """The maps of every convolution and linear layer that is called, in execution order; a linear layer has maps of one position."""
    found: dict[str, Maps] = {}

    def seen(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor) -> None:
            given = args[0] if args else named["input"]
            extents = [list(each.shape[2:]) if not isinstance(layer, nn.Linear) else [] for each in (given, output)]
            read, made = (prod(each) for each in extents)
            before = found.get(name, Maps(0, 0, 0.0))
            side = float(made) ** (1 / max(1, len(extents[1])))
            found[name] = Maps(before.read + read, before.made + made, max(before.side, side))

        return hook

    layers = [(name, layer) for name, layer in candidate.module.named_modules() if isinstance(layer, LINEAR_MAPS)]
    handles = [layer.register_forward_hook(seen(name), with_kwargs=True) for name, layer in layers]
    try:
        with torch.inference_mode():
            candidate.module(candidate.example.clone())
    finally:
        for handle in handles:
            handle.remove()
    return found


def blocks(candidate: Candidate, groups: Sequence[ChannelGroup]) -> dict[str, int]:
    """The block of every group whose channels a convolution makes: 0 for the largest maps, and so on down; others are not named."""
    maps = layout(candidate)
    sides = {group.name: maps[group.name].side for group in groups if convolves(candidate.module, group) and group.name in maps}
    levels: list[float] = []
    for side in sorted(set(sides.values()), reverse=True):
        if not levels or side <= levels[-1] / sqrt(2):
            levels.append(side)
    return {name: max(place for place, level in enumerate(levels) if side <= level) for name, side in sides.items()}


def convolves(module: nn.Module, group: ChannelGroup) -> bool:
    """Whether a convolution makes the group's channels."""
    maker: Any = module.get_submodule(group.name)
    return isinstance(maker, LINEAR_MAPS) and not isinstance(maker, nn.Linear)
