"""Magnitude: the norm of the filters that make a channel (Li et al. 2017 with L1).

    L1 = sum |w|      L2 = sqrt( sum w^2 )      over the weights of every layer that makes the channel, biases left out

Where several layers are summed into a channel all their filters count together, and so does the filter of a depthwise convolution that the
channel passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_types import groups
from optimize.graph.trace import LINEAR_MAPS, ChannelGroup, Slot
from optimize.importance.signal import Scores


@dataclass(frozen=True)
class Magnitude:
    """Norm of the filters that make a channel.

    Args:
        norm: 1 or 2.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> _ = net[0].weight.data[2].zero_(), net[0].bias.data[2].zero_()
        >>> (scores,) = opt.Magnitude()(original, reference, opt.trace(original).groups)
        >>> scores.shape, int(scores.argmin())
        ((6,), 2)
    """

    norm: int = 2

    def __post_init__(self) -> None:
        if self.norm not in (1, 2):
            raise ValueError(f"`norm` (={self.norm}) must be 1 or 2.")

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group; filters of different fan-in do not compare."""
        return [self._norms(candidate.module, group) for group in groups]

    def _norms(self, module: nn.Module, group: ChannelGroup) -> Scores:
        weights = [filters(module.get_submodule(slot.module), slot, weight_of(module, slot)) for slot in producer_slots(module, group)]
        return np.asarray(torch.cat(weights, 1).double().norm(self.norm, dim=1).numpy())


def producer_slots(module: nn.Module, group: ChannelGroup) -> list[Slot]:
    """Return the slots of the layers whose filters make the group's channels."""
    return [slot for slot in group.slots if slot.side == "out" and isinstance(module.get_submodule(slot.module), LINEAR_MAPS)]


def weight_of(module: nn.Module, slot: Slot) -> torch.Tensor:
    """Return the weight of a slot's layer."""
    return module.get_submodule(slot.module).get_parameter("weight").detach()


def filters(layer: nn.Module, slot: Slot, weight: torch.Tensor) -> torch.Tensor:
    """Return the entries, of a tensor shaped like the layer's weight, that make each of the slot's channels: (size, n)."""
    turned = getattr(layer, "transposed", False)
    # a transposed weight is (in, out / groups, *kernel): its outputs are brought to the front, group by group
    by_output = weight.reshape(groups(layer), -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1) if turned else weight
    return by_output[torch.from_numpy(slot.index)].flatten(1)  # (size, k, *rest) -> (size, k * rest)
