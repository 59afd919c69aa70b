"""The trained part of a network, its optimizer and its learning rate."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

import torch
from torch import nn

from optimize.graph.layer_types import BATCH_NORMS
from optimize.graph.surgery import copy_module

OPTIMIZERS: dict[str, tuple[float, Callable[..., torch.optim.Optimizer]]] = {
    "adamw": (1e-3, torch.optim.AdamW),
    "sgd": (1e-2, lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)),
}
"""Name -> (learning rate that fits it, what makes it)."""
MAX_GRADIENT_NORM = 1.0
"""Norm that gradients are clipped to."""
MAX_MOMENTUM = 0.1
"""Largest share of a batch norm's statistics that one batch may replace."""
WARM_UP_ONE_IN = 20
"""One update in twenty belongs to the warm-up."""


def trainable_copy(module: nn.Module) -> nn.Module:
    """Return a copy of which everything is trained, with the momentum of its batch norms bounded."""
    copied = copy_module(module, share=False)
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    for layer in copied.modules():
        if isinstance(layer, BATCH_NORMS):
            # None averages over all batches ever seen, of which the first was seen by another network
            layer.momentum = MAX_MOMENTUM if layer.momentum is None else min(layer.momentum, MAX_MOMENTUM)
    return copied


def optimizer(name: str, network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return the optimizer `name` of all that is trained; norms and biases do not decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # Decay pulls towards zero. A norm's scale or a bias at zero is no simpler network, only a worse one.
    weights = {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay}
    undecayed = {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0}
    return OPTIMIZERS[name][1]([weights, undecayed], lr=learning_rate)


def learning_rate_factor(update: int, updates: int) -> float:
    """Return the factor of the learning rate: a linear warm-up to 1, then half a cosine down to 0.

    Args:
        update: number of the update, from 0.
        updates: number of all updates.
    """
    warm = max(1, updates // WARM_UP_ONE_IN)
    return (update + 1) / warm if update < warm else (1 + cos(pi * (update - warm) / (updates - warm))) / 2
