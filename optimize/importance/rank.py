"""Rank of a channel's activation maps, averaged over cases (HRank: Lin et al. 2020).

    numerical rank: singular values above  sigma_max * max(H, W) * eps       effective rank: exp( entropy of sigma / sum sigma )

The effective rank (Roy & Vetterli 2007) also tells maps of full rank apart, which most maps with few zeros are. A map that is zero
everywhere has rank 0 in both. Maps are read at the first reader, after norm, nonlinearity and pooling. A channel flattened to k positions
is seen as the square map it came from where k is a square, else as one row; of volumes, the axes after the first are taken as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.activations import over_activations, sample_calibration
from optimize.importance.signal import Scores


@dataclass(frozen=True)
class Rank:
    """Mean rank of a channel's maps.

    Args:
        effective: the effective rank instead of the numerical one.
        cases: drawn from the calibration inputs; the mean rank hardly depends on which, and singular values cost time.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> _ = net[0].weight.data[2].zero_(), net[0].bias.data[2].fill_(-1)  # channel 2 is 0 behind its ReLU
        >>> (scores,) = opt.Rank()(original, reference, opt.trace(original).groups)
        >>> scores.shape, float(scores[2])
        ((6,), 0.0)
    """

    effective: bool = False
    cases: int = 512

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return the mean rank of each channel's maps, (size,) per group, between 0 and the shorter side of the maps."""
        sums, counts = [np.zeros(group.size) for group in groups], [0] * len(groups)
        ranks = effective_ranks if self.effective else numerical_ranks
        inputs = sample_calibration(reference, self.cases)
        for place, values in over_activations(candidate, inputs, groups, lambda maps: ranks(matrices(maps))):
            sums[place] += np.asarray(values.double().sum(0).numpy())
            counts[place] += len(values)
        return [total / count for total, count in zip(sums, counts, strict=True)]


def matrices(maps: torch.Tensor) -> torch.Tensor:
    """Return each map as the matrix whose rank is meant, (n, size, *map) -> (n, size, H, W)."""
    if maps.dim() > 3:
        return maps.flatten(3) if maps.dim() > 4 else maps
    count = maps.shape[2] if maps.dim() == 3 else 1
    side = isqrt(count)
    return maps.reshape(*maps.shape[:2], side, side) if side * side == count else maps[:, :, None]


def numerical_ranks(maps: torch.Tensor) -> torch.Tensor:
    """Return the numerical rank of each map, (..., H, W) -> (...)."""
    singular = torch.linalg.svdvals(maps)
    # below this a singular value is rounding (the rule of MATLAB and numpy.linalg.matrix_rank)
    least = singular[..., :1] * max(maps.shape[-2:]) * torch.finfo(singular.dtype).eps
    ranks: torch.Tensor = (singular > least).sum(-1)
    return ranks


def effective_ranks(maps: torch.Tensor) -> torch.Tensor:
    """Return the effective rank of each map, (..., H, W) -> (...)."""
    singular = torch.linalg.svdvals(maps)
    share = singular / singular.sum(-1, keepdim=True).clamp_min(torch.finfo(singular.dtype).tiny)
    return torch.where(singular[..., 0] > 0, torch.special.entr(share).sum(-1).exp(), 0.0)
