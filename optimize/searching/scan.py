"""Measure the curve of harm against width of each group: what narrowing it alone does to the network's outputs.

One pass over the calibration inputs gives the normal equations of every layer. One backward elimination per group then gives the order in
which its channels go, and what each removal costs its readers. At a few widths along that order the readers are refitted, and the distance
that the network's outputs move is found (`guard/divergence.py`). An error in a layer's output says little about that; the distance contains
what the rest of the network makes of it, and distances of different groups compare. The last width of a group may be 0: its layer is
removed, and its readers are fitted to what it read.

The distances come from a few backward passes for all widths of all groups at once (`group_harm.py`). So a scan costs about as much as two
dozen passes of the network, however many layers it has.

Distances are measured from the candidate's own outputs, not from the original's. A network that is already some way off comes nearer to the
original on a few dozen images by chance with many a change, and such a change would look free. Moves from one place add up.

Example: a group of 64 channels, and levels .001 to .064. Elimination can remove 5 channels at a cost of .001 and 22 at .016, so widths 59
and 42 are taken, and the next multiples of 8 above them, 64 and 48.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.data.arrays import spread
from optimize.data.dataset import Split
from optimize.graph.layer_types import linear_submodule
from optimize.graph.macs import macs
from optimize.graph.trace import ChannelGroup, Graph, Index, trace
from optimize.importance.output_error import Elimination, eliminate
from optimize.importance.removal_order import removal_orders
from optimize.importance.signal import Signal
from optimize.importance.start_equations import start_equations
from optimize.progress import track
from optimize.reconstruction.channel_removal import readers, unprunable_reasons
from optimize.reconstruction.layer_matrix import unknowns
from optimize.reconstruction.layer_repair import RIDGE, ROWS, repairable
from optimize.reconstruction.moments import BATCH, Moments, OriginalOutputs
from optimize.reconstruction.ridge import build_problem
from optimize.searching.group_harm import GroupHarm, Narrowing
from optimize.searching.layer_removal import LayerRemoval
from optimize.searching.measured_harm import MeasuredHarm
from optimize.searching.width_changes import width_changes

LEVELS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Costs of removal at which a group is measured, as shares of its readers' output energy."""
BOLD_LEVELS = (0.128, 0.256)
"""Further levels, whose harm only training can repair."""
KERNEL_MULTIPLE = 8
"""Widths that are a multiple of this suit most kernels."""
MAC_BUDGET = 10**12
PASSES = 16
"""Passes of the network that a scan takes about: forward, backward for each probe, products of the gradients, and what is measured."""
MIN_CASES, MAX_CASES = 48, 512
MEMORY_BYTES = 1 << 30
"""Bytes of Gram matrices and of differences of weights. Where those of all groups do not fit, groups are taken in several parts."""


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
        reference: the original, and inputs to fit on. Its memory keeps the moments and eliminations, see `importance/start_equations.py`.
        guard: the guard split. The harm is measured on its inputs where the reference has no unseen ones; its labels are not used.
        multiple: widths that are a multiple of this suit the target's kernels.
        levels: costs of removal at which a group is measured, rising.
        importance: signal that says which channels of a group go first, see `Prune`; costs and harm are measured all the same.
    """
    graph, original = trace(candidate), reference.original.module
    layers = repairable(candidate.module, original, graph)
    reasons = unprunable_reasons(graph.groups, candidate.module, layers, reference.calibration, reference.memory)
    groups = [group for group, reason in zip(graph.groups, reasons, strict=True) if reason is None]
    targets = OriginalOutputs(original, reference.calibration, layers, rows=ROWS, seed=reference.seed, memory=reference.memory)
    orders = {} if importance is None else removal_orders(importance, candidate, reference, groups)
    measured = MeasuredHarm(candidate, reference, _batches(candidate, reference, guard))
    harm = GroupHarm(candidate, measured, reference.seed)
    removal = LayerRemoval(candidate, reference, targets, measured)
    equations = start_equations(candidate, reference, ROWS)
    curves: list[Curve] = []
    parts = list(_parts(candidate.module, groups, 2 * len(levels)))
    for part in parts:
        names = list(dict.fromkeys(slot.module for group in part for slot in group.consumers))
        moments = targets.moments(candidate.module, names)
        if len(parts) == 1:
            equations.moments.update(moments)
        narrowings = []
        for group in track(part, "scan widths"):
            narrowing = _narrowing(candidate, original, graph, group, moments, orders.get(group.name), multiple, levels)
            if importance is None:  # by output error, which is what is remembered
                equations.eliminations[group.name, RIDGE] = narrowing.elimination
            narrowings.append(narrowing)
        # Layers in front of this part are the candidate's own in all that follows, so what is measured may start behind them.
        behind = groups[len(curves) :]
        harms = harm(narrowings, behind)
        removed = removal(part, harms, behind, len(groups))
        curves += [_curve(narrowing, harms[narrowing.group.name], removed.get(narrowing.group.name)) for narrowing in narrowings]
    return curves, measured.from_original


def _parts(module: nn.Module, groups: Sequence[ChannelGroup], widths: int) -> Iterator[list[ChannelGroup]]:
    """Yield the groups, in order, as many at a time as the memory holds the Gram matrices and differences of weights of."""
    part: list[ChannelGroup] = []
    held = 0
    for group in groups:
        size = sum(_bytes(module, slot.module, widths) for slot in group.consumers)
        if part and held + size > MEMORY_BYTES:
            yield part
            part, held = [], 0
        part.append(group)
        held += size
    if part:
        yield part


def _bytes(module: nn.Module, name: str, widths: int) -> int:
    layer = linear_submodule(module, name)
    # a Gram matrix in float64 takes 8 bytes for each pair of unknowns; 256 channels x 9 taps = 2304 unknowns take 42 MB
    return unknowns(layer) ** 2 * 8 * getattr(layer, "groups", 1) + widths * layer.weight.nbytes


def _batches(candidate: Candidate, reference: Reference, guard: Split) -> list[Floats]:
    """Return the inputs on which harm is found, as many as the time allows, in batches that are each spread over all of them."""
    # Example: a network of 500 million MACs: 10^12 / (16 * 5 * 10^8) = 125 inputs.
    count = int(np.clip(MAC_BUDGET // (PASSES * max(1, macs(candidate))), MIN_CASES, MAX_CASES))
    unseen = reference.unseen
    chosen = spread(len(guard) if unseen is None else len(unseen), count)
    number = -(-len(chosen) // min(BATCH, guard.batch_size))
    # the guard split decides in the end: widths that were chosen on it would look better there than they are
    return [guard.inputs(chosen[k::number]) if unseen is None else unseen[chosen[k::number]] for k in range(number)]


def _narrowing(
    candidate: Candidate,
    original: nn.Module,
    graph: Graph,
    group: ChannelGroup,
    moments: dict[str, Moments],
    order: Index | None,
    multiple: int,
    levels: Sequence[float],
) -> Narrowing:
    module, names = candidate.module, [slot.module for slot in group.consumers]
    problems = [build_problem(module, original, graph, name, moments[name], candidate.kept, RIDGE) for name in names]
    elimination = eliminate(readers(module, group, problems), budget=levels[-1], order=order)
    widths = _widths_to_measure(elimination, group.size, multiple, levels)
    # `order` lists the channels in the order they go, so its first size - width entries are missing at this width
    changes = width_changes(module, group, problems, [elimination.order[: group.size - width] for width in widths])
    return Narrowing(group, elimination, tuple(widths), tuple(changes))


def _curve(narrowing: Narrowing, harms: npt.NDArray[np.float64], removed: float | None) -> Curve:
    widths = (narrowing.group.size, *narrowing.widths)
    # a few dozen images can make a narrower width look better by chance; the knapsack needs a curve that only rises
    rising = tuple(float(harm) for harm in np.maximum.accumulate([0.0, *harms]))
    if removed is None:
        return Curve(narrowing.group.name, widths, rising)
    return Curve(narrowing.group.name, (*widths, 0), (*rising, removed))


def _widths_to_measure(elimination: Elimination, size: int, multiple: int, levels: Sequence[float]) -> list[int]:
    """Return the widths to measure, falling: those that the levels lead to, and above each the next one that suits kernels."""
    # cost is rising: the position of a level in it is the number of channels that can go at that level
    exact = {size - int(np.searchsorted(elimination.cost, level, side="right")) for level in levels}
    # -(-a // b) rounds up: 59 becomes 64 with a multiple of 8
    friendly = {-(-width // multiple) * multiple for width in exact}
    return sorted((width for width in exact | friendly if width < size), reverse=True)
