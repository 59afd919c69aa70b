"""Structured pruning under one error budget for every group of channels.

Groups are taken in execution order. In each, channels are eliminated by output error until the total cost passes the budget; the layers
that read them are refitted at once, on what the network pruned so far feeds them, towards what the original gave. One number decides
every width: there are no ratios, and a layer that has nothing to spare keeps everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Floats, Reference, Step
from optimize.graph.surgery import check_cut, keep_channels, outputs_left
from optimize.graph.trace import ChannelGroup, Graph, Index, trace, without
from optimize.importance.output_error import Elimination, eliminate
from optimize.progress import record_finding, track
from optimize.reconstruction.layer_matrix import LinearMap, columns
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem, refit
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from optimize.steps.repair import RIDGE, ROWS, Repair, compensating_norms, passed, refitted, repairable

Reader: TypeAlias = tuple[Problem, torch.Tensor]


@dataclass(frozen=True)
class Prune:
    """Remove what can be removed within an error budget, and repair what reads it.

    Args:
        budget: largest error that a group's removals may add, as a share of the energy of its readers' original outputs; 0 removes nothing.
            What earlier prunes of the candidate spent counts: pruning again under the same budget removes nothing more.
        multiple: kept widths are rounded up to a multiple of this; kernels like 8 and 16.
        rows: sampled positions each layer is fitted on.
        ridge: see `Repair`.
        renorm: cut groups too that a layer without a closed-form repair reads besides others: these are repaired, and the batch norms that
            run behind it are measured anew in the end. Worse than a repair, hence not the rule.
    """

    budget: float
    multiple: int = 1
    rows: int = ROWS
    ridge: float = RIDGE
    renorm: bool = False

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the pruned and repaired candidate."""
        left = self.budget - max((step.budget for step in candidate.lineage if isinstance(step, Prune)), default=0.0)

        def choose(group: ChannelGroup, readers: Sequence[Reader]) -> Index:
            found = eliminate(readers, budget=left, least=min(self.multiple, group.size))
            return _rounded(found, group.size, self.multiple)

        return cut(self, candidate, reference, choose, f"prune, budget {self.budget:g}", renorm=self.renorm)


class Cutting(Step, Protocol):
    """A step that cuts groups one after the other; its fields say how readers are fitted."""

    @property
    def rows(self) -> int:
        """Sampled positions each layer is fitted on."""

    @property
    def ridge(self) -> float:
        """See `Repair`."""


def cut(
    step: Cutting,
    candidate: Candidate,
    reference: Reference,
    choose: Callable[[ChannelGroup, Sequence[Reader]], Index],
    what: str,
    *,
    renorm: bool = False,
) -> Candidate:
    """Take the groups in execution order, cut what `choose` says out of each, and refit its readers at once.

    Args:
        step: on whose behalf.
        candidate: what to cut.
        reference: the original, and inputs.
        choose: which channels of a group go, (k,), given its readers' problems and which columns each channel has there.
        what: for the progress bar.
        renorm: see `Prune`.
    """
    graph = trace(candidate)
    original = reference.original.module
    layers = repairable(candidate.module, original, graph)
    targets = OriginalOutputs(original, reference.calibration, layers, rows=step.rows, seed=reference.seed, memory=reference.memory)
    module, kept, groups = candidate.module, dict(candidate.kept), graph.groups
    fitted: dict[str, int] = {}
    renew: set[str] = set()
    for turn in track(range(len(groups)), what):
        group = groups[turn]
        norms = compensating_norms(group, graph, module, layers) if renorm else []
        if unprunable_reason(group, module, [*layers, *(slot.module for slot in group.consumers if norms)], reference.calibration):
            continue
        if norms:
            record_finding(f"{group.name} is read by a layer without a closed form: repaired by batch-norm re-estimation there")
            renew.update(norms)
        for name in passed(group, module, layers):
            module = refitted(module, original, graph, [name], targets, kept, step.ridge, affected_layers(groups[turn:]))
            fitted[name] = turn
        names = [slot.module for slot in group.consumers if slot.module in layers]
        moments = targets.moments(module, names, affected_layers(groups[turn:]))
        problems = [build_problem(module, original, graph, name, moments[name], kept, step.ridge) for name in names]
        keep = np.setdiff1d(np.arange(group.size), choose(group, readers(module, group, problems)))
        module, kept = cut_and_refit(module, group, keep, problems, kept)
        groups = without(groups, group, keep)
        fitted |= dict.fromkeys(names, turn)
    cut_out = candidate.after(step, module, kept)
    stale = _stale(fitted, groups, graph)
    if stale:
        module = Repair(step.rows, step.ridge, stale)(cut_out, reference).module
    if renew:
        module = RecalibrateBatchNorm(layers=tuple(sorted(renew)))(candidate.after(step, module, kept), reference).module
    return candidate.after(step, module, kept)


def readers(module: nn.Module, group: ChannelGroup, problems: Sequence[Problem]) -> list[Reader]:
    """The problems of a group's readers, each with the columns that a channel has in it, (channels, b)."""
    owned = {slot.module: columns(_layer(module, slot.module), slot.index) for slot in group.consumers}
    return [reader for problem in problems for reader in problem.independent_problems(owned[problem.name])]


def cut_and_refit(
    module: nn.Module, group: ChannelGroup, keep: Index, problems: Sequence[Problem], kept: Mapping[str, Index]
) -> tuple[nn.Module, dict[str, Index]]:
    """The network in which the group holds only the channels `keep` and its readers are refitted, and what each layer still makes."""
    stay = {problem.name: _columns_left(module, group, problem, keep) for problem in problems}
    made = outputs_left(module, group, keep)
    left = dict(kept)
    if len(keep) < group.size:
        module = keep_channels(module, group, keep)
        left |= {name: left[name][stays] if name in left else stays for name, stays in made.items()}
    for problem in problems:
        module = refit(module, problem, stay[problem.name], made.get(problem.name))
    return module, left


def unprunable_reason(group: ChannelGroup, module: nn.Module, layers: Sequence[str], inputs: Floats) -> str | None:
    """Why a group is left alone; None where it can be pruned.

    Args:
        group: the channels.
        module: the network.
        layers: those that can be repaired.
        inputs: some real ones, to try a cut on.
    """
    for slot in group.consumers:
        if slot.module not in layers:
            return f"{slot.module}, which reads it, has no closed-form repair"
    return check_cut(module, group, torch.from_numpy(inputs[:2].copy()))


def _rounded(found: Elimination, size: int, multiple: int) -> Index:
    """The removals that leave a multiple; the last, dearest ones are taken back."""
    left = size - len(found.order)
    width = min(size, -(-left // multiple) * multiple)
    return found.order[: size - width]


def _columns_left(module: nn.Module, group: ChannelGroup, problem: Problem, keep: Index) -> torch.Tensor:
    index = next(slot.index for slot in group.consumers if slot.module == problem.name)
    gone = np.setdiff1d(np.arange(group.size), keep)
    left = torch.ones(len(problem.old), dtype=torch.bool)
    left[columns(_layer(module, problem.name), index[gone]).flatten()] = False
    return left.nonzero().flatten()


def affected_layers(groups: Sequence[ChannelGroup]) -> set[str]:
    """The layers that cutting these groups may change."""
    return {slot.module for group in groups for slot in group.slots}


def _stale(fitted: dict[str, int], groups: tuple[ChannelGroup, ...], graph: Graph) -> tuple[str, ...]:
    """Layers refitted before everything in front of them was cut: their inputs have changed since."""
    first = [graph.order[group.name] for group in groups]
    return tuple(name for name, turn in fitted.items() if any(place < graph.order[name] for place in first[turn + 1 :]))


def _layer(module: nn.Module, name: str) -> LinearMap:
    return module.get_submodule(name)  # type: ignore[return-value]
