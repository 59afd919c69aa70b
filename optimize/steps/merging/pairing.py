"""Plan of a merge: the channels that go, and the kept channel that stands for each, settled before any operator changes anything.

A controlled comparison of operators needs the same channels removed by all of them. So removal order and likeness are read off the
network as it was given. Two channels are as alike as the cosine between what their readers read of them (after norm, activation, pooling):
with the readers' uncentred second moments M and columns b of each channel,

    likeness(i, j) = sum_b M[i_b, j_b] / sqrt(sum_b M[i_b, i_b] * sum_b M[j_b, j_b])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.layer_types import linear_submodule
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.importance.magnitude import filters, producer_slots, weight_of
from optimize.importance.output_error import eliminate
from optimize.progress import track
from optimize.reconstruction.channel_removal import unprunable_reasons
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.layer_repair import repairable
from optimize.reconstruction.moments import Moments, OriginalOutputs
from optimize.reconstruction.ridge import build_problem

Choice: TypeAlias = Literal["norm", "output error"]


@dataclass(frozen=True, eq=False)
class RemovalPlan:
    """One group of channels before anything is removed.

    Args:
        order: channels in the order they are removed, the first first; at least one is never removed.
        likeness: (size, size) cosine similarity of activations, symmetric.
    """

    order: Index
    likeness: npt.NDArray[np.float64]

    def merge_into(self, share: float) -> Index:
        """Return (size,) the kept channel that stands for each channel when this share is removed: itself for those kept."""
        merge_into = np.arange(len(self.likeness))
        # half is rounded up: .5 of 5 channels removes 3; at least one stays
        count = min(len(merge_into) - 1, int(share * len(merge_into) + 0.5))
        gone = self.order[:count]
        keep = np.setdiff1d(merge_into, gone)
        merge_into[gone] = keep[self.likeness[np.ix_(gone, keep)].argmax(1)]
        return merge_into


def plan_removals(candidate: Candidate, reference: Reference, *, choose: Choice, rows: int, ridge: float) -> tuple[RemovalPlan | None, ...]:
    """Return a plan for every group of `trace(candidate)`, in its order; None for a group that cannot be pruned.

    Args:
        candidate: the network.
        reference: the original and the calibration inputs.
        choose: "norm" removes the channels with the smallest L2 norm first, "output error" the cheapest after the best linear repair.
        rows: sampled positions per reader.
        ridge: strength of the pull to the present weights, see `Repair`; used by "output error".
    """
    graph, module, original = trace(candidate), candidate.module, reference.original.module
    layers = repairable(module, original, graph)
    targets = OriginalOutputs(original, reference.calibration, layers, rows=rows, seed=reference.seed)
    plans: list[RemovalPlan | None] = []
    reasons = unprunable_reasons(graph.groups, module, layers, reference.calibration, reference.memory)
    for group, reason in zip(track(graph.groups, f"plan removals, by {choose}"), reasons, strict=True):
        if reason:
            plans.append(None)
            continue
        moments = targets.moments(module, [slot.module for slot in group.consumers])
        blocks = {slot.module: columns(linear_submodule(module, slot.module), slot.index) for slot in group.consumers}
        if choose == "norm":
            # without the last: the strongest channel never goes
            order = np.argsort(_norms(module, group), kind="stable")[:-1]
        else:
            problems = [build_problem(module, original, graph, name, moments[name], candidate.kept, ridge) for name in blocks]
            order = eliminate([reader for problem in problems for reader in problem.independent_problems(blocks[problem.name])]).order
        plans.append(RemovalPlan(order, _likeness([(moments[name], block) for name, block in blocks.items()])))
    return tuple(plans)


def _norms(module: nn.Module, group: ChannelGroup) -> npt.NDArray[np.float64]:
    """Return the L2 norm of everything that makes each channel, over all the layers that make it: (size,)."""
    weights = [filters(module.get_submodule(slot.module), slot, weight_of(module, slot)).double() for slot in producer_slots(module, group)]
    return np.asarray(torch.cat(weights, 1).square().sum(1).sqrt().numpy())


def _likeness(readers: Sequence[tuple[Moments, torch.Tensor]]) -> npt.NDArray[np.float64]:
    products = np.zeros((len(readers[0][1]),) * 2)
    for moments, blocks in readers:
        for positions in blocks.T:
            # with the means: two channels that are always on are alike even where they hardly vary
            part = moments.between(positions).addr(moments.mean_in[positions], moments.mean_in[positions])
            products += part.numpy()
    length = np.sqrt(np.maximum(products.diagonal(), 1e-300))
    cosine = products / np.outer(length, length)
    # exactly symmetric, so that rounding does not decide which of two channels is more like the other
    return np.asarray((cosine + cosine.T) / 2)
