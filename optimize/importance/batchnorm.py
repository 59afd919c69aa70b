"""Batch norm scale: |gamma| of the norms a channel passes (Liu et al. 2017).

A group with several norms gets their mean. A group without any, or whose norms have no affine part, gets NaN: this signal knows nothing
about it, and another scale put in its place would not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, Slot
from optimize.importance.signal import Scores

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class BatchNormScale:
    """Mean |gamma| over the group's batch norms; NaN where there is none.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 1, 4, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 1, 4, 4), np.float32))
        >>> net[1].weight.data = torch.tensor([1.0, -2.0, 0.5, 0.0])
        >>> opt.BatchNormScale()(original, reference, opt.trace(original).groups)[0].tolist()
        [1.0, 2.0, 0.5, 0.0]
    """

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group; comparable across groups where the norms' outputs matter alike."""
        return [_mean_scale(candidate.module, group) for group in groups]


def _mean_scale(module: nn.Module, group: ChannelGroup) -> Scores:
    scales = [scale for slot in group.slots if (scale := _scale(module.get_submodule(slot.module), slot)) is not None]
    return np.mean(scales, axis=0) if scales else np.full(group.size, np.nan)


def _scale(layer: Any, slot: Slot) -> Scores | None:
    if not isinstance(layer, NORMS) or layer.weight is None:
        return None
    # a channel that is flattened to several positions has as many factors, of which the mean counts
    scale: Scores = np.abs(layer.weight.detach().double().numpy())[slot.index].mean(1)
    return scale
