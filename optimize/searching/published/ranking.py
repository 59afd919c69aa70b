"""Which channels a round of the stepwise loop takes: those with the lowest scores over all layers, and of these the most beneficial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_types import linear_submodule
from optimize.graph.trace import ChannelGroup, trace
from optimize.importance.output_error import eliminate
from optimize.importance.signal import Scores
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.layer_repair import RIDGE, ROWS, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import build_problem

ROUNDING = 1e-9


@dataclass(frozen=True)
class OutputError:
    """Importance that compares across layers: the total cost at which greedy elimination removes a channel, after the best repair.

    Args:
        rows: number of sampled positions of each reader.
        ridge: strength of the ridge, as in `Repair`.
    """

    rows: int = ROWS
    ridge: float = RIDGE

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """(size,) per group, a share of the energy of the readers' original outputs; infinite for the channel that stays to the end."""
        graph, module, original = trace(candidate), candidate.module, reference.original.module
        layers = repairable(module, original, graph)
        targets = OriginalOutputs(original, reference.calibration, layers, rows=self.rows, seed=reference.seed, memory=reference.memory)
        scores = []
        for group in groups:
            moments = targets.moments(module, [slot.module for slot in group.consumers])
            problems = [build_problem(module, original, graph, name, moments[name], candidate.kept, self.ridge) for name in moments]
            blocks = {slot.module: columns(linear_submodule(module, slot.module), slot.index) for slot in group.consumers}
            elimination = eliminate([(problem, blocks[problem.name]) for problem in problems])
            score = np.full(group.size, np.inf)
            score[elimination.order] = elimination.cost
            scores.append(score)
        return scores


def round_budget(headroom: int, share: float, max_channels: int) -> int:
    """Return how many channels a round may take: a share of the headroom, at least 1, at most `max_channels`."""
    return min(max(1, ceil(share * headroom - ROUNDING)), max_channels)


def lowest_scores(scores: Mapping[str, Scores], share: float) -> list[tuple[str, int]]:
    """Return the lowest-scoring share of the channels of all groups together: (group, channel), ascending; NaN ranks last."""
    channels = [(name, channel) for name, score in scores.items() for channel in range(len(score))]
    values = np.nan_to_num(np.concatenate([*scores.values()]), nan=np.inf, posinf=np.inf)
    return [channels[place] for place in np.argsort(values, kind="stable")[: ceil(share * len(channels) - ROUNDING)]]


def most_beneficial(
    ranked: Sequence[tuple[str, int]], benefits: Mapping[str, float], headroom: Mapping[str, int], count: int
) -> dict[str, list[int]]:
    """Return the `count` most beneficial channels whose groups have headroom: group -> channels, lowest score first.

    Args:
        ranked: (group, channel), lowest score first.
        benefits: benefit of removing one channel, by group.
        headroom: how many channels each group has above its floor.
        count: how many to take.
    """
    taken: dict[str, list[int]] = {}
    left = count
    for name, channel in sorted(ranked, key=lambda entry: -benefits[entry[0]]):
        if left and len(taken.get(name, ())) < headroom[name]:
            taken.setdefault(name, []).append(channel)
            left -= 1
    return taken
