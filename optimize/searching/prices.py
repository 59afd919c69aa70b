"""The price of a layer of given widths: its measured latency on the target, and its share of parameters and multiply-accumulates.

Each part is relative to the whole network's, so that the weights of a `Pricing` compare them:

    price = latency weight * ms / ms of all layers  +  macs weight * MACs / all MACs  +  parameters weight * weights / all weights

A sum of layers' latencies is not the latency of a network (`docs/latency.md`), but it ranks widths as the target does: a width that suits
the target's kernels badly has the price it really costs, and a width that they round up has the price of the next multiple.

Example, weights 1, .5 and .5: a layer that takes 20 % of the time, 10 % of the MACs and 2 % of the weights has the price .2 + .05 + .01 =
.26. With half of its outputs it has half of the MACs and weights, but may still take 15 % of the time: .15 + .025 + .005 = .18.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from optimize.candidate import Candidate
from optimize.graph.trace import trace
from optimize.measure.kernel_blocks import Step, kernel_steps, step_of
from optimize.measure.layers import LayerShape, layer_shapes
from optimize.measure.table import LatencyTable
from optimize.measure.width_latency import Grid, Surface, surfaces
from optimize.searching.knapsack import Item, Knapsack, groups_by_layer
from optimize.searching.scan import KERNEL_MULTIPLE, Curve

GroupShare: TypeAlias = tuple[str, int]
"""A group, and how many channels of a layer go with one unit of its width."""


@dataclass(frozen=True)
class Pricing:
    """Weights of the parts of a price.

    Args:
        table: latencies of the target; None where none can be measured. The price then has no latency part.
        latency: weight of a layer's latency, relative to the latency of all layers.
        macs: weight of a layer's multiply-accumulates, relative to those of all layers.
        parameters: weight of a layer's parameters, relative to those of all layers.
    """

    table: LatencyTable | None = field(default=None, compare=False, repr=False)
    latency: float = 1.0
    macs: float = 0.5
    parameters: float = 0.5

    @property
    def width_multiple(self) -> int:
        """The number that output channels should be a multiple of, for the target's convolution kernels."""
        return KERNEL_MULTIPLE if self.table is None else max(KERNEL_MULTIPLE, kernel_steps(self.table)["conv"].outs)


def make_knapsack(candidate: Candidate, curves: Sequence[Curve], pricing: Pricing) -> Knapsack:
    """Return the knapsack of a candidate's layers.

    Args:
        candidate: the candidate whose layers have a price.
        curves: harm against width of its groups, from `scan`.
        pricing: weights of the parts of a price, and the target's latencies.
    """
    graph = trace(candidate)
    scanned = {curve.group for curve in curves}
    by_layer = groups_by_layer(graph, [group for group in graph.groups if group.name in scanned])
    shapes = {name: calls for name, calls in layer_shapes(candidate.module, candidate.example).items() if name in by_layer}
    widest = _widest_shapes(shapes, by_layer, curves)
    timed = _latency_surfaces(widest, pricing)
    # a layer that is called several times has the same channels in each call
    now = {name: (calls[0].in_channels, calls[0].out_channels) for name, calls in shapes.items()}
    # Time and MACs are spent in every call, weights are stored once. `or 1` stands for a part that nothing has, whose share is then 0.
    whole = {
        "latency": sum(timed[shape](*now[name]) for name, calls in widest.items() for shape in calls if timed) or 1.0,
        "macs": sum(shape.macs for calls in shapes.values() for shape in calls) or 1,
        "parameters": sum(calls[0].weights for calls in shapes.values()) or 1,
    }
    items = []
    for name, calls in shapes.items():
        reads, makes = by_layer[name]
        if calls[0].depthwise:  # a depthwise convolution reads the channels that it makes, or one for every few of them
            multiplier = calls[0].out_channels // calls[0].in_channels
            reads = [(group, made // multiplier) for group, made in makes]
        price = cache(_Price(tuple(widest[name]), pricing, whole, timed))  # the descent asks for the same widths again and again
        items.append(Item(price, *now[name], tuple(reads), tuple(makes)))
    return Knapsack(curves, items)


@dataclass(frozen=True, eq=False)
class _Price:
    """The price of one layer, over all its calls."""

    calls: tuple[LayerShape, ...]
    pricing: Pricing
    whole: dict[str, float]
    timed: dict[LayerShape, Surface]

    def __call__(self, reads: int, makes: int) -> float:
        shapes = [shape.with_channels(reads, makes) for shape in self.calls]
        total = self.pricing.macs * sum(shape.macs for shape in shapes) / self.whole["macs"]
        total += self.pricing.parameters * shapes[0].weights / self.whole["parameters"]
        if self.timed:
            total += self.pricing.latency * sum(self.timed[shape](reads, makes) for shape in self.calls) / self.whole["latency"]
        return total


def _widest_shapes(
    shapes: Mapping[str, Sequence[LayerShape]],
    by_layer: Mapping[str, tuple[Sequence[GroupShare], Sequence[GroupShare]]],
    curves: Sequence[Curve],
) -> dict[str, list[LayerShape]]:
    """Return every layer as wide as it can become: without the layer in front it reads what that one read, which may be more."""
    more: dict[str, int] = {}

    def reads(name: str) -> int:
        return shapes[name][0].in_channels + sum(more.get(group, 0) * channels for group, channels in by_layer[name][0])

    for curve in curves:
        # This group's layer may be removed; its readers then read what it reads. Example: a layer from 64 to 48 channels goes, so a reader
        # of 48 channels reads 64, and needs latencies up to that width.
        if not curve.widths[-1]:
            maker = next(name for name in shapes if any(group == curve.group for group, _ in by_layer[name][1]))
            more[curve.group] = max(0, reads(maker) - curve.widths[0])
    return {
        name: [shape.with_channels(reads(name), shape.out_channels) if reads(name) > shape.in_channels else shape for shape in calls]
        for name, calls in shapes.items()
    }


def _latency_surfaces(shapes: Mapping[str, Sequence[LayerShape]], pricing: Pricing) -> dict[LayerShape, Surface]:
    """Return a latency surface for every shape; equal shapes are measured once."""
    if pricing.table is None:
        return {}
    steps = kernel_steps(pricing.table)
    # a network repeats its shapes, and each costs seconds to measure: `fromkeys` drops repetitions and keeps the order
    grids = [_grid(shape, step_of(shape, steps)) for shape in dict.fromkeys(shape for calls in shapes.values() for shape in calls)]
    return {grid.shape: surface for grid, surface in zip(grids, surfaces(pricing.table, grids), strict=True)}


def _grid(shape: LayerShape, step: Step) -> Grid:
    """Return the few widths at which a shape is measured; between them the latency is interpolated."""
    whole = Grid.up_to(shape)
    return Grid(shape, _sparse_widths(whole.in_widths, step.ins), _sparse_widths(whole.out_widths, step.outs), step)


def _sparse_widths(widths: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Return both ends, and between them whole steps, from 8 on each at least twice as wide as the one before.

    Above a step the last one is a whole step too, whether or not the layer is that wide: the straight line to it has the right slope.

    Example: with kernels in steps of 8, a layer of up to 60 channels is measured at 8, 16, 32 and 64.

        >>> _sparse_widths((1, *range(8, 60, 8), 60), 8)
        (8, 16, 32, 64)
    """
    taken: list[int] = []
    for width in (width for width in widths[:-1] if width % step == 0):
        if not taken or width >= max(8, 2 * taken[-1]):
            taken.append(width)
    return (*taken, widths[-1] if widths[-1] <= step else -(-widths[-1] // step) * step)
