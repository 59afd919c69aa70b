"""Structured pruning to given widths: which channels stay, and how their readers go on, is found as in `Prune`.

A layer whose channels are to have the width 0 is taken out altogether where the network runs without it (`graph/bypass.py`); that comes
first, and its readers are refitted to what they read then. In the end the layer that answers is fitted to the original's answers
(`steps/fit_output.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.bypass import bypassed, without_layers
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.importance.output_error import eliminate
from optimize.importance.signal import Signal
from optimize.reconstruction.channel_removal import Reader
from optimize.reconstruction.layer_repair import RIDGE, ROWS
from optimize.steps.fit_output import PULL, FitOutput
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

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the narrowed and repaired candidate."""
        chosen = dict(self.widths)
        # whole layers first: their readers read other channels afterwards, and are then narrowed as they are
        shorter = self._shortened(candidate, reference, [name for name, width in self.widths if not width])
        orders = orders_by(self.importance, shorter, reference)

        def choose(group: ChannelGroup, readers: Sequence[Reader]) -> Index:
            width = chosen.get(group.name, group.size)
            if width >= group.size:
                return np.array([], dtype=np.int64)
            # no budget: the widths were chosen, and elimination only says which channels go
            return eliminate(readers, least=max(1, width), order=orders.get(group.name)).order

        made = cut(self, shorter, reference, choose, "narrow")
        if made.module is candidate.module:
            return candidate.after(self, candidate.module)
        return candidate.after(self, FitOutput(self.rows, self.l2)(made, reference).module, made.kept)

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
