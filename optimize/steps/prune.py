"""Structured pruning under one error budget for every group of channels.

Groups are taken in execution order. In each, channels are eliminated, the least important first, until the total output error passes the
budget; the layers that read them are refitted at once, on what the network pruned so far feeds them, towards what the original gave. One
number decides every width: there are no ratios, and a layer that has nothing to spare keeps everything.

Whatever signal says which channels are important, the budget is always spent in output error after repair. A poor signal therefore removes
fewer channels; it does not do more harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np
from torch import nn

from optimize.candidate import Candidate, Reference, Step
from optimize.graph.trace import ChannelGroup, Graph, Index, trace, without
from optimize.importance.output_error import Elimination, eliminate
from optimize.importance.removal_order import removal_orders
from optimize.importance.signal import Signal
from optimize.progress import record_finding, track
from optimize.reconstruction.channel_removal import Reader, affected_layers, cut_and_refit, readers, unprunable_reason, unprunable_reasons
from optimize.reconstruction.held_out import checked_problem
from optimize.reconstruction.layer_repair import RIDGE, ROWS, compensating_norms, depthwise_on_path, refit_layers, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.split_moments import split_moments
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from optimize.steps.repair import Repair


@dataclass(frozen=True)
class Prune:
    """Remove what can be removed within an error budget, and repair what reads it.

    Args:
        budget: largest error that a group's removals may add, as a share of the energy of its readers' original outputs; 0 removes nothing.
            What earlier prunes of the candidate spent counts: pruning again under the same budget removes nothing more.
        multiple: kept widths are rounded up to a multiple of this; kernels like 8 and 16.
        rows: sampled positions each layer is fitted on.
        ridge: strength of the pull to the present weights, see `Repair`.
        importance: signal that says which channels go first; None for those cheapest in output error, found anew at every stage. A signal
            is asked once, on the candidate as it comes. What it is silent about stays.
        renorm: cut groups too that a layer without a closed-form repair reads besides others: these are repaired, and the batch norms that
            run behind it are measured anew in the end. Worse than a repair, hence not the rule.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> opt.Prune(0.0)(original, reference).parameters, opt.Prune(0.5)(original, reference).parameters < original.parameters
        (44, True)
    """

    TRAINS: ClassVar[bool] = False

    budget: float
    multiple: int = 1
    rows: int = ROWS
    ridge: float = RIDGE
    renorm: bool = False
    importance: Signal | None = None

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the pruned and repaired candidate."""
        # Budgets of one lineage do not add up: after Prune(.001), Prune(.004) may spend .003 more, and Prune(.001) nothing.
        left = self.budget - max((getattr(step, "error_budget", 0.0) for step in candidate.lineage), default=0.0)
        if left <= 0:
            # nothing may be removed, so nothing has to be made up for
            return candidate.after(self, candidate.module)
        orders = orders_by(self.importance, candidate, reference)

        def choose(group: ChannelGroup, readers: Sequence[Reader]) -> Index:
            elimination = eliminate(readers, budget=left, least=min(self.multiple, group.size), order=orders.get(group.name))
            return _rounded(elimination, group.size, self.multiple)

        return cut(self, candidate, reference, choose, f"prune, budget {self.budget:g}", renorm=self.renorm)

    @property
    def error_budget(self) -> float:
        """Error that this step may have added to each group; a later `Prune` counts it as spent."""
        return self.budget


def orders_by(importance: Signal | None, candidate: Candidate, reference: Reference) -> dict[str, Index]:
    """Return the order in which each group's channels go, by its name; empty where output error decides at every stage.

    Args:
        importance: signal that says what a channel is worth, or None for output error.
        candidate: the network, as it is before anything is cut.
        reference: the original and the calibration inputs.
    """
    return {} if importance is None else removal_orders(importance, candidate, reference, trace(candidate).groups)


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
    finish: Callable[[nn.Module, OriginalOutputs, Collection[str]], nn.Module] | None = None,
) -> Candidate:
    """Take the groups in execution order, cut what `choose` says out of each, and refit its readers at once.

    Until the first channel goes, nothing is refitted: a network that keeps all its channels stays as it is.

    Args:
        step: the step that cuts; its fields say how readers are fitted, and it enters the lineage.
        candidate: the network to cut.
        reference: the original and the calibration inputs.
        choose: function from a group and its readers to the channels that go, (k,).
        what: title of the progress bar.
        renorm: whether groups with readers without a closed form are cut too, see `Prune`.
        finish: function from the network at the end, the original's outputs, and the layers that are still to be run, to the network that
            is returned; None for the network itself.

    Example: conv1 -> conv2 -> conv3, groups a (made by conv1, read by conv2) and b (made by conv2, read by conv3). Turn 0 cuts a and refits
    conv2 on the narrower inputs. Turn 1 cuts b, which takes rows out of conv2 and leaves its other rows as they were fitted, and refits
    conv3. In a residual block (stem -> conv1 -> conv2, conv3 behind the sum stem + conv2) the group of stem and conv2 comes first: turn 0
    refits conv1 and conv3, turn 1 cuts conv1 and refits conv2, whose output conv3 reads. So conv3 is stale, and is fitted once more in the
    end.
    """
    graph = trace(candidate)
    original = reference.original.module
    layers = repairable(candidate.module, original, graph)
    targets = OriginalOutputs(original, reference.calibration, layers, rows=step.rows, seed=reference.seed, memory=reference.memory)

    def change() -> _Cut:
        made = _Cut(candidate.module, dict(candidate.kept), graph.groups)
        # all cuts are tried together, once; each turn below then finds its answer in the memory
        unprunable_reasons(graph.groups, candidate.module, layers, reference.calibration, reference.memory)
        for turn in track(range(len(graph.groups)), what):
            made = _cut_group(step, turn, made, graph, reference, layers, targets, choose, renorm=renorm)
        cut_out = candidate.after(step, made.module, made.kept)
        stale = _stale(made.fitted, made.groups, graph)
        module = Repair(step.rows, step.ridge, stale)(cut_out, reference).module if stale else made.module
        if made.renew and made.fitted:
            renewed = RecalibrateBatchNorm(layers=tuple(sorted(made.renew)))
            module = renewed(candidate.after(step, module, made.kept), reference).module
        if finish is not None:
            # what was read last is still at hand, unless layers in front of it have changed since
            module = finish(module, targets, () if stale or made.renew else affected_layers(graph.groups[-1:]))
        return replace(made, module=module)

    made = targets.follow(change)
    return candidate.after(step, made.module, made.kept)


@dataclass(frozen=True, eq=False)
class _Cut:
    """What has been cut so far.

    Args:
        module: the network.
        kept: see `Candidate.kept`.
        groups: all groups, as they are in the network by now.
        fitted: layer -> turn in which it was fitted last.
        renew: batch norms to be measured anew in the end.
    """

    module: nn.Module
    kept: dict[str, Index]
    groups: tuple[ChannelGroup, ...]
    fitted: Mapping[str, int] = field(default_factory=dict)
    renew: frozenset[str] = frozenset()


def _cut_group(
    step: Cutting,
    turn: int,
    before: _Cut,
    graph: Graph,
    reference: Reference,
    layers: Sequence[str],
    targets: OriginalOutputs,
    choose: Callable[[ChannelGroup, Sequence[Reader]], Index],
    *,
    renorm: bool,
) -> _Cut:
    """Return the network after one more group was cut and its readers refitted."""
    module, kept, groups, original = before.module, before.kept, before.groups, reference.original.module
    group, changing, fitted, renew = groups[turn], affected_layers(groups[turn:]), dict(before.fitted), before.renew
    norms = compensating_norms(group, graph, module, layers) if renorm else []
    able = [*layers, *(slot.module for slot in group.consumers if norms)]
    if unprunable_reason(group, module, able, reference.calibration, reference.memory):
        return before
    if norms:
        record_finding(f"{group.name} is read by a layer without a closed form: repaired by batch-norm re-estimation there")
        renew = renew.union(norms)
    # A depthwise convolution passes the group's channels on, so it has to be right before the readers behind it are fitted on what it
    # gives.
    for name in depthwise_on_path(group, module, layers) if fitted else ():
        module = refit_layers(module, original, graph, [name], targets, kept, step.ridge, changing)
        fitted[name] = turn
    names = [slot.module for slot in group.consumers if slot.module in layers]
    # measured on the network as pruned so far: the readers learn to make up for what was removed in front of them, too
    moments = split_moments(targets, module, names, changing)
    # the same normal equations serve the choice of the channels and, after the cut, the refit
    checked = [checked_problem(module, original, graph, name, moments[name], kept, step.ridge) for name in names]
    keep = np.setdiff1d(np.arange(group.size), choose(group, readers(module, group, [each.every for each in checked])))
    if not fitted and len(keep) == group.size:
        return before
    module, kept = cut_and_refit(module, group, keep, checked, kept)
    # later groups may be read by the same layer, whose columns have moved up
    left = without(groups, group, keep)
    targets.narrow(group, keep, affected_layers(left[turn + 1 :]))
    return _Cut(module, kept, left, fitted | dict.fromkeys(names, turn), renew)


def _rounded(elimination: Elimination, size: int, multiple: int) -> Index:
    """Return the removals that leave a multiple; the last and most expensive ones are taken back."""
    left = size - len(elimination.order)
    # Example: 59 of 64 channels are left and the multiple is 8: the width is 64, so all removals are taken back. With 42 left it is 48: the
    # last six are.
    width = min(size, -(-left // multiple) * multiple)
    return elimination.order[: size - width]


def _stale(fitted: Mapping[str, int], groups: tuple[ChannelGroup, ...], graph: Graph) -> tuple[str, ...]:
    """Return the layers that were refitted before everything in front of them was cut: their inputs have changed since."""
    # groups taken after a layer's turn that lie in front of it: in the residual block of the example, conv1's group for conv3
    first = [graph.order[group.name] for group in groups]
    return tuple(name for name, turn in fitted.items() if any(place < graph.order[name] for place in first[turn + 1 :]))
