"""First-order Taylor expansion of the loss in a gate on each channel (Molchanov et al. 2017 on activations, 2019 on gates).

With z a gate of 1 on everything that reads channel c, removing the channel (z = 0) changes a case's loss by about

    - d loss / d z  =  - sum over readers, positions of  a * d loss / d a,        worth of c = mean over cases of | d loss / d z |

Example: a reader's weight w = 3 takes in a = 2 at the only position and the loss falls by g = .5 for every unit of its output. Then
d loss / d a = -1.5, and removing the channel raises the loss by about 2 * 1.5 = 3.

The classes are those the original predicts (`loss.py`), not labels. Scores are not divided by each layer's norm, as the 2017 paper does:
that rescales a group as a whole and leaves the order within it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, Slot
from optimize.importance.loss import batches, total_loss
from optimize.importance.signal import Scores

Named: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Taylor:
    """Mean |activation * gradient|, summed over positions and readers before the absolute value is taken.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> _ = net[0].weight.data[2].zero_(), net[0].bias.data[2].fill_(-1)  # channel 2 is 0 behind its ReLU
        >>> (scores,) = opt.Taylor()(original, reference, opt.trace(original).groups)
        >>> scores.shape, float(scores[2])
        ((6,), 0.0)
    """

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group; comparable across groups."""
        if not groups:
            return []
        sums = [torch.zeros(group.size, dtype=torch.float64) for group in groups]
        for inputs, classes in batches(reference):
            # One gate for each case and channel. Its gradient is already the sum over readers and positions, and the absolute value is
            # taken case by case: else gains on some cases would cancel losses on others.
            gates = [torch.ones(len(inputs), group.size, requires_grad=True) for group in groups]
            with _gated(candidate.module, groups, gates):
                loss = total_loss(candidate.module(inputs), classes, candidate.outputs)
            for total, slope in zip(sums, torch.autograd.grad(loss, gates, materialize_grads=True), strict=True):
                total += slope.double().abs().sum(0)
        return [np.asarray((total / len(reference.calibration)).numpy()) for total in sums]


@contextmanager
def _gated(module: nn.Module, groups: Sequence[ChannelGroup], gates: Sequence[torch.Tensor]) -> Iterator[None]:
    """Multiply what every reader takes in by its channels' gates, each (n, size)."""
    by_layer: dict[str, list[tuple[Slot, torch.Tensor]]] = {}
    for group, gate in zip(groups, gates, strict=True):
        for slot in group.consumers:
            by_layer.setdefault(slot.module, []).append((slot, gate))
    handles = [
        module.get_submodule(name).register_forward_pre_hook(_hook(gates_there), with_kwargs=True) for name, gates_there in by_layer.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(gates: Sequence[tuple[Slot, torch.Tensor]]) -> Callable[..., tuple[tuple[torch.Tensor, ...], Named]]:
    def hook(layer: nn.Module, args: tuple[torch.Tensor, ...], named: Named) -> tuple[tuple[torch.Tensor, ...], Named]:
        inputs = args[0] if args else named["input"]
        rest = {key: value for key, value in named.items() if key != "input"}
        return (inputs * _factor(inputs, inputs.dim() - 1 if isinstance(layer, nn.Linear) else 1, gates), *args[1:]), rest

    return hook


def _factor(inputs: torch.Tensor, axis: int, gates: Sequence[tuple[Slot, torch.Tensor]]) -> torch.Tensor:
    """Return the gates spread over the positions of their channels on `axis`, ones elsewhere; shaped to multiply with `inputs`."""
    factor = torch.ones(len(inputs), inputs.shape[axis])
    for slot, gate in gates:
        per_row = gate.repeat_interleave(len(inputs) // len(gate), 0)  # steps or windows folded into the batch share their case's gate
        factor[:, torch.from_numpy(slot.index)] = per_row[..., None].expand(-1, -1, slot.index.shape[1])
    return factor.view([-1 if place == axis else len(inputs) if place == 0 else 1 for place in range(inputs.dim())])
