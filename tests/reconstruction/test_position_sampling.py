"""Unusual places are where the answer is not the usual one, and half of what is drawn comes from there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.position_sampling import sample_positions, unusual_positions
from tests.nets import cases


def test_one_output_is_unusual_where_its_sign_is_the_rare_one() -> None:
    maps = torch.tensor([[[-1.0, -2.0, 3.0], [-1.0, -1.0, -1.0]], [[-4.0, 5.0, -1.0], [-1.0, -1.0, -1.0]]])[:, None]
    found = unusual_positions(nn.Identity(), [maps[:1], maps[1:]])
    assert found is not None
    assert [place.tolist() for place in found] == [[[[False, False, True], [False] * 3]], [[[False, True, False], [False] * 3]]]
    turned = unusual_positions(nn.Identity(), [-maps])
    assert turned is not None
    torch.testing.assert_close(turned[0], maps[:, 0] > 0)


def test_of_many_outputs_the_most_frequent_class_is_usual() -> None:
    classes = torch.tensor([[[299, 299, 299, 7], [299, 0, 299, 299]]])
    outputs = nn.functional.one_hot(classes, 300).permute(0, 3, 1, 2).float()
    found = unusual_positions(nn.Identity(), [outputs])
    assert found is not None
    torch.testing.assert_close(found[0], classes != 299)


def test_an_answer_without_places_has_no_unusual_ones() -> None:
    assert unusual_positions(nn.Flatten(), [torch.zeros(2, 3, 4, 4)]) is None


def test_half_is_drawn_from_the_unusual_places() -> None:
    where = torch.zeros(400, 20, 20, dtype=torch.bool)
    where[:, :4, :5] = True  # 20 of 400
    at = sample_positions(where, (20, 20), 400, 10, (0,))
    row, column = np.unravel_index(at.numpy(), (20, 20))
    share = float(((row < 4) & (column < 5)).mean())
    # without repetition the unusual ones run out a little: 0.5 at the first draw, somewhat less at the tenth
    assert 0.4 < share < 0.5
    assert all(len(set(case)) == 10 for case in at.tolist())
    plain = sample_positions(None, (20, 20), 400, 10, (0,))
    row, column = np.unravel_index(plain.numpy(), (20, 20))
    assert float(((row < 4) & (column < 5)).mean()) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("grid", [(4, 4), (16, 16), (8,)])
def test_another_resolution_sees_the_same_corner(grid: tuple[int, ...]) -> None:
    where = torch.zeros(200, 8, 8, dtype=torch.bool)
    where[:, 0, 0] = True
    count = int(np.prod(grid))
    at = sample_positions(where, grid, 200, 1, (1,)).flatten()
    corner = {(4, 4): {0}, (16, 16): {0, 1, 16, 17}, (8,): {0}}[grid]
    expected = 0.5 if len(grid) == 2 else 1 / count  # one axis tells nothing about two
    assert np.isin(at.numpy(), list(corner)).mean() == pytest.approx(expected, abs=0.12)


def test_all_places_are_all_places_in_order() -> None:
    assert sample_positions(None, (2, 3), 2, 6, (0,)).tolist() == [[0, 1, 2, 3, 4, 5]] * 2


def test_what_is_remembered_changes_no_result() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()
    inputs, memory = cases(20), dict[object, object]()
    fresh = OriginalOutputs(net, inputs, ["0", "2"], rows=100, seed=0).moments(net, ["2"])["2"]
    for _ in range(2):
        found = OriginalOutputs(net, inputs, ["0", "2"], rows=100, seed=0, memory=memory).moments(net, ["2"])["2"]
        torch.testing.assert_close(found.gram, fresh.gram, rtol=0, atol=0)
        torch.testing.assert_close(found.cross, fresh.cross, rtol=0, atol=0)
    assert len(memory) == 3  # targets, unusual positions, and the positions sampled
