"""What a layer of given widths costs: its measured latency on the target, and its share of parameters and multiply-accumulates.

Each is taken relative to the whole network's, so that the weights of a `Pricing` compare them. A sum of layers' latencies is no network's
latency (`docs/latency.md`), but it ranks widths as the target does: a width that its kernels do not like costs what it really costs, and
one that they round up what the next multiple costs.
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
from optimize.searching.knapsack import Item, Knapsack, sides
from optimize.searching.scan import SUITED, Curve

Made: TypeAlias = tuple[str, int]
"""A group, and how many channels go with one unit of it."""


@dataclass(frozen=True)
class Pricing:
    """What counts, and how much.

    Args:
        table: of the target; None where none can be measured: latency then counts nothing.
        latency: weight of a layer's latency, as a share of all layers'.
        macs: weight of its multiply-accumulates, likewise.
        parameters: weight of its parameters, likewise.
    """

    table: LatencyTable | None = field(default=None, compare=False, repr=False)
    latency: float = 1.0
    macs: float = 0.5
    parameters: float = 0.5

    @property
    def multiple(self) -> int:
        """Of which output channels are best a multiple, for the target's kernels of convolutions."""
        return SUITED if self.table is None else max(SUITED, kernel_steps(self.table)["conv"].outs)


def knapsack(candidate: Candidate, curves: Sequence[Curve], pricing: Pricing) -> Knapsack:
    """The knapsack of a candidate's layers."""
    graph = trace(candidate)
    scanned = {curve.group for curve in curves}
    by_layer = sides(graph, [group for group in graph.groups if group.name in scanned])
    shapes = {name: calls for name, calls in layer_shapes(candidate.module, candidate.example).items() if name in by_layer}
    widest = _widest(shapes, by_layer, curves)
    timed = _timed(widest, pricing)
    now = {name: (calls[0].in_channels, calls[0].out_channels) for name, calls in shapes.items()}
    whole = {
        "latency": sum(timed[shape](*now[name]) for name, calls in widest.items() for shape in calls if timed) or 1.0,
        "macs": sum(shape.macs for calls in shapes.values() for shape in calls) or 1,
        "parameters": sum(calls[0].weights for calls in shapes.values()) or 1,
    }
    items = []
    for name, calls in shapes.items():
        reads, makes = by_layer[name]
        if calls[0].depthwise:  # it reads what it makes, or a channel for every few
            each = calls[0].out_channels // calls[0].in_channels
            reads = [(group, made // each) for group, made in makes]
        price = cache(_Price(tuple(widest[name]), pricing, whole, timed))  # the search for widths comes back to the same ones all the time
        items.append(Item(price, *now[name], tuple(reads), tuple(makes)))
    return Knapsack(curves, items)


@dataclass(frozen=True, eq=False)
class _Price:
    """One layer's, over all its calls."""

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


def _widest(
    shapes: Mapping[str, Sequence[LayerShape]], by_layer: Mapping[str, tuple[Sequence[Made], Sequence[Made]]], curves: Sequence[Curve]
) -> dict[str, list[LayerShape]]:
    """Every layer as wide as it can become: without the layer in front it reads what that one read, which may be more."""
    more: dict[str, int] = {}

    def reads(name: str) -> int:
        return shapes[name][0].in_channels + sum(more.get(group, 0) * each for group, each in by_layer[name][0])

    for curve in curves:
        if not curve.widths[-1]:
            maker = next(name for name in shapes if any(group == curve.group for group, _ in by_layer[name][1]))
            more[curve.group] = max(0, reads(maker) - curve.widths[0])
    return {
        name: [shape.with_channels(reads(name), shape.out_channels) if reads(name) > shape.in_channels else shape for shape in calls]
        for name, calls in shapes.items()
    }


def _timed(shapes: Mapping[str, Sequence[LayerShape]], pricing: Pricing) -> dict[LayerShape, Surface]:
    """A surface for every shape; shapes that are called twice are measured once."""
    if pricing.table is None:
        return {}
    steps = kernel_steps(pricing.table)
    grids = [_grid(shape, step_of(shape, steps)) for shape in dict.fromkeys(shape for calls in shapes.values() for shape in calls)]
    return {grid.shape: surface for grid, surface in zip(grids, surfaces(pricing.table, grids), strict=True)}


def _grid(shape: LayerShape, step: Step) -> Grid:
    """Few widths: between them the price is interpolated."""
    whole = Grid.up_to(shape)
    return Grid(shape, _thinned(whole.in_widths, step.ins), _thinned(whole.out_widths, step.outs), step)


def _thinned(widths: tuple[int, ...], step: int) -> tuple[int, ...]:
    """The ends, and between them whole steps, from 8 on each at least twice as wide as the one before.

    Above a step the last one is a whole step too, whether or not the layer is that wide: the straight line to it has the right slope.
    """
    taken: list[int] = []
    for width in (each for each in widths[:-1] if each % step == 0):
        if not taken or width >= max(8, 2 * taken[-1]):
            taken.append(width)
    return (*taken, widths[-1] if widths[-1] <= step else -(-widths[-1] // step) * step)
