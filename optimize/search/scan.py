"""What narrowing each group of channels alone does to the answers: the whole curve of harm against width, measured.

One pass over the calibration inputs gives the normal equations of every layer. One backward elimination per group then says in which order
its channels go and what each costs its readers; at a few widths along it the group is cut, its readers are refitted, and the network is
asked how far its answers have moved (`guard/divergence.py`). An error in a layer's output says little about that: what the rest of the
network makes of it is in the measured figure, and figures of different groups compare. The last width of a group may be 0: its layer is
taken out, and its readers are fitted to what it read.

How far they have moved from the candidate's own answers, that is, not from the original's: of a network that is some way off already, many
a change comes nearer to the original on a few dozen images, by chance, and would look free. Moves from where it stands add up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.data.arrays import spread
from optimize.data.dataset import Split
from optimize.graph.bypass import bypassed, without_layers
from optimize.graph.macs import macs
from optimize.graph.replay import Replay
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.guard.divergence import divergence, log_shares
from optimize.importance.output_error import Elimination, eliminate
from optimize.importance.removal_order import removal_orders
from optimize.importance.signal import Signal
from optimize.progress import track
from optimize.reconstruction.channel_removal import affected_layers, cut_and_refit, readers, unprunable_reason
from optimize.reconstruction.layer_matrix import LinearMap, unknowns
from optimize.reconstruction.layer_repair import RIDGE, ROWS, refit_layers, repairable
from optimize.reconstruction.moments import BATCH, OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem

LEVELS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Costs of removal at which a group is looked at, as shares of its readers' output energy."""
BOLD = (0.128, 0.256)
"""Further ones, which only training makes good."""
SUITED = 8
"""A multiple of this suits most kernels."""
MAC_BUDGET = 10**12
LEAST_CASES, MOST_CASES = 48, 512
MEMORY_BYTES = 2 << 30
"""Of Gram matrices: when they fit together, one pass over the inputs makes them all."""


@dataclass(frozen=True)
class Curve:
    """One group's widths, from what it has down, and the harm of each.

    Args:
        group: its name.
        widths: falling; the first is what the group has, and 0 means without the layer that makes it.
        harm: of each, in nats: how far from the candidate's answers; rising from 0 with every channel that goes. Without the layer it may
            be less than with a few channels of it.
    """

    group: str
    widths: tuple[int, ...]
    harm: tuple[float, ...]


def scan(
    candidate: Candidate,
    reference: Reference,
    guard: Split,
    multiple: int = SUITED,
    levels: Sequence[float] = LEVELS,
    importance: Signal | None = None,
) -> tuple[list[Curve], float]:
    """The curve of every group that can be cut, and how far the candidate's answers already are from the original's.

    Args:
        candidate: a network that was pruned mildly, so that its normal equations are small.
        reference: the original, and inputs to fit on.
        guard: where the reference has no unseen inputs, the harm is measured on these; their labels are not looked at.
        multiple: of which widths suit the target's kernels.
        levels: costs of removal at which a group is looked at, rising.
        importance: which channels of a group go first, see `Prune`; costs and harm are measured all the same.
    """
    graph, original = trace(candidate), reference.original.module
    layers = repairable(candidate.module, original, graph)
    groups = [group for group in graph.groups if unprunable_reason(group, candidate.module, layers, reference.calibration) is None]
    names = list(dict.fromkeys(slot.module for group in groups for slot in group.consumers))
    targets = OriginalOutputs(original, reference.calibration, layers, rows=ROWS, seed=reference.seed, memory=reference.memory)
    orders = {} if importance is None else removal_orders(importance, candidate, reference, groups)
    harm = _Harm(candidate, reference, guard, len(groups) * (len(levels) + 1))
    one = torch.from_numpy(reference.calibration[:1].copy())
    room = sum(unknowns(_layer(candidate, name)) ** 2 * 8 for name in names) <= MEMORY_BYTES
    together = targets.moments(candidate.module, names) if room and names else {}
    curves = []
    for turn, group in enumerate(track(groups, "scan widths")):
        asked = [slot.module for slot in group.consumers]
        moments = together or targets.moments(candidate.module, asked)
        problems = [build_problem(candidate.module, original, graph, name, moments[name], candidate.kept, RIDGE) for name in asked]
        changing = affected_layers(groups[turn:])
        curve = _curve(candidate, group, problems, partial(harm, changing=changing), multiple, levels, orders.get(group.name))
        shorter = bypassed(candidate.module, group, one)
        if shorter is not None:
            left = Candidate(shorter, candidate.example, kept=without_layers(candidate.kept, group))
            fitted = refit_layers(shorter, original, trace(left), asked, targets, left.kept, RIDGE, changing)
            curve = replace(curve, widths=(*curve.widths, 0), harm=(*curve.harm, harm(fitted, changing)))
        curves.append(curve)
    return curves, harm.done


def _curve(
    candidate: Candidate,
    group: ChannelGroup,
    problems: Sequence[Problem],
    harm: Callable[[nn.Module], float],
    multiple: int,
    levels: Sequence[float],
    order: Index | None,
) -> Curve:
    found = eliminate(readers(candidate.module, group, problems), budget=levels[-1], order=order)
    widths, worst = [group.size], [0.0]
    for width in _stations(found, group.size, multiple, levels):
        keep = np.setdiff1d(np.arange(group.size), found.order[: group.size - width])
        module, _ = cut_and_refit(candidate.module, group, keep, problems, candidate.kept)
        widths.append(width)
        worst.append(max(worst[-1], harm(module)))
    return Curve(group.name, tuple(widths), tuple(worst))


def _stations(found: Elimination, size: int, multiple: int, levels: Sequence[float]) -> list[int]:
    """Widths to look at, falling: those that the levels lead to, and the next one above each that suits kernels."""
    exact = {size - int(np.searchsorted(found.cost, level, side="right")) for level in levels}
    friendly = {-(-width // multiple) * multiple for width in exact}
    return sorted((width for width in exact | friendly if width < size), reverse=True)


class _Harm:
    """How far a network's answers are from the candidate's, on as many inputs as the time allows.

    Attributes:
        done: how far the candidate's are from the original's.
    """

    def __init__(self, candidate: Candidate, reference: Reference, guard: Split, looks: int) -> None:
        count = int(np.clip(MAC_BUDGET // (max(1, looks) * max(1, macs(candidate))), LEAST_CASES, MOST_CASES))
        unseen = reference.unseen
        whole = len(guard) if unseen is None else len(unseen)
        chosen = spread(whole, count)
        parts = np.array_split(chosen, -(-len(chosen) // min(BATCH, guard.batch_size)))
        # the guard decides in the end: widths chosen by it would look better there than they are
        batches = [guard.inputs(part) if unseen is None else unseen[part] for part in parts]
        self._meaning = candidate.outputs
        self._replay = Replay(candidate.module, [torch.from_numpy(batch) for batch in batches])
        self._replay.check_outputs(candidate.module)
        self._now = [self._answers(candidate.module, number, ()) for number in range(len(batches))]
        original = (log_shares(reference.original.predict(batch), self._meaning) for batch in batches)
        self.done = divergence(zip(original, self._now, strict=True))

    def __call__(self, module: nn.Module, changing: Collection[str]) -> float:
        """The divergence of the network, which differs from the candidate in the layers `changing` at most."""
        return divergence((now, self._answers(module, number, changing)) for number, now in enumerate(self._now))

    def _answers(self, module: nn.Module, number: int, changing: Collection[str]) -> npt.NDArray[np.float32]:
        return log_shares(self._replay.outputs(module, number, changing).numpy(), self._meaning)


def _layer(candidate: Candidate, name: str) -> LinearMap:
    return candidate.module.get_submodule(name)  # type: ignore[return-value]

