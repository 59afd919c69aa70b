"""Refit layers so that what they still read gives what the original gave."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_types import BATCH_NORMS, depthwise, unsupported_reason
from optimize.graph.trace import ChannelGroup, Graph, Index, trace
from optimize.progress import track
from optimize.reconstruction.layer_matrix import unrepairable_reason
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import build_problem, refit

ROWS = 20_000
RIDGE = 1e-4


@dataclass(frozen=True)
class Repair:
    """Refit every linear layer of the network to the original's outputs, first to last; shapes do not change.

    Convolutions are fitted group by group, depthwise ones channel by channel.

    Args:
        rows: sampled positions each layer is fitted on, as far as the inputs allow.
        ridge: strength of the pull to the present weights, as a share of the mean diagonal of the gram matrix.
        layers: only these; empty for all.
    """

    rows: int = ROWS
    ridge: float = RIDGE
    layers: tuple[str, ...] = ()

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the refitted candidate."""
        graph = trace(candidate)
        original = reference.original.module
        chosen = [name for name in repairable(candidate.module, original, graph) if not self.layers or name in self.layers]
        targets = OriginalOutputs(original, reference.calibration, chosen, rows=self.rows, seed=reference.seed, memory=reference.memory)
        module = candidate.module
        for turn, name in enumerate(track(chosen, "repair")):
            module = refitted(module, original, graph, [name], targets, candidate.kept, self.ridge, chosen[turn:])
        return candidate.after(self, module, candidate.kept)


def refitted(
    module: nn.Module,
    original: nn.Module,
    graph: Graph,
    names: Sequence[str],
    targets: OriginalOutputs,
    kept: Mapping[str, Index],
    ridge: float,
    changing: Collection[str] = (),
) -> nn.Module:
    """The network in which the layers `names`, one after the other, are fitted to what the original's gave.

    `changing` says which layers may still change, see `Targets.moments`.
    """
    for name in names:
        moments = targets.moments(module, [name], changing)[name]
        problem = build_problem(module, original, graph, name, moments, kept, ridge)
        module = refit(module, problem, torch.arange(len(problem.old)))
    return module


def passed(group: ChannelGroup, module: nn.Module, layers: Sequence[str]) -> list[str]:
    """The depthwise convolutions that a group's channels pass on their way to its readers: what they read changes as the readers' does.

    Args:
        group: the channels.
        module: the network.
        layers: those that can be repaired.
    """
    makers = [slot.module for slot in group.slots if slot.side == "out" and slot.module in layers]
    return [name for name in makers if depthwise(module.get_submodule(name))]


def compensating_norms(group: ChannelGroup, graph: Graph, module: nn.Module, layers: Sequence[str]) -> list[str]:
    """Batch norms that can make up for the readers of a group that have no closed form: all that run behind them.

    None where every reader has a closed form, and none where no reader has: nothing would tell then what a channel is worth.

    Args:
        group: the channels.
        graph: of the network.
        module: the network.
        layers: those that can be repaired.
    """
    lacking = [slot.module for slot in group.consumers if slot.module not in layers]
    if not lacking or len(lacking) == len(group.consumers):
        return []
    first = min(graph.order[name] for name in lacking)
    norms = [name for name, layer in module.named_modules() if isinstance(layer, BATCH_NORMS) and unsupported_reason(layer) is None]
    return [name for name in norms if graph.order.get(name, -1) > first]


def repairable(module: nn.Module, original: nn.Module, graph: Graph) -> list[str]:
    """The layers that have a closed form and a counterpart in the original, in execution order."""
    theirs = dict(original.named_modules())
    names = [name for name, layer in module.named_modules() if unrepairable_reason(layer) is None and type(theirs.get(name)) is type(layer)]
    return sorted((name for name in names if name in graph.order), key=lambda name: graph.order[name])
