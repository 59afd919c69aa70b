"""Redundancy: how unlike every other channel of its group a channel is; one that has a double can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.signal import Scores
from optimize.importance.similarity import cosine, iou, pearson


@dataclass(frozen=True)
class Redundancy:
    """1 - the largest similarity with any other channel: 0 for a channel that has a double.

    Args:
        measure: name of the similarity.
        pooled: compare the means of the maps instead of the maps.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> net[0].weight.data[5], net[0].bias.data[5] = net[0].weight.data[3], net[0].bias.data[3]  # channel 5 doubles channel 3
        >>> (scores,) = opt.Redundancy()(original, reference, opt.trace(original).groups)
        >>> scores.round(6)[[3, 5]].tolist()
        [0.0, 0.0]
    """

    measure: Literal["cosine", "pearson", "iou"] = "cosine"
    pooled: bool = False

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return the worth of each channel, (size,) per group, in [0, 2]; a silent channel is worth 0, the only channel of a group 1."""
        measure = {"cosine": cosine, "pearson": pearson, "iou": iou}[self.measure]
        return [dissimilarity(matrix) for matrix in measure(candidate, reference, groups, pooled=self.pooled)]


def dissimilarity(similarity: Scores) -> Scores:
    """Return 1 - the largest entry of each row off the diagonal, (size, size) -> (size,)."""
    silent = np.isnan(similarity.diagonal())
    off_diagonal = np.where(np.isnan(similarity), -np.inf, similarity)
    # a channel is no double of itself
    np.fill_diagonal(off_diagonal, -np.inf)
    largest = off_diagonal.max(1)
    # silent: worth nothing; alone, or beside silent ones only: nothing is like it, so it is worth 1
    return np.where(silent, 0.0, 1 - np.where(np.isneginf(largest), 0.0, largest))
