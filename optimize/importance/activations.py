"""Activations of a group's channels, read where the first layer that uses them takes them in.

There they have passed whatever norm, nonlinearity and pooling lie in between, sums are summed, and a slot knows which positions of the
input belong to which channel, through concatenations and flattening; so one rule serves every topology. A layer called several times is
read at every call, as if each were another batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.graph.layer_calls import calls
from optimize.graph.trace import ChannelGroup, Slot
from optimize.reconstruction.moments import BATCH

T = TypeVar("T")
MAX_PIXELS = 4096


def over_activations(
    candidate: Candidate, inputs: Floats, groups: Sequence[ChannelGroup], read: Callable[[torch.Tensor], T]
) -> Iterator[tuple[int, T]]:
    """Yield (place of the group, `read(maps)`) for every group and batch of 128 inputs, from one pass over them.

    Args:
        candidate: the network.
        inputs: (N, C, *spatial).
        groups: groups of the candidate.
        read: function of (n, size, *map), the channels of one group; it must not keep them, or memory is no longer bounded.
    """
    readers: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        # several groups may be read first by the same layer (behind a concatenation): one call of it serves them all
        readers.setdefault(group.consumers[0].module, []).append(place)

    def read_groups(name: str, layer_inputs: torch.Tensor, _: torch.Tensor) -> list[tuple[int, T]]:
        layer = candidate.module.get_submodule(name)
        return [(place, read(channel_maps(layer, groups[place].consumers[0], layer_inputs))) for place in readers[name]]

    for start in range(0, len(inputs), BATCH):
        for _, values in calls(candidate.module, list(readers), torch.tensor(inputs[start : start + BATCH]), read_groups):
            yield from values


def channel_maps(layer: nn.Module, slot: Slot, inputs: torch.Tensor) -> torch.Tensor:
    """Return a group's channels in the inputs of a layer.

    A convolution reads (n, C, *spatial) and gives (n, size, *spatial); a linear layer reads (n, *, features) and gives (n, size, *, k),
    with the k positions of a flattened channel last.
    """
    index = torch.from_numpy(slot.index)
    if isinstance(layer, nn.Linear):
        return inputs[..., index].movedim(-2, 1)
    chosen = inputs[:, index]  # (n, size, k, *spatial)
    return chosen.squeeze(2) if index.shape[1] == 1 else chosen


def thin_positions(channels: torch.Tensor) -> torch.Tensor:
    """Return the maps flattened, (n, size, *map) -> (n, size, positions); of larger maps 4096 evenly spaced positions."""
    flat = channels.flatten(2)
    count = flat.shape[2]
    # arange * count // 4096 spreads 4,096 positions evenly over the whole map, from the first on
    return flat if count <= MAX_PIXELS else flat[:, :, torch.arange(MAX_PIXELS) * count // MAX_PIXELS]


def sample_calibration(reference: Reference, cases: int) -> Floats:
    """Return at most `cases` calibration inputs, drawn by the reference's seed and left in their order."""
    order = np.random.default_rng(reference.seed).permutation(len(reference.calibration))
    return reference.calibration[np.sort(order[:cases])]
