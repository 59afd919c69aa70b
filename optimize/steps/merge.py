"""Take a given share of every group's channels out, with a chosen operator: the same channels for all, so that only the operator differs.

The operators stand in `steps/merging/operators.py`. None of the published forms refits the readers; `repair="least squares"` does, after
any operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError, require_choice
from optimize.graph.surgery import keep_channels, kept_after
from optimize.graph.trace import ChannelGroup, Graph, trace, without
from optimize.progress import track
from optimize.reconstruction.layer_repair import RIDGE, ROWS, depthwise_on_path, refit_layers, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.steps.merging.crossover import Target
from optimize.steps.merging.operators import MergeOperator, Operator
from optimize.steps.merging.pairing import Choice, RemovalPlan, plan_removals
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from optimize.steps.repair import Repair

RepairMode: TypeAlias = Literal["none", "batchnorm", "least squares"]


@dataclass(frozen=True)
class Merge:
    """Remove a share of every group's channels, leave something in their place, and repair.

    A group that cannot be pruned at all is left.

    Args:
        share: share of each group's channels to remove, in [0, 1); at least one channel stays, and 0 changes nothing.
        operator: name of the operator that leaves something in their place, see `MergeOperator`.
        repair: "batchnorm" measures the norms anew in the end; "least squares" refits each reader towards the original at once.
        choose: rule that says which channels go: smallest L2 "norm", or least "output error".
        target: aim of "crossover", see `MergeOperator`.
        rows: sampled positions for each fit.
        ridge: strength of the pull to the present weights, see `Repair`.
        cases: calibration inputs the norms are measured on.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> half = opt.Merge(0.5, repair="least squares")(original, reference)
        >>> half.module[0].out_features, len(half.kept["0"])
        (3, 3)
    """

    TRAINS: ClassVar[bool] = False

    share: float
    operator: Operator = "drop"
    repair: RepairMode = "none"
    choose: Choice = "norm"
    target: Target = "max"
    rows: int = ROWS
    ridge: float = RIDGE
    cases: int = 1024

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"`share` (={self.share}) must lie in [0, 1): write 0.5 to remove half of each group's channels.")
        for name, kind in (("operator", Operator), ("repair", RepairMode), ("choose", Choice), ("target", Target)):
            require_choice(name, getattr(self, name), get_args(kind))

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the narrower candidate."""
        plans = plan_removals(candidate, reference, choose=self.choose, rows=self.rows, ridge=self.ridge)
        return self.with_plans(candidate, reference, plans)

    def with_plans(self, candidate: Candidate, reference: Reference, plans: Iterable[RemovalPlan | None]) -> Candidate:
        """Return the narrower candidate from plans made before; plans do not depend on share, operator or repair."""
        graph, original = trace(candidate), reference.original.module
        layers = repairable(candidate.module, original, graph)
        targets = OriginalOutputs(original, reference.calibration, layers, rows=self.rows, seed=reference.seed, memory=reference.memory)
        module, kept, groups = candidate.module, dict(candidate.kept), graph.groups
        stand_in = MergeOperator(self.operator, self.target, self.rows, self.ridge)
        cut: list[int] = []
        fitted: dict[str, int] = {}
        for turn, plan in enumerate(track(list(plans), f"merge by {self.operator}, share {self.share:g}")):
            group = groups[turn]
            # without a plan every channel stands for itself, and the group stays
            merge_into = np.arange(group.size) if plan is None else plan.merge_into(self.share)
            keep = np.unique(merge_into)
            if plan is None or len(keep) == group.size:
                continue
            # What was fitted in front of the group reads something else since later groups were cut. It is fitted again before the merge:
            # afterwards its fit to the original's outputs would undo what the merge made of them.
            behind = [name for name in _stale(fitted, cut, groups, graph) if graph.order[name] <= graph.order[group.name]]
            module = refit_layers(module, original, graph, behind, targets, kept, self.ridge)
            fitted |= dict.fromkeys(behind, turn)
            cut.append(turn)
            # first the kept channels and their readers are changed, at full width; then the others are cut
            module = stand_in(module, group, graph.norms, merge_into, reference, plan.likeness)
            kept = kept_after(kept, module, group, keep)
            module = keep_channels(module, group, keep)
            groups = without(groups, group, keep)
            if self.repair == "least squares":
                readers = [*depthwise_on_path(group, module, layers), *(slot.module for slot in group.consumers)]
                module = refit_layers(module, original, graph, readers, targets, kept, self.ridge)
                fitted |= dict.fromkeys(readers, turn)
        merged = candidate.after(self, module, kept)
        if self.repair == "batchnorm" and cut:
            module = RecalibrateBatchNorm(self.cases)(merged, reference).module
        stale = _stale(fitted, cut, groups, graph)
        if stale:
            module = Repair(self.rows, self.ridge, stale)(merged, reference).module
        return candidate.after(self, module, kept)


def _stale(fitted: Mapping[str, int], cut: Sequence[int], groups: Sequence[ChannelGroup], graph: Graph) -> tuple[str, ...]:
    """Return the layers, in execution order, that were fitted before everything in front of them was cut.

    Args:
        fitted: layer -> turn in which it was fitted.
        cut: turns in which a group was cut.
        groups: all groups; the place of each is its turn.
        graph: graph of the network.
    """
    later = {name: [groups[at].name for at in cut if at > turn] for name, turn in fitted.items()}
    stale = [name for name, makers in later.items() if any(graph.order[maker] < graph.order[name] for maker in makers)]
    return tuple(sorted(stale, key=lambda name: graph.order[name]))
