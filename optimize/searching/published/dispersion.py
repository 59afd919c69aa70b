"""Check that the remaining channels of a layer still vary: a layer that gives the same to every input has lost its information.

The dispersion of a channel is the standard deviation of its activations over cases and positions, taken where its first reader reads them.
The dispersion of a layer is the mean over its channels. It must stay above a share (as published .6) of the layer's dispersion in the
original.

Example: a layer of three channels has dispersions 1.0, 0.5 and 0.3 in the original, 0.6 on average. Without its first channel 0.4 is left,
which is above .6 * 0.6 = 0.36: the removal may be proposed.
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

DISPERSION_BATCHES = 6
MIN_DISPERSION_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class DispersionCheck:
    """The check that every chunk must pass before it is proposed.

    Args:
        baseline: dispersion of each group's layer in the original, by name.
        min_share: share of the baseline that must be left.
    """

    baseline: Mapping[str, float]
    min_share: float = MIN_DISPERSION_SHARE

    @classmethod
    def of(cls, reference: Reference, groups: Sequence[ChannelGroup], min_share: float = MIN_DISPERSION_SHARE) -> DispersionCheck:
        """Measure the baseline on the original.

        Args:
            reference: the original, and the calibration inputs.
            groups: groups of the original.
            min_share: share of the baseline that must be left.
        """
        by_group = dispersions(reference.original, reference, groups)
        return cls({group.name: float(dispersion.mean()) for group, dispersion in zip(groups, by_group, strict=True)}, min_share)

    def holds(self, candidate: Candidate, reference: Reference, group: ChannelGroup, removed: Sequence[int]) -> bool:
        """Return whether the group's other channels vary enough once the channels `removed` are gone."""
        (now,) = dispersions(candidate, reference, [group])
        return float(np.delete(now, removed).mean()) >= self.min_share * self.baseline[group.name]


def dispersions(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
    """Return the standard deviation of every channel's activations, (size,) for each group, over six batches of 128 calibration inputs."""
    sums = [np.zeros((3, group.size)) for group in groups]
    for group_number, batch_sums in over_activations(candidate, sample_calibration(reference, DISPERSION_BATCHES * BATCH), groups, _sums):
        sums[group_number] += batch_sums
    # variance = mean of squares - square of mean; rounding may take it just below zero
    return [np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)) for count, total, squares in sums]


def _sums(maps: torch.Tensor) -> Scores:
    """Return the number of values of each channel, their sum, and the sum of their squares: (3, size)."""
    pixels = thin_positions(maps).double()
    count = torch.full((pixels.shape[1],), pixels.shape[0] * pixels.shape[2], dtype=torch.float64)
    return np.asarray(torch.stack([count, pixels.sum((0, 2)), pixels.square().sum((0, 2))]).numpy())
