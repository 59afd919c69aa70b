"""Multiply-accumulates of one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from optimize.candidate import Candidate


def macs(candidate: Candidate) -> int:
    """Return the multiply-accumulates of one input, batch 1.

    One multiplication with its addition is one MAC. Counted are the matrix products: convolutions (also transposed), linear layers,
    matrix multiplications, attention. Not counted are biases, normalization, activations, pooling and interpolation.
    A layer used twice counts twice.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        candidate.module(candidate.example)
    return int(counter.get_total_flops()) // 2
