"""Take named channels out of one group, leave something in their place, and repair what reads them: one chunk of a search.

Channel numbers are those of the candidate as it stands: after a removal the channels behind it move up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError, require_choice
from optimize.graph.layer_types import linear_submodule
from optimize.graph.surgery import keep_channels, kept_after
from optimize.graph.trace import ChannelGroup, Graph, Index, trace
from optimize.reconstruction.layer_matrix import matrix
from optimize.reconstruction.layer_repair import RIDGE, ROWS, refit_layers, repairable
from optimize.reconstruction.moments import WIDEST, OriginalOutputs
from optimize.steps.merge import RepairMode
from optimize.steps.merging.crossover import Target
from optimize.steps.merging.operators import MergeOperator, Operator
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm


@dataclass(frozen=True)
class RemoveChannels:
    """Remove channels from one group.

    Args:
        group: its name, the first layer that makes the channels.
        channels: numbers of the channels that go, as the candidate numbers them; none changes nothing, and at least one must stay.
        repair: the way readers are repaired, see `Merge`; "least squares" leaves a reader without a closed form, or with too many
            columns for one, as it is.
        operator: name of the operator that leaves something in their place, see `MergeOperator`.
        merge_into: the channel that stays and stands for each of `channels`; empty for "drop".
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
        >>> opt.RemoveChannels("0", (1, 4))(original, reference).kept["0"].tolist()
        [0, 2, 3, 5]
    """

    TRAINS: ClassVar[bool] = False

    group: str
    channels: tuple[int, ...]
    repair: RepairMode = "least squares"
    operator: Operator = "drop"
    merge_into: tuple[int, ...] = ()
    target: Target = "max"
    rows: int = ROWS
    ridge: float = RIDGE
    cases: int = 1024

    def __post_init__(self) -> None:
        for name, kind in (("repair", RepairMode), ("operator", Operator), ("target", Target)):
            require_choice(name, getattr(self, name), get_args(kind))
        if len(set(self.channels)) < len(self.channels):
            raise InputError(f"`channels` (={self.channels}) must name each channel once.")
        if len(self.merge_into) != (0 if self.operator == "drop" else len(self.channels)):
            needs = "none" if self.operator == "drop" else "one channel for each that goes"
            problem = f"`merge_into` (={self.merge_into}) does not fit `channels` (={self.channels})"
            raise InputError(f"{problem}: {self.operator!r} takes {needs}.")

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the narrower candidate.

        Raises:
            InputError: when the candidate has no such group or channels, or none of them would stay.
        """
        if not self.channels:
            return candidate.after(self, candidate.module)
        graph = trace(candidate)
        group = self._group(graph)
        merge_into = self._stand_ins(group)
        keep = np.setdiff1d(np.arange(group.size), self.channels)
        stand_in = MergeOperator(self.operator, self.target, self.rows, self.ridge)
        # at full width: channels still have their numbers, and what goes can give what it did to its stand-in
        module = stand_in(candidate.module, group, graph.norms, merge_into, reference)
        kept = kept_after(candidate.kept, module, group, keep)
        narrow = candidate.after(self, keep_channels(module, group, keep), kept)
        if self.repair == "batchnorm":
            return candidate.after(self, RecalibrateBatchNorm(self.cases)(narrow, reference).module, kept)
        return self._refitted(narrow, reference, graph, group) if self.repair == "least squares" else narrow

    def _refitted(self, narrow: Candidate, reference: Reference, graph: Graph, group: ChannelGroup) -> Candidate:
        original, module = reference.original.module, narrow.module
        closed = repairable(module, original, graph)
        readers = [slot.module for slot in group.consumers if slot.module in closed]
        # a single refit of a layer wider than this would take minutes, and a search makes hundreds of proposals
        readers = [name for name in readers if len(matrix(linear_submodule(module, name))) <= WIDEST]
        targets = OriginalOutputs(original, reference.calibration, readers, rows=self.rows, seed=reference.seed, memory=reference.memory)
        fitted = refit_layers(module, original, graph, readers, targets, narrow.kept, self.ridge)
        return replace(narrow, module=fitted)

    def _group(self, graph: Graph) -> ChannelGroup:
        group = next((group for group in graph.groups if group.name == self.group), None)
        if group is None:
            names = ", ".join(group.name for group in graph.groups)
            raise InputError(f"`group` (={self.group!r}) is none of this network's: write one of {names}.")
        # checked here and not in `__post_init__`: only the candidate says how wide the group is
        if not {*self.channels, *self.merge_into} <= set(range(group.size)):
            raise InputError(f"`channels` (={self.channels}) of {self.group} must be numbers below {group.size}, its width.")
        if len(self.channels) == group.size:
            raise InputError(f"`channels` (={self.channels}) are all that {self.group} has: leave at least one.")
        return group

    def _stand_ins(self, group: ChannelGroup) -> Index:
        """Return the channel that stands for each, (size,); itself where nothing else does."""
        # Example: of 4 channels, 1 and 3 go and 0 stands for both: [0, 0, 2, 0].
        stand_ins = np.arange(group.size)
        if self.merge_into:
            stand_ins[list(self.channels)] = self.merge_into
            if lost := sorted({*self.merge_into} & {*self.channels}):
                raise InputError(f"`merge_into` (={self.merge_into}) must stay, but {lost[0]} is one of `channels` (={self.channels}).")
        return stand_ins
