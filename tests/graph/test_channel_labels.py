"""Labels against the operation on whole arrays, and what belongs together against a walk over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.graph.channel_labels import LabelUnion, along_axis, compact, concatenated, full, moved


def together(ties: LabelUnion) -> list[set[int]]:
    """The units of two labels and more."""
    units = ties.unit_numbers().tolist()
    return sorted((found for each in set(units) if len(found := {place for place, unit in enumerate(units) if unit == each}) > 1), key=min)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(-1, 11), st.integers(-1, 11)), max_size=12))
def test_units_are_what_a_walk_over_all_pairs_reaches(count: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a, b) for a, b in pairs if a < count and b < count]
    ties = LabelUnion()
    ties.new(count)
    for a, b in pairs:
        ties.tie(torch.tensor([a]), torch.tensor([b]))
    home = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            if a >= 0 and b >= 0:
                home[a] = home[b] = min(home[a], home[b])
    units = ties.unit_numbers()
    assert [[bool(units[a] == units[b]) for a in range(count)] for b in range(count)] == [[a == b for a in home] for b in home]


def test_what_meets_element_by_element_belongs_together() -> None:
    ties = LabelUnion()
    left, right = ties.new(4).view(1, 4, 1, 1), ties.new(4).view(1, 4, 1, 1)
    assert torch.equal(ties.elementwise([left, right]), left)
    assert together(ties) == [{0, 4}, {1, 5}, {2, 6}, {3, 7}]


def test_constants_meet_nothing_and_leave_the_others_label() -> None:
    ties = LabelUnion()
    padded = torch.cat([torch.tensor([-1, -1]), ties.new(3), torch.tensor([-1])]).view(1, 6, 1, 1)
    whole = ties.new(6).view(1, 6, 1, 1)
    assert ties.elementwise([padded, whole]).flatten().tolist() == [3, 4, 0, 1, 2, 8]
    assert together(ties) == [{0, 5}, {1, 6}, {2, 7}]


@pytest.mark.parametrize("first", [True, False])
def test_one_map_for_many_channels_is_tied_to_none(first: bool) -> None:
    ties = LabelUnion()
    many, one = ties.new(3).view(1, 3, 1, 1), ties.new(1).view(1, 1, 1, 1)
    assert torch.equal(ties.elementwise([many, one] if first else [one, many]), many)
    assert together(ties) == [{3, 4}]
    assert ties.reasons == {4: "it is spread over many channels"}


def test_a_weight_for_each_channel_is_tied_across_positions() -> None:
    """Squeeze and excitation: (N, C, 1, 1) meets (N, C, H, W), whose labels were written out."""
    ties = LabelUnion()
    maps, weights = ties.new(3).view(1, 3, 1, 1).expand(1, 3, 2, 2), ties.new(3).view(1, 3, 1, 1)
    ties.elementwise([maps, weights])
    assert together(ties) == [{0, 3}, {1, 4}, {2, 5}]


def test_fixing_gives_the_reason_to_all() -> None:
    ties = LabelUnion()
    ties.fix(ties.new(3)[:2], "why")
    assert ties.reasons == {3: "why"}
    assert together(ties) == [{0, 1, 3}]


OPERATIONS = {
    "view": (torch.ops.aten.view.default, ([1, -1],)),
    "permute": (torch.ops.aten.permute.default, ([0, 2, 3, 1],)),
    "slice": (torch.ops.aten.slice.Tensor, (1, 1, 4, 2)),
    "pixel shuffle": (torch.ops.aten.pixel_shuffle.default, (2,)),
    "flip": (torch.ops.aten.flip.default, ([1],)),
    "repeat": (torch.ops.aten.repeat.default, ([1, 2, 1, 1],)),
    "unbind": (torch.ops.aten.unbind.int, (1,)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_labels_move_as_the_elements_do(name: str) -> None:
    """A tensor that holds its own labels must still hold them afterwards."""
    operation, arguments = OPERATIONS[name]
    tensor = torch.arange(4.0).view(1, 4, 1, 1).repeat(1, 1, 4, 6)
    labels = torch.arange(4).view(1, 4, 1, 1)
    found = moved(operation, ((tensor, *arguments), {}), lambda _: labels)
    want = operation(tensor, *arguments)
    one = isinstance(want, torch.Tensor)
    for each, wanted in zip([found] if one else found, [want] if one else want, strict=True):
        assert torch.equal(each, wanted.long())
        assert torch.equal(compact(each).expand(each.shape), each)


def test_indices_are_left_as_they_are_and_constants_are_marked() -> None:
    tensor, other, index = torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([2, 0])
    labels = torch.arange(3).view(1, 3)
    known = {id(tensor): labels}
    found = moved(torch.ops.aten.index.Tensor, ((tensor, [None, index]), {}), lambda each: known.get(id(each)))
    assert found.tolist() == [[2, 0], [2, 0]]
    stacked = moved(torch.ops.aten.stack.default, (([tensor, other],), {}), lambda each: known.get(id(each)))
    assert stacked.tolist() == [[[0, 1, 2]] * 2, [[-1, -1, -1]] * 2]


def test_thinning_sees_through_a_rim_of_constants_and_keeps_a_single_channel_apart() -> None:
    rim = torch.nn.functional.pad(torch.arange(3).view(1, 3, 1, 1).expand(1, 3, 2, 2), (1, 1, 1, 1), value=-1)
    assert compact(rim).shape == (1, 3, 1, 1)
    assert compact(torch.full((1, 3, 2), 7)).shape == (1, 3, 2)
    assert compact(torch.full((1, 3, 2), -1)).shape == (1, 3, 2)
    apart = torch.arange(6).view(1, 3, 2)
    assert torch.equal(compact(apart), apart)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=3), st.sampled_from([1, -3]))
def test_a_concatenation_is_that_of_the_labels_written_out(parts: list[tuple[bool, int]], axis: int) -> None:
    tensors = [torch.zeros(1, width, 2, 2) for _, width in parts]
    each = enumerate(zip(tensors, parts, strict=True))
    known = {id(tensor): 10 * place + torch.arange(width).view(1, width, 1, 1) for place, (tensor, (_, width)) in each}
    for tensor, (labelled, _) in zip(tensors, parts, strict=True):
        if not labelled:
            del known[id(tensor)]
    found = concatenated(tensors, axis, lambda each: known.get(id(each)))
    whole = torch.cat([known.get(id(tensor), torch.tensor(-1)).expand(tensor.shape) for tensor in tensors], axis)
    assert torch.equal(found.expand(whole.shape), whole)
    assert found.shape[2:] == (1, 1)


def test_across_lists_all_labels_at_each_position() -> None:
    labels = torch.arange(6).view(1, 3, 2)
    assert along_axis(labels, 3, 1, 3).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert along_axis(torch.arange(3).view(1, 3, 1), 3, -1, 4).tolist() == [[0, 1, 2]] * 4
    assert full(labels, 5).shape == (1, 1, 1, 3, 2)
    assert np.array_equal(along_axis(torch.arange(3), 2, 1, 3), [[0], [1], [2]])
