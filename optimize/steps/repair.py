"""Refit layers so that what they still read gives what the original gave."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph import Graph, trace
from optimize.least_squares import pose, refit
from optimize.linear import refusal
from optimize.moments import Targets
from optimize.progress import track

ROWS = 20_000
RIDGE = 1e-4
STRENGTH = 0.0


@dataclass(frozen=True)
class Repair:
    """Refit every linear layer of the network to the original's outputs, first to last; shapes do not change.

    Args:
        rows: sampled positions each layer is fitted on, as far as the inputs allow.
        ridge: strength of the pull to the present weights, as a share of the mean diagonal of the gram matrix.
        layers: only these; empty for all.
        strength: how far rows are weighed by what they matter to the network's answer, see `Targets`.
    """

    rows: int = ROWS
    ridge: float = RIDGE
    layers: tuple[str, ...] = ()
    strength: float = STRENGTH

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the refitted candidate."""
        graph = trace(candidate)
        original = reference.original.module
        chosen = [name for name in repairable(candidate.module, original, graph) if not self.layers or name in self.layers]
        targets = Targets(original, reference.calibration, chosen, rows=self.rows, seed=reference.seed, strength=self.strength)
        module = candidate.module
        for turn, name in enumerate(track(chosen, "repair")):
            moments = targets.moments(module, [name], chosen[turn:])[name]
            problem = pose(module, original, graph, name, moments, candidate.kept, self.ridge)
            module = refit(module, problem, torch.arange(len(problem.gram)))
        return candidate.after(self, module, candidate.kept)


def repairable(module: nn.Module, original: nn.Module, graph: Graph) -> list[str]:
    """The layers that have a closed form and a counterpart in the original, in execution order."""
    theirs = dict(original.named_modules())
    names = [name for name, layer in module.named_modules() if refusal(layer) is None and type(theirs.get(name)) is type(layer)]
    return sorted((name for name in names if name in graph.order), key=lambda name: graph.order[name])
