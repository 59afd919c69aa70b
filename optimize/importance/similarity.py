"""Similarities between the channels of a group.

Over all cases and positions, with a_i and a_j two channels' activations at their first reader:

    cosine = sum a_i a_j / sqrt( sum a_i^2  sum a_j^2 )        Pearson = the same of centred activations
    IoU    = positions where both are above zero / positions where either is

`pooled` averages each map first, one number per case. A channel for which the quotient is 0 / 0 (zero everywhere; constant, for Pearson;
never above zero, for IoU) has NaN in its row and column, the diagonal included: it is like no other, and yet worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.activations import over_activations, thin_positions
from optimize.importance.signal import Scores

CONSTANT = 1e-10
"""Share of the mean square below which a variance is rounding."""


def cosine(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup], *, pooled: bool = False) -> list[Scores]:
    """Return the cosine similarity between activations, (size, size) per group, in [-1, 1]."""
    statistics = _covariances(candidate, reference, groups, pooled)
    return [_normalised(covariance + np.outer(mean, mean), 0.0) for covariance, mean in statistics]


def pearson(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup], *, pooled: bool = False) -> list[Scores]:
    """Return the correlation between activations, (size, size) per group, in [-1, 1]."""
    statistics = _covariances(candidate, reference, groups, pooled)
    return [_normalised(covariance, CONSTANT * (covariance.diagonal() + mean**2)) for covariance, mean in statistics]


def iou(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup], *, pooled: bool = False) -> list[Scores]:
    """Return the intersection over union of where activations are above zero, (size, size) per group, in [0, 1]."""
    both = [np.zeros((group.size, group.size)) for group in groups]
    for place, counts in over_activations(candidate, reference.calibration, groups, lambda maps: _joint_counts(_rows(maps, pooled))):
        both[place] += counts
    matrices = []
    for count in both:
        # the diagonal counts where one channel is on: |A or B| = |A| + |B| - |A and B|
        either = count.diagonal()[:, None] + count.diagonal() - count
        silent = (count.diagonal() == 0)[:, None] | (count.diagonal() == 0)
        matrices.append(np.where(silent, np.nan, count / np.where(either == 0, 1, either)))
    return matrices


def _rows(maps: torch.Tensor, pooled: bool) -> torch.Tensor:
    """Return the activations as rows, (n, size, *map) -> (rows, size)."""
    return maps.flatten(2).mean(2, dtype=torch.float64) if pooled else thin_positions(maps).transpose(1, 2).flatten(0, 1)


def _joint_counts(rows: torch.Tensor) -> Scores:
    on = (rows > 0).float()
    return np.asarray((on.T @ on).double().numpy())  # whole numbers below 2^24, exact


def _covariances(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup], pooled: bool) -> list[tuple[Scores, Scores]]:
    """Return the (size, size) covariance and (size,) mean of each group, from batches put together by the formula of Chan et al. (1983)."""
    counts = [0] * len(groups)
    sums = [(np.zeros((group.size, group.size)), np.zeros(group.size)) for group in groups]
    parts = over_activations(candidate, reference.calibration, groups, lambda maps: _scatter(_rows(maps, pooled)))
    for place, (rows, scatter, mean) in parts:
        (total, centre), count = sums[place], counts[place]
        counts[place] += rows
        # Example: 10 rows of mean 1 and 30 rows of mean 2. The batches' own scatters add up; the means lie 1 apart, which adds 1 * 10 * 30
        # / 40 = 7.5.
        apart = mean - centre
        total += scatter + np.outer(apart, apart) * (count * rows / counts[place])
        centre += apart * (rows / counts[place])
    return [(total / count, centre) for (total, centre), count in zip(sums, counts, strict=True)]


def _scatter(rows: torch.Tensor) -> tuple[int, Scores, Scores]:
    """Return the number of rows, the scatter about their mean, and the mean; float64, since 1 - similarity may be a small difference."""
    rows = rows.double()
    mean = rows.mean(0)
    centred = rows - mean
    return len(rows), (centred.T @ centred).numpy(), mean.numpy()


def _normalised(products: Scores, least: Scores | float) -> Scores:
    """Return the products divided by the root of the diagonal on both sides; NaN where a diagonal entry does not exceed `least`."""
    diagonal = products.diagonal()
    scale = np.sqrt(np.where(diagonal > least, diagonal, np.nan))
    matrix: Scores = products / np.outer(scale, scale)
    return matrix
