"""SNIP: what the loss feels of each weight, summed over the filters that make a channel (Lee et al. 2019, connection sensitivity).

    worth of c = sum over the weights w of c's filters of | w * d loss / d w |,      loss averaged over the calibration inputs

The original prunes before training, by labels and one weight at a time; here the network is trained, the classes are those the original
predicts (`loss.py`), and channels are ranked, so its division by the sum over all weights changes nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup
from optimize.importance.loss import batches, total_loss
from optimize.importance.magnitude import filters, producer_slots
from optimize.importance.signal import Scores


@dataclass(frozen=True)
class Snip:
    """Connection sensitivity summed per channel.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> _ = net[0].weight.data[2].zero_(), net[0].bias.data[2].fill_(-1)  # channel 2 is 0 behind its ReLU
        >>> (scores,) = opt.Snip()(original, reference, opt.trace(original).groups)
        >>> scores.shape, float(scores[2])
        ((6,), 0.0)
    """

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group; comparable across groups."""
        if not groups:
            return []
        module = candidate.module
        slots = [producer_slots(module, group) for group in groups]
        saliency = _saliency(candidate, reference, sorted({slot.module for producers in slots for slot in producers}))
        saliencies = [[filters(module.get_submodule(slot.module), slot, saliency[slot.module]) for slot in made_by] for made_by in slots]
        return [np.asarray(torch.cat(parts, 1).sum(1).numpy()) for parts in saliencies]


def _saliency(candidate: Candidate, reference: Reference, layers: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return |weight * gradient of the mean loss| of each layer, float64."""
    # leaves of their own: the network's parameters are neither switched to recording gradients nor given any
    weights = {f"{layer}.weight": candidate.module.get_submodule(layer).get_parameter("weight").detach() for layer in layers}
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    for inputs, classes in batches(reference):
        loss = total_loss(torch.func.functional_call(candidate.module, leaves, (inputs,)), classes, candidate.outputs)
        for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True), strict=True):
            sums[name] += gradient
    return {layer: (weights[f"{layer}.weight"] * sums[f"{layer}.weight"]).abs() / len(reference.calibration) for layer in layers}
