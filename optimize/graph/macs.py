"""Multiply-accumulates of one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from optimize.errors import require_candidate

if TYPE_CHECKING:
    from optimize.candidate import Candidate


def macs(candidate: Candidate) -> int:
    """Return the multiply-accumulates of one input, batch 1.

    One multiplication with its addition is one MAC. Counted are the matrix products: convolutions (also transposed), linear layers,
    matrix multiplications, attention. Not counted are biases, normalization, activations, pooling and interpolation.
    A layer used twice counts twice.

    Example:
        >>> from torch import nn
        >>> from optimize.candidate import Candidate
        >>> macs(Candidate(nn.Conv2d(3, 8, 3).eval(), torch.zeros(1, 3, 6, 6)))  # 8 x 3 x 3 x 3 for each of 4 x 4 positions
        3456
    """
    require_candidate(candidate)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        candidate.module(candidate.example)
    return int(counter.get_total_flops()) // 2
