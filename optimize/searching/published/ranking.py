"""Choose the channels of one round of the stepwise loop: the lowest scores over all layers, and of these the most beneficial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from optimize.importance.signal import Scores

ROUNDING = 1e-9


def round_budget(headroom: int, share: float, max_channels: int) -> int:
    """Return how many channels a round may take: a share of the headroom, at least 1, at most `max_channels`."""
    return min(max(1, ceil(share * headroom - ROUNDING)), max_channels)


def lowest_scores(scores: Mapping[str, Scores], share: float) -> list[tuple[str, int]]:
    """Return the lowest-scoring share of the channels of all groups together: (group, channel), ascending; NaN ranks last."""
    channels = [(name, channel) for name, score in scores.items() for channel in range(len(score))]
    # a channel of which the signal says nothing ranks last: it is not known to be unimportant
    values = np.nan_to_num(np.concatenate([*scores.values()]), nan=np.inf, posinf=np.inf)
    return [channels[place] for place in np.argsort(values, kind="stable")[: ceil(share * len(channels) - ROUNDING)]]


def most_beneficial(
    ranked: Sequence[tuple[str, int]], benefits: Mapping[str, float], headroom: Mapping[str, int], count: int
) -> dict[str, list[int]]:
    """Return the `count` most beneficial channels whose groups have headroom: group -> channels, lowest score first.

    Args:
        ranked: (group, channel), lowest score first.
        benefits: benefit of removing one channel, by group.
        headroom: number of channels that each group has above its floor.
        count: number of channels to take.
    """
    taken: dict[str, list[int]] = {}
    left = count
    # the sort is stable: inside a group, and between groups of equal benefit, the order stays that of the scores
    for name, channel in sorted(ranked, key=lambda entry: -benefits[entry[0]]):
        if left and len(taken.get(name, ())) < headroom[name]:
            taken.setdefault(name, []).append(channel)
            left -= 1
    return taken
