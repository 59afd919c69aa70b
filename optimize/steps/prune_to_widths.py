"""Structured pruning to given widths: which channels stay, and how their readers go on, is found as in `Prune`.

A layer whose channels are to have the width 0 is taken out altogether where the network runs without it (`graph/bypass.py`); that comes
first, and its readers are refitted to what they read then. In the end the layer that answers is fitted to the original's answers
(`steps/fit_output.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.bypass import bypassed, without_layers
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.importance.output_error import eliminate
from optimize.importance.signal import Signal
from optimize.importance.start_equations import StartEquations, problems_at, readers_of, start_equations
from optimize.progress import track
from optimize.reconstruction.channel_removal import Reader, cut_all_and_refit, readers, unprunable_reasons
from optimize.reconstruction.layer_repair import RIDGE, ROWS, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem
from optimize.steps.fit_output import PULL, FitOutput, shared_output_layer
from optimize.steps.prune import cut, orders_by
from optimize.steps.repair import Repair


@dataclass(frozen=True)
class PruneToWidths:
    """Give groups of channels the widths that were chosen for them, and repair what reads them.

    Args:
        widths: (group, channels to keep) by the group's name, the first layer that makes its channels; a group that is not named, or is
            no wider than asked, keeps all it has. 0 takes the layer out; where the network does not run without it, one channel stays.
        rows: sampled positions each layer is fitted on.
        ridge: strength of the pull to the present weights, see `Repair`.
        l2: strength of the pull in the fit of the output layer, see `FitOutput`.
        importance: signal that says which channels go first, see `Prune`.
        at_once: fit all readers at once, to what they read in the candidate, instead of one after the other to what the cut layers in front
            of them give. What is lost in front is then not made up for, but the equations of one candidate serve all widths, and a
            proposal takes a fraction of the time: good enough to tell which widths are worth the better repair.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> opt.PruneToWidths((("0", 3),))(original, reference).module
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
          (1): ReLU()
          (2): Linear(in_features=3, out_features=2, bias=True)
        )
    """

    TRAINS: ClassVar[bool] = False

    widths: tuple[tuple[str, int], ...]
    rows: int = ROWS
    ridge: float = RIDGE
    l2: float = PULL
    importance: Signal | None = None
    at_once: bool = False

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the narrowed and repaired candidate."""
        chosen = dict(self.widths)
        # whole layers first: their readers read other channels afterwards, and are then narrowed as they are
        shorter = self._shortened(candidate, reference, [name for name, width in self.widths if not width])
        orders = orders_by(self.importance, shorter, reference)
        last = shared_output_layer(shorter, reference)
        if self.at_once:
            made = self._cut_at_once(shorter, reference, chosen, orders)
            fitted = made if last is None or made.module is candidate.module else FitOutput(self.rows, self.l2)(made, reference)
            return candidate.after(self, fitted.module, made.kept)

        def choose(group: ChannelGroup, readers: Sequence[Reader]) -> Index:
            width = chosen.get(group.name, group.size)
            if width >= group.size:
                return np.array([], dtype=np.int64)
            # no budget: the widths were chosen, and elimination only says which channels go
            return eliminate(readers, least=max(1, width), order=orders.get(group.name)).order

        def finish(module: nn.Module, targets: OriginalOutputs, changing: Collection[str]) -> nn.Module:
            if last is None or module is candidate.module:
                return module
            return FitOutput(self.rows, self.l2).fitted(module, last, targets, changing, candidate.outputs)

        made = cut(self, shorter, reference, choose, "narrow", finish=finish)
        return candidate.after(self, made.module, made.kept)

    def _cut_at_once(self, candidate: Candidate, reference: Reference, chosen: Mapping[str, int], orders: Mapping[str, Index]) -> Candidate:
        graph = trace(candidate)
        layers = repairable(candidate.module, reference.original.module, graph)
        reasons = unprunable_reasons(graph.groups, candidate.module, layers, reference.calibration, reference.memory)
        narrowed = [
            group
            for group, reason in zip(graph.groups, reasons, strict=True)
            if reason is None and max(1, chosen.get(group.name, group.size)) < group.size
        ]
        if not narrowed:
            return candidate
        equations = start_equations(candidate, reference, self.rows)
        problems = problems_at(candidate, reference, graph, readers_of(narrowed), equations, self.ridge)
        by_name = {problem.name: problem for problem in problems}
        cuts = []
        for group in track(narrowed, "narrow at once"):
            count = group.size - max(1, chosen[group.name])
            own = [by_name[slot.module] for slot in group.consumers]
            order = self._order(candidate, group, own, equations, count, orders.get(group.name))
            cuts.append((group, np.setdiff1d(np.arange(group.size), order[:count])))
        module, kept = cut_all_and_refit(candidate.module, cuts, problems, candidate.kept)
        return candidate.after(self, module, kept)

    def _order(
        self,
        candidate: Candidate,
        group: ChannelGroup,
        problems: Sequence[Problem],
        equations: StartEquations,
        count: int,
        order: Index | None,
    ) -> Index:
        """Return the channels of a group in the order they go, at least `count` of them."""
        if order is not None:
            return order
        # as far as a scan went, or else down to one channel: an order must not depend on which proposal asked first
        known = equations.eliminations.get((group.name, self.ridge))
        if known is None or len(known.order) < count:
            known = equations.whole_eliminations.get((group.name, self.ridge))
        if known is None:
            known = eliminate(readers(candidate.module, group, problems))
            equations.whole_eliminations[group.name, self.ridge] = known
        return known.order

    def _shortened(self, candidate: Candidate, reference: Reference, groups: Sequence[str]) -> Candidate:
        """Return the candidate without the layers that make these groups, and with their readers refitted, first to last."""
        module, kept, readers = candidate.module, dict(candidate.kept), list[str]()
        inputs = torch.from_numpy(reference.calibration[:2].copy())
        for name in groups:
            # the readers of one may be the next: every cut is found in the network as it is by then
            group = next((group for group in trace(Candidate(module, candidate.example)).groups if group.name == name), None)
            shorter = None if group is None else bypassed(module, group, inputs)
            if group is not None and shorter is not None:
                module, kept = shorter, without_layers(kept, group)
                readers += [slot.module for slot in group.consumers]
        if not readers:
            return candidate
        left = replace(candidate, module=module, kept=kept)
        return replace(left, module=Repair(self.rows, self.ridge, tuple(readers))(left, reference).module)
