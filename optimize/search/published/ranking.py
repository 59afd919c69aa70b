"""Which channels a round of the stepwise loop takes: the least important over all layers, and of these the most beneficial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from optimize.importance.signal import Scores

ROUNDING = 1e-9


def budget(headroom: int, portion: float, most: int) -> int:
    """How many channels a round may take: a portion of the headroom, at least 1, at most `most`."""
    return min(max(1, ceil(portion * headroom - ROUNDING)), most)


def lowest(scores: Mapping[str, Scores], share: float) -> list[tuple[str, int]]:
    """The share of all channels, of whatever group, that scores lowest: (group, channel), ascending; NaN scores highest."""
    channels = [(name, channel) for name, score in scores.items() for channel in range(len(score))]
    values = np.nan_to_num(np.concatenate([*scores.values()]), nan=np.inf, posinf=np.inf)
    return [channels[place] for place in np.argsort(values, kind="stable")[: ceil(share * len(channels) - ROUNDING)]]


def chosen(
    ranked: Sequence[tuple[str, int]], benefits: Mapping[str, float], headroom: Mapping[str, int], count: int
) -> dict[str, list[int]]:
    """Of these channels, the `count` most beneficial whose groups have room: group -> channels, lowest score first.

    Args:
        ranked: (group, channel), lowest score first.
        benefits: of one channel of each group.
        headroom: how many channels each group is above its floor.
        count: how many to take.
    """
    taken: dict[str, list[int]] = {}
    left = count
    for name, channel in sorted(ranked, key=lambda entry: -benefits[entry[0]]):
        if left and len(taken.get(name, ())) < headroom[name]:
            taken.setdefault(name, []).append(channel)
            left -= 1
    return taken
