"""Measure the curve of harm against width of each group: what narrowing it alone does to the network's outputs.

One pass over the calibration inputs gives the normal equations of every layer. One backward elimination per group then gives the order in
which its channels go, and what each removal costs its readers. At a few widths along that order the group is cut, its readers are refitted,
and the distance that the network's outputs have moved is measured (`guard/divergence.py`). An error in a layer's output says little about
that; the measured figure contains what the rest of the network makes of it, and figures of different groups compare. The last width of a
group may be 0: its layer is removed, and its readers are fitted to what it read.

Distances are measured from the candidate's own outputs, not from the original's. A network that is already some way off comes nearer to the
original on a few dozen images by chance with many a change, and such a change would look free. Moves from one place add up.

Example: a group of 64 channels, and levels .001 to .064. Elimination can remove 5 channels at a cost of .001 and 22 at .016, so widths 59
and 42 are measured, and the next multiples of 8 above them, 64 and 48.
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
from optimize.graph.layer_types import linear_submodule
from optimize.graph.macs import macs
from optimize.graph.replay import Replay
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.guard.divergence import divergence, log_shares
from optimize.importance.output_error import Elimination, eliminate
from optimize.importance.removal_order import removal_orders
from optimize.importance.signal import Signal
from optimize.progress import track
from optimize.reconstruction.channel_removal import affected_layers, cut_and_refit, readers, unprunable_reasons
from optimize.reconstruction.layer_matrix import unknowns
from optimize.reconstruction.layer_repair import RIDGE, ROWS, refit_layers, repairable
from optimize.reconstruction.moments import BATCH, OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem

LEVELS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Costs of removal at which a group is measured, as shares of its readers' output energy."""
BOLD_LEVELS = (0.128, 0.256)
"""Further levels, whose harm only training can repair."""
KERNEL_MULTIPLE = 8
"""Widths that are a multiple of this suit most kernels."""
MAC_BUDGET = 10**12
MIN_CASES, MAX_CASES = 48, 512
MEMORY_BYTES = 2 << 30
"""Bytes of Gram matrices. When all fit into this, one pass over the inputs makes them all."""


@dataclass(frozen=True)
class Curve:
    """Widths of one group, and the harm of each.

    Args:
        group: name of the group.
        widths: falling; the first is the group's present width, and 0 means without the layer that makes it.
        harm: distance of the outputs from the candidate's, in nats, at each width; it starts at 0 and rises as channels go. Without the
            layer it may be less than with a few channels of it.
    """

    group: str
    widths: tuple[int, ...]
    harm: tuple[float, ...]


def scan(
    candidate: Candidate,
    reference: Reference,
    guard: Split,
    multiple: int = KERNEL_MULTIPLE,
    levels: Sequence[float] = LEVELS,
    importance: Signal | None = None,
) -> tuple[list[Curve], float]:
    """Return the curve of every group that can be cut, and the distance of the candidate's outputs from the original's, in nats.

    Args:
        candidate: a network that was pruned mildly, so that its normal equations are small.
        reference: the original, and inputs to fit on.
        guard: the guard split. The harm is measured on its inputs where the reference has no unseen ones; its labels are not used.
        multiple: widths that are a multiple of this suit the target's kernels.
        levels: costs of removal at which a group is measured, rising.
        importance: signal that says which channels of a group go first, see `Prune`; costs and harm are measured all the same.
    """
    graph, original = trace(candidate), reference.original.module
    layers = repairable(candidate.module, original, graph)
    reasons = unprunable_reasons(graph.groups, candidate.module, layers, reference.calibration, reference.memory)
    groups = [group for group, reason in zip(graph.groups, reasons, strict=True) if reason is None]
    names = list(dict.fromkeys(slot.module for group in groups for slot in group.consumers))
    targets = OriginalOutputs(original, reference.calibration, layers, rows=ROWS, seed=reference.seed, memory=reference.memory)
    orders = {} if importance is None else removal_orders(importance, candidate, reference, groups)
    harm = _Harm(candidate, reference, guard, len(groups) * (len(levels) + 1))
    example = torch.from_numpy(reference.calibration[:1].copy())
    # a Gram matrix in float64 takes 8 bytes for each pair of unknowns; 256 channels x 9 taps = 2304 unknowns take 42 MB
    fits = sum(unknowns(linear_submodule(candidate.module, name)) ** 2 * 8 for name in names) <= MEMORY_BYTES
    all_moments = targets.moments(candidate.module, names) if fits and names else {}
    curves = []
    for turn, group in enumerate(track(groups, "scan widths")):
        reading_layers = [slot.module for slot in group.consumers]
        moments = all_moments or targets.moments(candidate.module, reading_layers)
        problems = [build_problem(candidate.module, original, graph, name, moments[name], candidate.kept, RIDGE) for name in reading_layers]
        # Layers in front of this group are the candidate's own in all that follows, so a replay may start behind them. Groups are in
        # execution order, and the set only shrinks.
        changing = affected_layers(groups[turn:])
        curve = _curve(candidate, group, problems, partial(harm, changing=changing), multiple, levels, orders.get(group.name))
        # the last point of the curve: the layer removed altogether, where the shapes around it allow that
        shorter = bypassed(candidate.module, group, example)
        if shorter is not None:
            shorter_candidate = Candidate(shorter, candidate.example, kept=without_layers(candidate.kept, group))
            fitted = refit_layers(
                shorter, original, trace(shorter_candidate), reading_layers, targets, shorter_candidate.kept, RIDGE, changing
            )
            curve = replace(curve, widths=(*curve.widths, 0), harm=(*curve.harm, harm(fitted, changing)))
        curves.append(curve)
    return curves, harm.from_original


def _curve(
    candidate: Candidate,
    group: ChannelGroup,
    problems: Sequence[Problem],
    harm: Callable[[nn.Module], float],
    multiple: int,
    levels: Sequence[float],
    order: Index | None,
) -> Curve:
    elimination = eliminate(readers(candidate.module, group, problems), budget=levels[-1], order=order)
    widths, harms = [group.size], [0.0]
    for width in _widths_to_measure(elimination, group.size, multiple, levels):
        # `order` lists the channels in the order they go, so its first size - width entries are missing at this width
        keep = np.setdiff1d(np.arange(group.size), elimination.order[: group.size - width])
        module, _ = cut_and_refit(candidate.module, group, keep, problems, candidate.kept)
        widths.append(width)
        # a few dozen images can make a narrower width look better by chance; the knapsack needs a curve that only rises
        harms.append(max(harms[-1], harm(module)))
    return Curve(group.name, tuple(widths), tuple(harms))


def _widths_to_measure(elimination: Elimination, size: int, multiple: int, levels: Sequence[float]) -> list[int]:
    """Return the widths to measure, falling: those that the levels lead to, and above each the next one that suits kernels."""
    # cost is rising: the position of a level in it is the number of channels that can go at that level
    exact = {size - int(np.searchsorted(elimination.cost, level, side="right")) for level in levels}
    # -(-a // b) rounds up: 59 becomes 64 with a multiple of 8
    friendly = {-(-width // multiple) * multiple for width in exact}
    return sorted((width for width in exact | friendly if width < size), reverse=True)


class _Harm:
    """Distance of a network's outputs from the candidate's, on as many inputs as the time allows.

    Attributes:
        from_original: distance of the candidate's outputs from the original's, in nats.
    """

    def __init__(self, candidate: Candidate, reference: Reference, guard: Split, evaluations: int) -> None:
        # Example: 20 groups at 8 widths of a network of 50 million MACs: 10^12 / (160 * 5 * 10^7) = 125 inputs.
        count = int(np.clip(MAC_BUDGET // (max(1, evaluations) * max(1, macs(candidate))), MIN_CASES, MAX_CASES))
        unseen = reference.unseen
        whole = len(guard) if unseen is None else len(unseen)
        chosen = spread(whole, count)
        parts = np.array_split(chosen, -(-len(chosen) // min(BATCH, guard.batch_size)))
        # the guard split decides in the end: widths that were chosen on it would look better there than they are
        batches = [guard.inputs(part) if unseen is None else unseen[part] for part in parts]
        self._meaning = candidate.outputs
        self._replay = Replay(candidate.module, [torch.from_numpy(batch) for batch in batches])
        self._replay.check_outputs(candidate.module)
        self._own = [self._answers(candidate.module, number, ()) for number in range(len(batches))]
        original = (log_shares(reference.original.predict(batch), self._meaning) for batch in batches)
        self.from_original = divergence(zip(original, self._own, strict=True))

    def __call__(self, module: nn.Module, changing: Collection[str]) -> float:
        """Return the divergence of the network, which may differ from the candidate only in the layers `changing`."""
        return divergence((own, self._answers(module, number, changing)) for number, own in enumerate(self._own))

    def _answers(self, module: nn.Module, number: int, changing: Collection[str]) -> npt.NDArray[np.float32]:
        return log_shares(self._replay.outputs(module, number, changing).numpy(), self._meaning)
