"""Groups against what one reads off the network by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate
from optimize.graph.cut_check import check_cut
from optimize.graph.surgery import keep_channels
from optimize.graph.trace import Graph, trace, without
from tests import nets
from tests.nets import INTRICATE, TOPOLOGIES, Pieces, candidate, cases


def layout(graph: Graph) -> dict[str, tuple[int, set[tuple[str, str]]]]:
    """Group -> its size and its (layer, side) pairs."""
    return {group.name: (group.size, {(slot.module, slot.side) for slot in group.slots}) for group in graph.groups}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (nets.chain, {"0": (8, {("0", "out"), ("2", "in")}), "2": (6, {("2", "out"), ("6", "in")})}),
        (
            nets.chain_bn,
            {"0": (8, {("0", "out"), ("1", "out"), ("3", "in")}), "3": (6, {("3", "out"), ("4", "out"), ("8", "in")})},
        ),
        (nets.chain_inplace, {"0": (8, {("0", "out"), ("2", "in")}), "2": (6, {("2", "out"), ("4", "in")})}),
        (lambda: nets.prelu(8), {"0": (8, {("0", "out"), ("1", "out"), ("2", "in")})}),
        (lambda: nets.prelu(1), {"0": (8, {("0", "out"), ("2", "in")})}),
        (
            nets.Residual,
            {
                "stem": (8, {("stem", "out"), ("conv2", "out"), ("norm2", "out"), ("conv1", "in"), ("head", "in")}),
                "conv1": (6, {("conv1", "out"), ("norm1", "out"), ("conv2", "in")}),
            },
        ),
        (
            nets.Concat,
            {
                "left": (6, {("left", "out"), ("norm", "out"), ("join", "in")}),
                "right": (5, {("right", "out"), ("norm", "out"), ("join", "in")}),
                "join": (7, {("join", "out"), ("head", "in")}),
            },
        ),
        (
            nets.Transposed,
            {
                "enter": (6, {("enter", "out"), ("down", "in"), ("join", "in")}),
                "down": (8, {("down", "out"), ("up", "in")}),
                "up": (6, {("up", "out"), ("join", "in")}),
                "join": (6, {("join", "out"), ("head", "in")}),
            },
        ),
        (nets.Reused, {"enter": (8, {("enter", "out"), ("again", "in"), ("again", "out"), ("head", "in")})}),
        (
            nets.depthwise,
            {"0": (8, {("0", "out"), ("2", "out"), ("3", "out"), ("5", "in")}), "5": (6, {("5", "out"), ("7", "in")})},
        ),
    ],
)
def test_groups(build: Callable[[], nn.Module], expected: dict[str, tuple[int, set[tuple[str, str]]]]) -> None:
    graph = trace(candidate(build()))
    assert layout(graph) == expected
    assert list(layout(graph)) == sorted(layout(graph), key=graph.order.__getitem__)


def rows(*starts: int, count: int, step: int = 1) -> list[list[int]]:
    """One row for each of `count` channels, with the positions start + step * channel."""
    return [[start + step * channel for start in starts] for channel in range(count)]


BY_THREE, BY_FOUR = rows(0, 1, 2, count=5, step=3), rows(0, 1, 2, 3, count=4, step=4)


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("grouped", "enter", {"enter out": rows(0, 4, count=4), "norm out": rows(0, 4, count=4), "group in": rows(0, 4, count=4)}),
        ("grouped", "group", {"group out": rows(0, 6, count=6), "leave in": rows(0, 6, count=6)}),
        ("depthwise, several each", "0", {"0 out": rows(0, 4, 8, count=4), "2 in": rows(0, 4, 8, count=4)}),
        ("depthwise, several each", "2", {"2 out": rows(0, count=5), "4 out": BY_THREE, "5 out": BY_THREE, "7 in": BY_THREE}),
        ("squeeze and excitation", "first", dict.fromkeys(("first out", "excite out", "squeeze in", "last in"), rows(0, count=8))),
        ("squeeze and excitation", "squeeze", dict.fromkeys(("squeeze out", "excite in"), rows(0, count=3))),
        ("attention gate", "skip", dict.fromkeys(("skip out", "weigh out", "of_skip in", "look in", "last in"), rows(0, count=8))),
        ("attention gate", "below", {"below out": rows(0, count=5), "of_below in": rows(0, count=5), "last in": rows(8, count=5)}),
        ("attention gate", "of_skip", dict.fromkeys(("of_skip out", "of_below out", "weigh in"), rows(0, count=4))),
        (
            "recurrent",
            "enter",
            dict.fromkeys(("enter out", "depth out", "point out", "norm out", "point in", "head in"), rows(0, count=8)),
        ),
        ("transposed, grouped", "0", {"0 out": rows(0, 4, count=4), "2 in": rows(0, 4, count=4)}),
        ("transposed, grouped", "2", {"2 out": rows(0, 3, count=3), "4 in": rows(0, 3, count=3)}),
        ("pixel shuffle", "0", {"0 out": BY_FOUR, "3 in": rows(0, count=4)}),
        ("halves", "first", {"first out": rows(0, 6, count=6), "last in": rows(0, count=6)}),
        (
            "padded shortcut",
            "first",
            {"first out": rows(0, count=5), "second in": rows(0, count=5), "second out": rows(2, count=5), "last in": rows(2, count=5)},
        ),
        ("instance norm", "first", dict.fromkeys(("first out", "between out", "second in"), rows(0, count=8))),
        ("sum onto a concat", "left", dict.fromkeys(("left out", "across out", "join in"), rows(0, count=6))),
        ("sum onto a concat", "right", {"right out": rows(0, count=5), "across out": rows(6, count=5), "join in": rows(6, count=5)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_positions_of_what_hangs_together(name: str, group: str, expected: dict[str, list[list[int]]]) -> None:
    found = next(each for each in trace(candidate((TOPOLOGIES | INTRICATE)[name]())).groups if each.name == group)
    assert {f"{slot.module} {slot.side}": slot.index.tolist() for slot in found.slots} == expected


def test_a_map_for_all_channels_is_no_channel_of_theirs() -> None:
    graph = trace(candidate(nets.Gated()))
    assert ("look", "it is spread over many channels") in graph.fixed
    assert {group.name for group in graph.groups} == {"skip", "below", "of_skip"}


def test_a_norm_called_again_and_again_is_still_its_layers() -> None:
    assert trace(candidate(nets.Recurrent())).norms == {"point": "norm"}


def test_flattened_channels_own_a_run_of_the_linear_layers_inputs() -> None:
    slot = next(group for group in trace(candidate(nets.chain_bn())).groups if group.name == "3").consumers[0]
    assert np.array_equal(slot.index, np.arange(54).reshape(6, 9))


def test_a_concatenation_is_numbered_through() -> None:
    left, right, _ = trace(candidate(nets.Concat())).groups
    for group, start in ((left, 0), (right, 6)):
        for slot in group.slots[1:]:
            assert np.array_equal(slot.index.ravel(), np.arange(start, start + group.size)), slot


@pytest.mark.parametrize("build", [nets.Concat, nets.Transposed, nets.Residual, nets.Grouped, nets.multiplied, nets.OntoConcat])
def test_cuts_commute(build: Callable[[], nn.Module]) -> None:
    start = candidate(build())
    groups = trace(start).groups
    keeps = [np.arange(place % 2, group.size, 2) for place, group in enumerate(groups)]
    found = set()
    for order in permutations(range(len(groups))):
        module, left = start.module, groups
        for place in order:
            module, left = keep_channels(module, left[place], keeps[place]), without(left, left[place], keeps[place])
        found.add(Candidate(module, start.example).fingerprint)
        assert [group.size for group in left] == [len(keep) for keep in keeps]
    assert len(found) == 1


def test_groups_renumbered_are_those_of_the_cut_network() -> None:
    start = candidate(nets.Concat())
    groups = trace(start).groups
    keep = np.array([0, 3, 4])
    again = trace(Candidate(keep_channels(start.module, groups[0], keep), start.example)).groups
    for renumbered, traced in zip(without(groups, groups[0], keep), again, strict=True):
        slots = {(slot.module, slot.side): slot.index for slot in renumbered.slots}
        assert all(np.array_equal(slots[slot.module, slot.side], slot.index) for slot in traced.slots)


class SharedNorm(nn.Module):
    """Two layers before one norm; a third one before its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.join, self.own = nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(self.join(self.norm(self.left(x)) + self.norm(self.right(x))))


def test_a_norm_belongs_to_a_layer_only_when_no_other_feeds_it() -> None:
    assert trace(candidate(SharedNorm())).norms == {"join": "own"}
    assert trace(candidate(nets.Concat())).norms == {}
    assert trace(candidate(nets.chain_bn())).norms == {"0": "1", "3": "4"}


def test_a_norm_without_statistics_is_no_place_for_an_intercept() -> None:
    graph = trace(candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.Conv2d(8, 4, 3))))
    assert graph.norms == {}
    assert ("0", "1 computes its weights or statistics as it runs") in graph.fixed


class Convolving(nn.Conv2d):
    """A convolution that does something else besides."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.GroupNorm(1, 8), "its channels can only go together"),
        (nn.LayerNorm([8, 6, 6]), "LayerNorm takes part"),
        (nn.LocalResponseNorm(5), "LocalResponseNorm takes part"),
        (nn.Softmax(1), "Softmax takes part"),
        (nn.BatchNorm2d(8, track_running_stats=False), "1 computes its weights or statistics as it runs"),
        (Convolving(8, 8, 3), "1 has a forward of its own"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), "1 computes its weights or statistics as it runs"),
        (nn.utils.spectral_norm(nn.Conv2d(8, 8, 3)), "1 computes its weights or statistics as it runs"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_cut_is_listed_with_the_reason(between: nn.Module, reason: str) -> None:
    graph = trace(candidate(nn.Sequential(nn.Conv2d(3, 8, 3), between, nn.ReLU(), nn.Conv2d(8, 4, 3))))
    assert ("0", reason) in graph.fixed
    assert "0" not in layout(graph)
    assert any(layer == "3" and "output of the network" in why for layer, why in graph.fixed)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale, self.second = nn.Conv2d(3, 8, 3), nn.Parameter(torch.ones(8, 1, 1)), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) * self.scale)


def test_a_bare_parameter_keeps_its_channels() -> None:
    assert ("first", "a bare parameter takes part") in trace(candidate(Scaled())).fixed


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.attend, self.head = nn.Conv2d(3, 8, 2, 2), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.attend(tokens, tokens, tokens)[0].mean(1))


def test_attention_is_left_alone() -> None:
    graph = trace(candidate(Attention()))
    assert graph.groups == ()
    assert ("patch", "MultiheadAttention takes part") in graph.fixed


class Remembering(nn.Module):
    """An LSTM over the columns of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.memory, self.last = nn.Conv2d(3, 8, 3), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.memory(self.first(x).mean(2).transpose(1, 2))[0][:, -1])


class Multiplied(nn.Module):
    """Queries times keys: no layer reads what they are multiplied in."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.query(x).flatten(2).transpose(1, 2) @ self.key(x).flatten(2)


@pytest.mark.parametrize(
    ("build", "reasons"),
    [
        (Remembering, {("first", "LSTM takes part"), ("last", "they are an output of the network")}),
        (Multiplied, {("query", "bmm takes part"), ("key", "bmm takes part")}),
    ],
)
def test_products_and_memories_are_left_alone(build: type[nn.Module], reasons: set[tuple[str, str]]) -> None:
    graph = trace(candidate(build()))
    assert graph.groups == ()
    assert set(graph.fixed) == reasons


def test_what_the_network_is_given_cannot_be_cut() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.first(x)
            return self.last(torch.cat([x, self.second(x)], 1))

    graph = trace(candidate(Added()))
    assert [group.name for group in graph.groups] == ["second"]
    assert ("first", "the network's input takes part") in graph.fixed


class Untraceable(nn.Module):
    """Leaves torch for numpy on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(torch.from_numpy(np.tanh(self.first(x).numpy()))))


def test_what_leaves_torch_is_lost_sight_of() -> None:
    graph = trace(candidate(Untraceable()))
    assert (graph.groups, graph.norms) == ((), {})
    assert graph.order == {"first": 0, "second": 1}
    assert graph.fixed == (("first", "nothing reads the channels"), ("second", "they are an output of the network"))


class Picky(nn.Module):
    """Refuses to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_inference_mode_enabled():
            raise RuntimeError("only for inference")
        return self.second(self.first(x))


def test_a_network_that_cannot_be_traced_has_no_groups_and_says_why() -> None:
    graph = trace(candidate(Picky()))
    assert (graph.groups, graph.norms, graph.order) == ((), {}, {"first": 0, "second": 1})
    assert graph.fixed == (("(network)", "could not be traced: RuntimeError: only for inference"),)


class SomeUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[2](self.layers[0](x))


def test_layers_that_are_never_called_take_no_part() -> None:
    graph = trace(candidate(SomeUnused()))
    assert layout(graph) == {"layers.0": (8, {("layers.0", "out"), ("layers.2", "in")})}
    assert "layers.1" not in graph.order


class Tokens(nn.Module):
    """A linear layer on (N, L, F) returns a view, which a ReLU in place then overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(8, 6), nn.ReLU(inplace=True), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.relu(self.first(x)))


def test_a_view_overwritten_in_place_is_still_seen() -> None:
    assert layout(trace(candidate(Tokens()))) == {"first": (6, {("first", "out"), ("second", "in")})}


class Watched(nn.Module):
    """Runs with and without a batch dimension, and notes which it was given."""

    shapes: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return self.second(self.first(x))


def test_the_network_is_traced_with_its_batch_dimension() -> None:
    trace(candidate(Watched()))
    assert set(Watched.shapes) == {(1, 3, 8, 8)}


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2.0)


@pytest.mark.parametrize("build", [nets.chain_inplace, lambda: nn.Sequential(InPlace(), nn.Conv2d(3, 4, 3))])
def test_tracing_changes_nothing(build: Callable[[], nn.Module]) -> None:
    start = candidate(build())
    before = start.fingerprint
    trace(start)
    assert start.fingerprint == before
    assert np.array_equal(start.example.numpy(), cases(1, seed=7))
    assert all(layer.inplace for layer in start.module.modules() if isinstance(layer, nn.ReLU))


@pytest.mark.parametrize("name", ["pieces by chunk", "pieces by slices", "pieces by a view"])
def test_halves_of_a_layer_are_cut_alike(name: str) -> None:
    """Channel i of the first half goes with channel i of the second: where the halves meet is counted from both."""
    group = trace(candidate(INTRICATE[name]())).groups[0]
    index = {(slot.module, slot.side): slot.index.tolist() for slot in group.slots}
    assert index["first", "out"] == [[i, 4 + i] for i in range(4)]
    assert index["one", "in"] == index["two", "out"] == [[i] for i in range(4)]
    assert index["join", "in"] == [[i, 4 + i, 8 + i] for i in range(4)]


def test_four_pieces_are_cut_alike() -> None:
    group = trace(candidate(INTRICATE["four pieces"]())).groups[0]
    index = {(slot.module, slot.side): slot.index.tolist() for slot in group.slots}
    assert index["first", "out"] == [[i, 3 + i, 6 + i, 9 + i] for i in range(3)]


def test_slices_that_can_be_cut_alone_stay_apart() -> None:
    """Two layers side by side, told apart again by their own widths: each may lose channels of its own."""

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(8)
            self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            both = torch.relu(self.norm(torch.cat([self.one(x), self.two(x)], 1)))
            return self.left(both[:, : self.one.out_channels]) - self.right(both[:, self.one.out_channels :])

    assert [(group.name, group.size) for group in trace(candidate(Apart())).groups] == [("one", 4), ("two", 4)]


def test_halves_of_a_fixed_size_stay_whole() -> None:
    start = candidate(Pieces(lambda x: x.split((4, 4), 1)))
    first, *_ = trace(start).groups
    assert (first.name, "does not run with fewer" in str(check_cut(start.module, first, start.example))) == ("first", True)
