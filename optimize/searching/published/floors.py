"""Minimum widths of a search: the published sets S1 to S6, one width for each of five blocks.

They were set for blocks of 64, 128, 256, 512 and 512 channels, and every convolution of a block has its block's floor (VGG16). Here a floor
is a share of the width in the original: at those widths the numbers are the published ones, and a narrower network has proportionate
floors. With another number of blocks the share is interpolated between the five, by depth.

Example, S2: the third block keeps 192 of 256 channels, a share of .75. A third block of 32 channels keeps 24. In a network of three blocks
the middle one lies half way between the first and the last, at the third of the five, and keeps .75 as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from optimize.errors import require_choice
from optimize.graph.trace import ChannelGroup

PUBLISHED_WIDTHS = (64, 128, 256, 512, 512)
FLOORS: Mapping[str, tuple[int, ...]] = {
    "S1": (56, 96, 160, 96, 160),
    "S2": (56, 112, 192, 128, 160),
    "S3": (60, 112, 192, 160, 192),
    "S4": (60, 112, 224, 192, 208),
    "S5": (60, 112, 192, 256, 256),
    "S6": (56, 96, 160, 256, 256),
}
"""Minimum widths by name, first block first."""
FLOOR_NAMES = (*FLOORS, "none")

LINEAR_SHARE, LINEAR_MIN_WIDTH = 0.5, 256
"""A linear layer keeps half of its outputs, and no fewer than this many."""
ROUNDING = 1e-9


def least_widths(floors: str, groups: Sequence[ChannelGroup], blocks: Mapping[str, int]) -> dict[str, int]:
    """Return the minimum width of every group, by name; 1 for all with "none".

    Args:
        floors: "S1" to "S6", or "none".
        groups: groups of the original.
        blocks: block of every group that a convolution makes. All other groups are treated as linear layers.

    Raises:
        InputError: when there is no such set of floors.
    """
    require_choice("floors", floors, FLOOR_NAMES)
    if floors == "none":
        return {group.name: 1 for group in groups}
    count = 1 + max(blocks.values(), default=0)
    return {
        group.name: ceil(_floor_share(floors, blocks[group.name], count) * group.size - ROUNDING)
        if group.name in blocks
        else min(group.size, max(ceil(LINEAR_SHARE * group.size), LINEAR_MIN_WIDTH))
        for group in groups
    }


def _floor_share(floors: str, block: int, count: int) -> float:
    width_shares = np.divide(FLOORS[floors], PUBLISHED_WIDTHS)
    # the block's place on a scale from 0 (first) to 4 (last of five): the middle one of three is at 2
    depth = block / max(1, count - 1) * (len(width_shares) - 1)
    return float(np.interp(depth, np.arange(len(width_shares)), width_shares))
