"""Inside-layer ranking: three cheap statistics fused into one score between 0 and 1.

Each is min-max scaled within the group (a constant one becomes .5), then

    ILR = ( .6 rms + .4 |gamma| + .2 frobenius ) / 1.2

with rms = sqrt( mean of a^2 ) and frobenius = sqrt( sum of a^2 ) over cases and positions, both averaged over six batches of 128. Where a
group has no batch norm, its term leaves sum and divisor. The third term is published as "hrank", but it is no rank: unless a smaller batch
comes last it is the first term again (`rank.py` is the real thing). Of channels that a convolution makes and a linear layer reads, the
final score is

    .70 ILR + .30 minmax( mean |columns of the linear layer that belong to the channel| )

Example: three channels with rms (1, 2, 3), |gamma| (5, 5, 10) and no difference in the third term scale to (0, .5, 1), (0, 0, 1) and
(.5, .5, .5), so ILR = (.1, .4, 1.1) / 1.2 = (.08, .33, .92). Without a norm the divisor is .8 and ILR = (.1, .4, .7) / .8.

Activations are read at the first reader, after norm, ReLU and pooling; maps above 4096 pixels are thinned to that many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import LINEAR_MAPS, ChannelGroup
from optimize.importance.activations import over_activations, sample_calibration, thin_positions
from optimize.importance.batchnorm import BatchNormScale
from optimize.importance.signal import Scores
from optimize.reconstruction.moments import BATCH

RMS, GAMMA, FROBENIUS, HEAD = 0.6, 0.4, 0.2, 0.3


@dataclass(frozen=True)
class InsideLayerRanking:
    """The published fusion, weights included.

    Args:
        batches: number of batches of 128 calibration inputs each, drawn by the reference's seed.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 1, 4, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 1, 4, 4), np.float32))
        >>> (scores,) = opt.InsideLayerRanking()(original, reference, opt.trace(original).groups)
        >>> scores.shape, bool((scores >= 0).all() and (scores <= 1).all())
        ((4,), True)
    """

    batches: int = 6

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group, in [0, 1]; by construction only the order within a group means anything."""
        strengths = _strengths(candidate, reference, groups, self.batches)
        gammas = BatchNormScale()(candidate, reference, groups)
        scores = []
        for group, (rms, frobenius), gamma in zip(groups, strengths, gammas, strict=True):
            score = fuse(((RMS, rms), (GAMMA, gamma), (FROBENIUS, frobenius)))
            head = _head_columns(candidate.module, group)
            scores.append(score if head is None else (1 - HEAD) * score + HEAD * minmax(head))
        return scores


def fuse(signals: Sequence[tuple[float, Scores]]) -> Scores:
    """Return the weighted mean of min-max scaled signals; one that is NaN leaves sum and divisor."""
    # a group without a batch norm has NaN for gamma
    present = [(weight, minmax(values)) for weight, values in signals if not np.isnan(values).any()]
    total: Scores = sum(weight * values for weight, values in present) / sum(weight for weight, _ in present)  # type: ignore[assignment]
    return total


def minmax(values: Scores) -> Scores:
    """Return the values scaled to [0, 1]; .5 throughout where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _strengths(candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup], batches: int) -> list[Scores]:
    """Return (2, size) per group: rms and Frobenius norm of each channel's activations, averaged over batches."""
    strengths: list[list[Scores]] = [[] for _ in groups]
    for place, strength in over_activations(candidate, sample_calibration(reference, batches * BATCH), groups, _strength):
        strengths[place].append(strength)
    return [np.mean(batches_of_group, axis=0) for batches_of_group in strengths]


def _strength(maps: torch.Tensor) -> Scores:
    pixels = thin_positions(maps)
    frobenius = torch.linalg.vector_norm(pixels, dim=(0, 2), dtype=torch.float64).numpy()
    # for a full batch the first is the second divided by a constant, which min-max scaling removes: the two terms then agree
    return np.stack([frobenius / np.sqrt(pixels.shape[0] * pixels.shape[2]), frobenius])


def _head_columns(module: nn.Module, group: ChannelGroup) -> Scores | None:
    """Return the mean |weight| with which a linear layer reads each channel a convolution made; None for all other groups."""
    slot = group.consumers[0]
    reader = module.get_submodule(slot.module)
    maker = module.get_submodule(group.name)
    if not isinstance(reader, nn.Linear) or isinstance(maker, nn.Linear) or not isinstance(maker, LINEAR_MAPS):
        return None
    # |weight| averaged over the reader's outputs first, then over the positions of a flattened channel
    return np.asarray(reader.weight.detach().double().abs().mean(0)[torch.from_numpy(slot.index)].mean(1).numpy())
