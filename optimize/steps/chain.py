"""Several steps as one proposal: none of them is judged before the last is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimize.candidate import Candidate, Reference, Step


@dataclass(frozen=True)
class Chain:
    """Take the steps one after the other; each enters the lineage under its own name.

    Args:
        steps: the steps, in the order they are made.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> steps = opt.Chain((opt.RemoveChannels("0", (1,)), opt.FitOutput()))
        >>> [type(step).__name__ for step in steps(original, reference).lineage]
        ['RemoveChannels', 'FitOutput']
    """

    TRAINS: ClassVar[bool] = False

    steps: tuple[Step, ...]

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return what the last step made."""
        for step in self.steps:
            candidate = step(candidate, reference)
        return candidate
