"""Similarities against numpy and scipy on activations gathered whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.redundancy import Redundancy, dissimilarity
from optimize.importance.similarity import cosine, iou, pearson
from tests.nets import Residual, cases, chain, ready

Measure: TypeAlias = Callable[..., list[npt.NDArray[np.float64]]]


def hidden(net: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """What the second convolution of a chain reads, (n, size, H, W)."""
    with torch.no_grad():
        return np.asarray(nn.Sequential(*list(net.children())[:2])(torch.from_numpy(inputs)).double())


def first(measure: Measure, net: nn.Module, inputs: np.ndarray, *, pooled: bool = False) -> np.ndarray:
    of = Candidate(net, torch.from_numpy(inputs[:1]))
    return measure(of, Reference(of, inputs), trace(of).groups, pooled=pooled)[0]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("count", [100, 300])
def test_all_three_against_scipy(pooled: bool, count: int) -> None:
    net, inputs = ready(chain()), cases(count)
    maps = hidden(net, inputs)
    rows = maps.mean((2, 3)).T if pooled else maps.transpose(1, 0, 2, 3).reshape(8, -1)  # (size, rows)
    np.testing.assert_allclose(first(cosine, net, inputs, pooled=pooled), 1 - cdist(rows, rows, "cosine"), atol=1e-9)
    np.testing.assert_allclose(first(pearson, net, inputs, pooled=pooled), 1 - cdist(rows, rows, "correlation"), atol=1e-9)
    np.testing.assert_allclose(first(iou, net, inputs, pooled=pooled), 1 - cdist(rows > 0, rows > 0, "jaccard"), atol=1e-12)


def planted() -> nn.Module:
    """Channel 5 is three times channel 1; 2 is constant but for rounding; 3 is never above zero."""
    net = ready(chain())
    with torch.no_grad():
        weight, bias = net.get_submodule("0").get_parameter("weight"), net.get_submodule("0").get_parameter("bias")
        weight[5], bias[5] = 3 * weight[1], 3 * bias[1]
        weight[2], bias[2] = 1e-7 * weight[2], 0.7
        weight[3], bias[3] = 0, -1
    return net


def test_undefined_entries_are_nan_and_nothing_else() -> None:
    net, inputs = planted(), cases(200)
    everything = set(range(8))
    for measure, silent in ((cosine, {3}), (pearson, {2, 3}), (iou, {3})):
        matrix = first(measure, net, inputs)
        for channel in everything:
            assert np.isnan(matrix[channel]).all() == np.isnan(matrix[:, channel]).all() == (channel in silent)
        heard = sorted(everything - silent)
        assert np.isfinite(matrix[np.ix_(heard, heard)]).all()
        np.testing.assert_allclose(matrix.diagonal()[heard], 1, rtol=1e-9)


@pytest.mark.parametrize(("measure", "worthless"), [("cosine", {1, 3, 5}), ("pearson", {1, 2, 3, 5}), ("iou", {1, 3, 5})])
def test_a_double_and_a_silent_channel_are_worth_nothing(measure: Literal["cosine", "pearson", "iou"], worthless: set[int]) -> None:
    net, inputs = planted(), cases(200)
    of = Candidate(net, torch.from_numpy(inputs[:1]))
    score = Redundancy(measure)(of, Reference(of, inputs), trace(of).groups)[0]
    assert set(np.flatnonzero(score < 1e-9).tolist()) == worthless
    assert np.delete(score, sorted(worthless)).min() > 0.05


def test_unlike_by_hand() -> None:
    matrix = np.array([[1, 0.5, -0.2], [0.5, 1, 0.9], [-0.2, 0.9, 1]])
    np.testing.assert_allclose(dissimilarity(matrix), [0.5, 0.1, 0.1])
    np.testing.assert_allclose(dissimilarity(np.array([[1, -0.4], [-0.4, 1]])), [1.4, 1.4])
    np.testing.assert_array_equal(dissimilarity(np.ones((1, 1))), [1])
    nan = np.nan
    np.testing.assert_array_equal(dissimilarity(np.array([[1, nan], [nan, nan]])), [1, 0])
    np.testing.assert_array_equal(dissimilarity(np.full((2, 2), nan)), [0, 0])


def test_a_large_offset_costs_no_digits() -> None:
    net = ready(chain())
    with torch.no_grad():
        net.get_submodule("0").get_parameter("bias").add_(300)
    inputs = cases(300)
    rows = hidden(net, inputs).transpose(1, 0, 2, 3).reshape(8, -1)
    np.testing.assert_allclose(first(pearson, net, inputs), np.corrcoef(rows), atol=1e-9)


def test_every_group_gets_its_own_matrix() -> None:
    of = Candidate(ready(Residual()), torch.from_numpy(cases(1)))
    groups = trace(of).groups
    found = cosine(of, Reference(of, cases(20)), groups)
    assert [matrix.shape for matrix in found] == [(group.size, group.size) for group in groups] == [(8, 8), (6, 6)]
