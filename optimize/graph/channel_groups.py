"""Channels that are cut together, as frozen values that name layers and do not hold them.

Example: conv1 (16 outputs), norm1 and conv2, which reads them, form one group of 16 channels with three slots: ("conv1", "out"), ("norm1",
"out") and ("conv2", "in"), each with the index [[0], [1], ... [15]]. Behind a flattening of 2x2 maps, channel c of the group is read at
four places, and the index of a linear layer has the rows [4 c, 4 c + 1, 4 c + 2, 4 c + 3].
"""

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
    """One side of one layer that holds a group's channels.

    Args:
        module: dotted name in the network.
        side: "out" when the layer makes the channels (or passes them on one by one, as norms and depthwise convolutions do), "in" when it
            reads them.
        index: (size, k); row c holds the k positions of channel c on that side. k is 1, except where channels were flattened or stacked,
            or where several are cut together, like one of every group of a grouped convolution.
    """

    module: str
    side: Side
    index: Index


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that exist in several layers at once, and can only be cut from all of them.

    Args:
        size: number of channels.
        slots: the sides of layers that hold them; layers that make them come first.
    """

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
    """Return the groups, renumbered for a network in which `cut` holds only the channels `keep`.

    Groups that share a concatenation share a layer's input: cutting one shifts the positions of the other.

    Example: a layer reads 4 channels of group A at 0..3 and 2 of group B at 4, 5. When A keeps two channels, B is read at 2, 3.

    Args:
        groups: all groups of the network.
        cut: the group that is cut.
        keep: its channels that stay.
    """
    removed: dict[tuple[str, Side], Index] = {}
    lost = np.setdiff1d(np.arange(cut.size), keep)
    for slot in cut.slots:
        # positions that go, by side of each layer, whichever group they are part of
        removed[slot.module, slot.side] = np.sort(slot.index[lost].ravel())
    renumbered = []
    for group in groups:
        if group is not cut and not any((slot.module, slot.side) in removed for slot in group.slots):
            # most groups share no layer's side with the one that is cut
            renumbered.append(group)
        elif group is cut:
            slots = tuple(_shifted(replace(slot, index=slot.index[keep]), removed) for slot in group.slots)
            renumbered.append(ChannelGroup(len(keep), slots))
        else:
            renumbered.append(ChannelGroup(group.size, tuple(_shifted(slot, removed) for slot in group.slots)))
    return tuple(renumbered)


def _shifted(slot: Slot, removed: dict[tuple[str, Side], Index]) -> Slot:
    lost = removed.get((slot.module, slot.side))
    # searchsorted counts the positions that go below each one: without 1 and 2, position 4 becomes 4 - 2 = 2
    return slot if lost is None else replace(slot, index=slot.index - np.searchsorted(lost, slot.index))
