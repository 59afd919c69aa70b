"""Whether the channels of a layer that stay still vary: a layer that says the same to every input is lost, and no reader can mend it.

The dispersion of a channel is the standard deviation of its activations over cases and positions, read where its first reader takes them;
that of a layer is the mean over its channels. It may not fall below a share, as published .6, of what the original's layer had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.activations import over_activations, sample_calibration, thin_positions
from optimize.importance.signal import Scores
from optimize.reconstruction.moments import BATCH

BATCHES = 6
LEAST = 0.6


@dataclass(frozen=True, eq=False)
class Health:
    """The check before every chunk.

    Args:
        baseline: dispersion of each group's layer in the original, by name.
        least: share of it that must stay.
    """

    baseline: Mapping[str, float]
    least: float = LEAST

    @classmethod
    def of(cls, reference: Reference, groups: Sequence[ChannelGroup], least: float = LEAST) -> Health:
        """The check against the original, whose groups these are."""
        found = dispersions(reference.original, reference, groups)
        return cls({group.name: float(each.mean()) for group, each in zip(groups, found, strict=True)}, least)

    def holds(self, candidate: Candidate, reference: Reference, group: ChannelGroup, gone: Sequence[int]) -> bool:
        """Whether the group's other channels vary enough once the channels `gone` are removed."""
        (now,) = dispersions(candidate, reference, [group])
        return float(np.delete(now, gone).mean()) >= self.least * self.baseline[group.name]


def dispersions(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
    """Standard deviation of every channel's activations, (size,) per group, over six batches of 128 calibration inputs."""
    sums = [np.zeros((3, group.size)) for group in groups]
    for place, found in over_activations(candidate, sample_calibration(reference, BATCHES * BATCH), groups, _sums):
        sums[place] += found
    return [np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)) for count, total, squares in sums]


def _sums(maps: torch.Tensor) -> Scores:
    """How many values each channel has, their sum and the sum of their squares: (3, size)."""
    pixels = thin_positions(maps).double()
    count = torch.full((pixels.shape[1],), pixels.shape[0] * pixels.shape[2], dtype=torch.float64)
    return np.asarray(torch.stack([count, pixels.sum((0, 2)), pixels.square().sum((0, 2))]).numpy())
