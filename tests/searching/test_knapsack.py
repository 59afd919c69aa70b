"""The knapsack against every combination of widths, and its bookkeeping of layers by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.graph.trace import trace
from optimize.searching.knapsack import Item, Knapsack, groups_by_layer
from optimize.searching.scan import Curve
from tests import nets

Widths = dict[str, int]


def priced(in_weight: float) -> Callable[[int, int], float]:
    return lambda reads, makes: in_weight * reads * makes


def drawn(seed: int, groups: int) -> tuple[list[Curve], Knapsack]:
    """A chain of layers; each makes one group and reads the one before."""
    rng = np.random.default_rng(seed)
    curves = []
    for number in range(groups):
        widths = sorted(rng.choice(np.arange(1, 16), 3, replace=False).tolist(), reverse=True)
        harm = np.cumsum([0, *rng.choice([0.0, 0.1, 0.5, 2.0], 3)])
        curves.append(Curve(f"g{number}", (16, *widths), tuple(harm.tolist())))
    names = [(), *(((curve.group, 1),) for curve in curves), ()]
    items = [
        Item(priced(float(rng.uniform(0.1, 1)) / 256), 16 if reads else 3, 16 if makes else 4, reads, makes)
        for reads, makes in pairwise(names)
    ]
    return curves, Knapsack(curves, items)


def every(curves: list[Curve]) -> list[Widths]:
    names = [curve.group for curve in curves]
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*(curve.widths for curve in curves))]


def total(of: Knapsack, widths: Widths, trade_off: float) -> float:
    return of.harm(widths) + trade_off * of.price(widths)


instances = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 4))


@settings(deadline=None, max_examples=60)
@given(instances, st.floats(0.0, 20.0))
def test_no_single_move_is_better_and_the_widest_is_no_better(instance: tuple[int, int], trade_off: float) -> None:
    curves, of = drawn(*instance)
    found = of.widths(trade_off)
    value = total(of, found, trade_off)
    assert min(total(of, each, trade_off) for each in every(curves)) <= value + 1e-9
    assert value <= total(of, {curve.group: 16 for curve in curves}, trade_off) + 1e-9
    moves = [{**found, curve.group: width} for curve in curves for width in curve.widths]
    assert all(value <= total(of, move, trade_off) + 1e-9 for move in moves)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 20.0))
def test_one_group_is_solved_exactly(seed: int, trade_off: float) -> None:
    curves, of = drawn(seed, 1)
    assert total(of, of.widths(trade_off), trade_off) == pytest.approx(min(total(of, each, trade_off) for each in every(curves)))


@settings(deadline=None, max_examples=40)
@given(instances, st.lists(st.floats(0.0, 12.0), min_size=2, max_size=2).map(sorted))
def test_harm_stays_within_and_more_of_it_never_costs_more(instance: tuple[int, int], harms: list[float]) -> None:
    curves, of = drawn(*instance)
    less, more = (of.within(harm) for harm in harms)
    assert all(of.harm(widths) <= harm for widths, harm in zip((less, more), harms, strict=True))
    assert of.price(more) <= of.price(less) + 1e-9
    assert of.price(more) >= min(of.price(each) for each in every(curves) if of.harm(each) <= harms[1]) - 1e-9


def test_a_wide_limit_takes_the_narrowest_and_none_takes_what_is_free() -> None:
    curves = [Curve("a", (8, 6, 2), (0.0, 0.0, 1.0)), Curve("b", (4, 1), (0.0, 0.5))]
    layer = Item(priced(1.0), 8, 4, (("a", 1),), (("b", 1),))
    of = Knapsack(curves, [layer])
    assert of.within(1e6) == {"a": 2, "b": 1}
    assert of.within(0.0) == {"a": 6, "b": 4}
    assert of.widths(0.0) == {"a": 8, "b": 4}
    assert (of.price({"a": 6, "b": 1}), of.harm({"a": 6, "b": 1})) == (6.0, 0.5)


def test_an_item_counts_what_goes_with_a_unit() -> None:
    """Nine columns of a flattened map go with one channel; what else is read stays."""
    item = Item(lambda reads, makes: 100 * reads + makes, 60, 10, (("a", 9),), (("b", 1), ("c", 2)))
    assert item.cost({}) == 6010
    assert item.cost({"a": 2, "b": 3, "c": 1}) == 100 * (60 - 18) + 10 - 3 - 2


def test_sides_of_a_chain_that_is_flattened() -> None:
    graph = trace(nets.candidate(nets.chain_bn()))
    found = groups_by_layer(graph, graph.groups)
    assert {name: found[name] for name in ("0", "3", "8")} == {
        "0": ([], [("0", 1)]),
        "3": ([("0", 1)], [("3", 1)]),
        "8": ([("3", 9)], []),
    }


def test_sides_of_a_residual_and_a_concat() -> None:
    graph = trace(nets.candidate(nets.Residual()))
    found = groups_by_layer(graph, graph.groups)
    assert (found["stem"], found["conv2"]) == (([], [("stem", 1)]), ([("conv1", 1)], [("stem", 1)]))
    graph = trace(nets.candidate(nets.Concat()))
    assert groups_by_layer(graph, graph.groups)["join"] == ([("left", 1), ("right", 1)], [("join", 1)])
    assert "right" not in groups_by_layer(graph, [group for group in graph.groups if group.name == "left"])


def lasting(seed: int, groups: int) -> tuple[list[Curve], list[float], Knapsack]:
    """As `drawn`, but every layer may go; what each layer's price is per channel read and made."""
    rng = np.random.default_rng(seed)
    curves = [Curve(f"g{number}", (16, 7, 3, 0), (0.0, *np.cumsum(rng.choice([0.1, 0.5], 3)).tolist())) for number in range(groups)]
    names = [(), *(((curve.group, 1),) for curve in curves), ()]
    weights = [float(rng.uniform(0.1, 1)) / 256 for _ in names[1:]]
    ends = zip(weights, pairwise(names), strict=True)
    items = [Item(priced(each), 16 if reads else 5, 16 if makes else 4, reads, makes) for each, (reads, makes) in ends]
    return curves, weights, Knapsack(curves, items)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0.0, 20.0))
def test_without_a_layer_its_readers_read_what_it_read(seed: int, groups: int, trade_off: float) -> None:
    """Prices of chains by hand: a layer that is gone is skipped, and the width before it goes on."""
    curves, weights, of = lasting(seed, groups)
    for widths in every(curves):
        reads, price = 5, 0.0
        for weight, makes in zip(weights, [*widths.values(), 4], strict=True):
            if makes:
                price, reads = price + weight * reads * makes, makes
        assert of.price(widths) == pytest.approx(price)
    found = of.widths(trade_off)
    moves = [{**found, curve.group: width} for curve in curves for width in curve.widths]
    assert all(total(of, found, trade_off) <= total(of, move, trade_off) + 1e-9 for move in moves)


def test_a_layer_that_reads_two_groups_passes_both_on() -> None:
    """c reads a and b side by side; without c its reader reads both, and without a too what that one read."""
    curves = [Curve("a", (8, 2, 0), (0.0, 1.0, 2.0)), Curve("b", (6, 3), (0.0, 1.0)), Curve("c", (4, 0), (0.0, 1.0))]
    items = [
        Item(priced(1.0), 3, 8, (), (("a", 1),)),
        Item(priced(1.0), 5, 6, (), (("b", 1),)),
        Item(priced(1.0), 14, 4, (("a", 1), ("b", 1)), (("c", 1),)),
        Item(priced(1.0), 4 * 9, 10, (("c", 9),), ()),
    ]
    of = Knapsack(curves, items)
    assert of.price({"a": 8, "b": 6, "c": 4}) == 24 + 30 + 56 + 360
    assert of.price({"a": 2, "b": 3, "c": 0}) == 6 + 15 + 10 * 9 * 5
    assert of.price({"a": 0, "b": 3, "c": 0}) == 15 + 10 * 9 * 6
    assert of.within(1e6)["c"] == 4  # reading more costs more here than the layer


def test_layers_that_read_all_that_was_made_before() -> None:
    """Forty layers, each reading the input and all others: taken out, each passes on twice as much as the one before."""
    names = [f"g{number}" for number in range(40)]
    items = [Item(priced(1.0), 3 + 4 * at, 4, tuple((each, 1) for each in names[:at]), ((name, 1),)) for at, name in enumerate(names)]
    items.append(Item(priced(1.0), 3 + 4 * 40, 2, tuple((each, 1) for each in names), ()))
    of = Knapsack([Curve(name, (4, 0), (0.0, 1.0)) for name in names], items)
    assert of.price(dict.fromkeys(names, 4)) == sum(4 * (3 + 4 * at) for at in range(40)) + 2 * 163
    assert of.price(dict.fromkeys(names, 0)) == 2 * 3 * 2**40
