"""The harm of removing whole layers, measured: their readers are fitted to what the layers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.bypass import bypassed, without_layers
from optimize.graph.trace import ChannelGroup, trace
from optimize.reconstruction.channel_removal import affected_layers
from optimize.reconstruction.layer_repair import RIDGE, refit_layers
from optimize.reconstruction.moments import OriginalOutputs
from optimize.searching.measured_harm import MeasuredHarm

MAX_REMOVALS = 16
"""Layers whose removal is measured in one scan: those of the groups that are narrowed with the least harm."""
REMOVAL_BATCHES = 2
"""Batches of inputs on which a removal is measured."""


class LayerRemoval:
    """Measures what the network loses without a layer, for the few layers that it may do without.

    Args:
        candidate: the network as it is.
        reference: the original and the calibration inputs.
        targets: outputs of the original's layers.
        measured: measures the harm of a change.
    """

    def __init__(self, candidate: Candidate, reference: Reference, targets: OriginalOutputs, measured: MeasuredHarm) -> None:
        self._candidate, self._original = candidate, reference.original.module
        # it serves without a layer too: the norms behind the layers that are refitted are the same
        self._graph = trace(candidate)
        self._targets, self._measured = targets, measured
        self._example = torch.from_numpy(reference.calibration[:1].copy())

    def __call__(
        self, groups: Sequence[ChannelGroup], harms: Mapping[str, npt.NDArray[np.float64]], behind: Sequence[ChannelGroup], total: int
    ) -> dict[str, float]:
        """Return group -> harm without the layer that makes it, in nats; without the groups whose layer cannot go or is not tried.

        Args:
            groups: some groups, in execution order.
            harms: harm of each group at its widths.
            behind: these groups and all that follow them.
            total: number of all groups, which share `MAX_REMOVALS` trials.
        """
        # what a group's narrowest width costs says whether its layer may go; one that cannot even be narrowed comes last
        last = {group.name: float(harms[group.name][-1]) if len(harms[group.name]) else np.inf for group in groups}
        count = -(-MAX_REMOVALS * len(groups) // max(1, total))
        tried = sorted(last, key=lambda name: last[name])[:count]
        self._measured.restart()
        removed = {}
        for turn, group in enumerate(behind):
            harm = self._harm(group, affected_layers(behind[turn:])) if group.name in tried else None
            if harm is not None:
                removed[group.name] = harm
        return removed

    def _harm(self, group: ChannelGroup, changing: set[str]) -> float | None:
        candidate = self._candidate
        shorter = bypassed(candidate.module, group, self._example)
        if shorter is None:
            return None
        kept = without_layers(candidate.kept, group)
        names = [slot.module for slot in group.consumers]
        fitted = refit_layers(shorter, self._original, self._graph, names, self._targets, kept, RIDGE, changing)
        return self._measured(fitted, changing, REMOVAL_BATCHES) / self._measured.share(REMOVAL_BATCHES)
