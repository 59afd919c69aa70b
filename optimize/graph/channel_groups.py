"""Channels that are cut together, as frozen values that name layers and do not hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.graph.layer_types import Side

Index: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slot:
    """One side of one layer that carries a group's channels.

    Args:
        module: dotted name in the network.
        side: "out" when the layer makes the channels (or passes them on one by one, as norms and depthwise convolutions do), "in" when it
            reads them.
        index: (size, k); row c holds the k positions of channel c on that side: k is 1 but where channels were flattened or stacked, or
            several are cut together, as one of every group of a grouped convolution.
    """

    module: str
    side: Side
    index: Index


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that exist, or not, in several layers at once."""

    size: int
    slots: tuple[Slot, ...]

    @property
    def name(self) -> str:
        """The first layer that makes these channels."""
        return self.slots[0].module

    @property
    def consumers(self) -> tuple[Slot, ...]:
        """The slots that read the channels."""
        return tuple(slot for slot in self.slots if slot.side == "in")


def without(groups: Iterable[ChannelGroup], cut: ChannelGroup, keep: Index) -> tuple[ChannelGroup, ...]:
    """The other groups, renumbered for a network in which `cut` holds only the channels `keep`.

    Groups that share a concatenation share a layer's input: cutting one shifts the other's positions.
    """
    gone: dict[tuple[str, Side], Index] = {}
    lost = np.setdiff1d(np.arange(cut.size), keep)
    for slot in cut.slots:
        gone[slot.module, slot.side] = np.sort(slot.index[lost].ravel())
    renumbered = []
    for group in groups:
        if group is cut:
            slots = tuple(_shifted(replace(slot, index=slot.index[keep]), gone) for slot in group.slots)
            renumbered.append(ChannelGroup(len(keep), slots))
        else:
            renumbered.append(ChannelGroup(group.size, tuple(_shifted(slot, gone) for slot in group.slots)))
    return tuple(renumbered)


def _shifted(slot: Slot, gone: dict[tuple[str, Side], Index]) -> Slot:
    lost = gone.get((slot.module, slot.side))
    return slot if lost is None else replace(slot, index=slot.index - np.searchsorted(lost, slot.index))
