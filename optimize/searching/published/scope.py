"""The groups that a strategy of single channels may cut, with their minimum widths and their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.cut_check import check_cuts
from optimize.graph.trace import ChannelGroup, trace
from optimize.reconstruction.channel_removal import unprunable_reasons
from optimize.reconstruction.layer_repair import repairable
from optimize.searching.published.floors import least_widths
from optimize.searching.published.layout import blocks
from optimize.steps.merge import RepairMode

SHALLOW_BLOCKS = (3, 5)
"""The first three of five blocks are shallow: they are spared when the limits are nearly used up, and aligned in the end."""


@dataclass(frozen=True, eq=False)
class Scope:
    """The groups that may be cut, decided once, on the original.

    Args:
        groups: groups of the original that can be cut.
        floors: minimum width of each group, by name.
        blocks: block of each group that a convolution makes, by name; 0 has the largest maps.
    """

    groups: tuple[ChannelGroup, ...]
    floors: Mapping[str, int]
    blocks: Mapping[str, int]

    @classmethod
    def of(cls, reference: Reference, floors: str, repair: RepairMode) -> Scope:
        """Decide what may be cut in the reference's original.

        Args:
            reference: the original, and inputs to try a cut on.
            floors: name of a set of minimum widths, see `least_widths`.
            repair: the way readers are repaired. With "least squares", groups whose readers cannot be refitted are left alone.
        """
        original, graph = reference.original, trace(reference.original)
        layers = repairable(original.module, original.module, graph)
        inputs = reference.calibration
        if repair == "least squares":
            reasons = unprunable_reasons(graph.groups, original.module, layers, inputs, reference.memory)
        else:
            # without a refit any group will do whose cut leaves the network running and its other values as they were
            reasons = check_cuts(original.module, graph.groups, torch.from_numpy(inputs[:2].copy()))
        groups = [group for group, reason in zip(graph.groups, reasons, strict=True) if reason is None]
        placed = blocks(original, groups)
        return cls(tuple(groups), least_widths(floors, groups, placed), placed)

    def current_groups(self, candidate: Candidate) -> dict[str, ChannelGroup]:
        """Return the groups as they are in a candidate, by name, in execution order."""
        return {group.name: group for group in trace(candidate).groups if group.name in self.floors}

    def headroom(self, group: ChannelGroup) -> int:
        """Return how many channels a group has above its floor."""
        return max(0, group.size - self.floors[group.name])

    @property
    def shallow(self) -> tuple[str, ...]:
        """The groups of the first three of five blocks, the deepest first."""
        of, out_of = SHALLOW_BLOCKS
        # Example: of 10 blocks the first 3 * 10 // 5 = 6 are shallow, of 3 blocks the first one.
        first = of * (1 + max(self.blocks.values(), default=-1)) // out_of
        return tuple(sorted((name for name, block in self.blocks.items() if block < first), key=lambda name: -self.blocks[name]))
