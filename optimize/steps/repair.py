"""Refit layers so that what they still read gives what the original gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.progress import track
from optimize.reconstruction.layer_repair import RIDGE, ROWS, refit_layers, repairable, unchanged_layers
from optimize.reconstruction.moments import OriginalOutputs


@dataclass(frozen=True)
class Repair:
    """Refit the linear layers of the network to the original's outputs, first to last; shapes do not change.

    Convolutions are fitted group by group, depthwise ones channel by channel. Layers that are as in the original, and so is everything in
    front of them, stay. A fit that held-out rows do not confirm is taken back (`reconstruction/held_out.py`), so that no layer gets worse.

    Args:
        rows: sampled positions each layer is fitted on, as far as the inputs allow.
        ridge: strength of the pull to the present weights, as a share of the mean diagonal of the gram matrix.
        layers: only these; empty for all.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> _ = torch.manual_seed(0)  # with other weights the two channels may be silent, and nothing is left to repair
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> cut = opt.RemoveChannels("0", (1, 4), repair="none")(original, reference)
        >>> def error(candidate):
        ...     return np.square(candidate.predict(reference.calibration) - original.predict(reference.calibration)).mean()
        >>> bool(error(opt.Repair()(cut, reference)) <= error(cut))
        True
    """

    TRAINS: ClassVar[bool] = False

    rows: int = ROWS
    ridge: float = RIDGE
    layers: tuple[str, ...] = ()

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the refitted candidate."""
        graph = trace(candidate)
        original = reference.original.module
        # what nothing in front of it has changed is right as it is
        unchanged = unchanged_layers(candidate.module, original, candidate.example)
        closed = repairable(candidate.module, original, graph)
        chosen = [name for name in closed if name not in unchanged and (not self.layers or name in self.layers)]
        targets = OriginalOutputs(original, reference.calibration, chosen, rows=self.rows, seed=reference.seed, memory=reference.memory)

        def change() -> Candidate:
            module = candidate.module
            for turn, name in enumerate(track(chosen, "repair")):
                module = refit_layers(module, original, graph, [name], targets, candidate.kept, self.ridge, chosen[turn:])
            return candidate.after(self, module, candidate.kept)

        return targets.follow(change)
