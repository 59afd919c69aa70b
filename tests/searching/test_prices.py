"""Prices of layers, against the same worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import trace
from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable
from optimize.searching.knapsack import Knapsack
from optimize.searching.prices import Pricing, make_knapsack
from optimize.searching.scan import Curve
from tests import nets

RUNTIME: Any = SimpleNamespace(NAME="fake", preflight=lambda: None, precisions=lambda: ("f32",), version=lambda: "1")


def table(tmp_path: Path, asked: list[LayerShape] | None = None) -> LatencyTable:
    """A millisecond for each pair of channels: a product, which is bilinear, and so exact between the grid's widths."""

    def timer(shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        if asked is not None:
            asked.extend(shapes)
        return {shape: float(shape.in_channels * shape.out_channels) for shape in shapes}

    return LatencyTable(RUNTIME, path=tmp_path / "table.json", timer=timer)


def curves(of: Candidate, *names: str) -> list[Curve]:
    """Every width of the named groups, or of all; harm does not matter here."""
    sizes = {group.name: group.size for group in trace(of).groups}
    return [Curve(name, tuple(range(sizes[name], 0, -1)), (0.0,) * sizes[name]) for name in names or sizes]


def items(of: Candidate, pricing: Pricing, *names: str) -> Knapsack:
    return make_knapsack(of, curves(of, *names), pricing)


# `nets.chain`: conv 3 -> a, k3 on 8 x 8; conv a -> b, k3 s2, to 3 x 3; linear b -> 4
def macs(a: int, b: int) -> int:
    return 3 * a * 9 * 64 + a * b * 9 * 9 + b * 4


def weights(a: int, b: int) -> int:
    return 3 * a * 9 + a * b * 9 + b * 4


@pytest.mark.parametrize(("a", "b"), [(8, 6), (5, 6), (8, 2), (3, 4), (1, 1)])
def test_a_chain_by_hand(a: int, b: int, tmp_path: Path) -> None:
    start, widths = nets.candidate(nets.chain()), {"0": a, "2": b}
    by_macs = items(start, Pricing(latency=0, macs=1, parameters=0)).price(widths)
    by_weights = items(start, Pricing(latency=0, macs=0, parameters=1)).price(widths)
    by_time = items(start, Pricing(table(tmp_path), latency=1, macs=0, parameters=0)).price(widths)
    assert by_macs == pytest.approx(macs(a, b) / macs(8, 6))
    assert by_weights == pytest.approx(weights(a, b) / weights(8, 6))
    assert by_time == pytest.approx((3 * a + a * b + 4 * b) / (3 * 8 + 8 * 6 + 4 * 6))
    together = items(start, Pricing(table(tmp_path), latency=2, macs=0.5, parameters=0.25)).price(widths)
    assert together == pytest.approx(2 * by_time + 0.5 * by_macs + 0.25 * by_weights)


def test_without_a_table_latency_counts_nothing() -> None:
    start = nets.candidate(nets.chain())
    assert items(start, Pricing(latency=100, macs=0.5, parameters=0.5)).price({"0": 8, "2": 6}) == pytest.approx(1.0)


@pytest.mark.parametrize("width", [8, 5, 1])
def test_a_depthwise_layer_follows_what_it_reads(width: int) -> None:
    """Pointwise 3 -> w on 8 x 8, depthwise k3 to 6 x 6, pointwise w -> 6 and the last layer, conv 6 -> 4, k3."""
    start = nets.candidate(nets.depthwise())
    priced = items(start, Pricing(latency=0, macs=1, parameters=0), "0")
    whole = [3 * w * 64 + w * 9 * 36 + w * 6 * 36 for w in (8, width)]
    last = whole[0] - whole[1]
    every = items(start, Pricing(latency=0, macs=1, parameters=0))
    assert priced.price({"0": 8}) - priced.price({"0": width}) == pytest.approx(last / whole[0])
    total = whole[0] + 6 * 4 * 9 * 16
    assert every.price({"0": 8, "5": 6}) - every.price({"0": width, "5": 6}) == pytest.approx(last / total)


@pytest.mark.parametrize("width", [4, 3, 1])
def test_a_depthwise_layer_that_multiplies_reads_one_channel_for_each_unit(width: int) -> None:
    """Conv 3 -> w, k3 on 8 x 8, depthwise k3 w -> 2 w, pointwise 2 w -> 2."""
    three = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.Conv2d(8, 2, 1))
    priced = items(nets.candidate(three), Pricing(latency=0, macs=1, parameters=0))
    whole = [64 * (3 * w * 9 + 2 * w * 9 + 2 * w * 2) for w in (4, width)]
    assert priced.price({"0": width}) == pytest.approx(whole[1] / whole[0])


@pytest.mark.parametrize("name", set(nets.TOPOLOGIES) - {"sum onto a concat"})
def test_the_price_falls_with_every_width(name: str, tmp_path: Path) -> None:
    start = nets.candidate(nets.TOPOLOGIES[name]())
    priced = items(start, Pricing(table(tmp_path)))
    widest = {group.name: group.size for group in trace(start).groups}
    assert priced.price(widest) == pytest.approx(2.0)
    for group, size in widest.items():
        prices = [priced.price({**widest, group: width}) for width in range(1, size + 1)]
        assert all(one < other for one, other in pairwise(prices))
        assert prices[0] > 0
    assert 0 < priced.price(dict.fromkeys(widest, 1)) < 2.0


def test_a_layer_called_three_times_is_timed_once_and_paid_three_times(tmp_path: Path) -> None:
    start, asked = nets.candidate(nets.Reused()), list[LayerShape]()
    priced = items(start, Pricing(table(tmp_path, asked), latency=1, macs=0, parameters=0))
    assert len(asked) == len(set(asked))
    [size] = {group.size for group in trace(start).groups}
    [group] = [group.name for group in trace(start).groups]
    assert size == 8
    assert priced.price({group: 4}) == pytest.approx((3 * 4 + 3 * 16 + 4 * 4) / (3 * 8 + 3 * 64 + 8 * 4))


def test_a_layer_that_no_curve_touches_has_no_price() -> None:
    start = nets.candidate(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    priced = items(start, Pricing(latency=0, macs=0, parameters=1), "0")
    assert priced.price({"0": 8}) == pytest.approx(1.0)
    assert priced.price({"0": 2}) == pytest.approx((3 * 2 + 2 * 4) / (3 * 8 + 8 * 4))


def staircase(tmp_path: Path) -> LatencyTable:
    """Output channels come in blocks of 16."""

    def timer(shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        return {shape: float(shape.in_channels * -(-shape.out_channels // 16)) for shape in shapes}

    return LatencyTable(RUNTIME, path=tmp_path / "stairs.json", timer=timer)


def test_a_width_costs_what_the_kernels_make_of_it(tmp_path: Path) -> None:
    """Conv 3 -> w and 1x1 conv w -> 2, for w up to 57: the first costs a block for each 16, the second rises with every channel."""
    start = nets.candidate(nn.Sequential(nn.Conv2d(3, 57, 3, padding=1), nn.ReLU(), nn.Conv2d(57, 2, 1)))
    pricing = Pricing(staircase(tmp_path), latency=1, macs=0, parameters=0)
    priced = items(start, pricing)
    for width in (1, 15, 16, 17, 32, 40, 48, 57):
        assert priced.price({"0": width}) == pytest.approx((3 * -(-width // 16) + width) / (3 * 4 + 57))
    assert pricing.width_multiple == 16
    assert Pricing().width_multiple == Pricing(table(tmp_path)).width_multiple == 8


def test_a_layer_is_timed_as_wide_as_it_becomes_without_those_in_front(tmp_path: Path) -> None:
    """Conv 3 -> 16, conv 16 -> 4, conv 4 -> 2: without the second the last one reads 16, without both 3."""
    start = nets.candidate(nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    may = [Curve("0", (16, 5, 0), (0.0,) * 3), Curve("2", (4, 1, 0), (0.0,) * 3)]
    of = make_knapsack(start, may, Pricing(table(tmp_path), latency=1, macs=0, parameters=0))
    whole = 3 * 16 + 16 * 4 + 4 * 2
    assert of.price({"0": 16, "2": 4}) == pytest.approx(1.0)
    assert of.price({"0": 16, "2": 0}) == pytest.approx((3 * 16 + 16 * 2) / whole)
    assert of.price({"0": 5, "2": 0}) == pytest.approx((3 * 5 + 5 * 2) / whole)
    assert of.price({"0": 0, "2": 1}) == pytest.approx((3 * 1 + 1 * 2) / whole)
    assert of.price({"0": 0, "2": 0}) == pytest.approx(3 * 2 / whole)
