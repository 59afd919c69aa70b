"""Norms of filters against sums written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.graph.trace import ChannelGroup, trace
from optimize.importance.magnitude import Magnitude
from tests.nets import Residual, Transposed, candidate, chain, depthwise, reference


def weights(net: nn.Module, *names: str) -> list[np.ndarray]:
    return [net.get_submodule(name).get_parameter("weight").detach().double().numpy() for name in names]


def scores(net: nn.Module, name: str, norm: int) -> np.ndarray:
    of = candidate(net)
    groups = trace(of).groups
    found = Magnitude(norm)(of, reference(of, 2), groups)
    return found[[group.name for group in groups].index(name)]


@pytest.mark.parametrize("norm", [1, 2])
def test_one_convolution(norm: int) -> None:
    net = chain()
    got = scores(net, "0", norm)
    (weight,) = weights(net, "0")
    want = [(abs(filter_) ** norm).sum() ** (1 / norm) for filter_ in weight]
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("norm", [1, 2])
def test_layers_that_are_summed_count_together(norm: int) -> None:
    net = Residual()
    got = scores(net, "stem", norm)
    stem, conv2 = weights(net, "stem", "conv2")
    want = [((abs(stem[c]) ** norm).sum() + (abs(conv2[c]) ** norm).sum()) ** (1 / norm) for c in range(8)]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_transposed_convolution_makes_channels_along_its_second_axis() -> None:
    net = Transposed()
    got = scores(net, "up", 1)
    (up,) = weights(net, "up")
    np.testing.assert_allclose(got, [abs(up[:, c]).sum() for c in range(6)], rtol=1e-6)


def test_a_depthwise_filter_counts_with_the_one_before_it() -> None:
    net = depthwise()
    got = scores(net, "0", 2)
    before, own = weights(net, "0", "2")
    np.testing.assert_allclose(got, [np.hypot(np.linalg.norm(before[c]), np.linalg.norm(own[c])) for c in range(8)], rtol=1e-6)


def test_a_depthwise_transposed_convolution_has_one_filter_per_row() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 6, 2, 2, groups=6), nn.Conv2d(6, 4, 1))
    got = scores(net, "0", 1)
    before, own = weights(net, "0", "1")
    np.testing.assert_allclose(got, [abs(before[c]).sum() + abs(own[c]).sum() for c in range(6)], rtol=1e-6)


def test_signs_and_scale() -> None:
    of = candidate(chain())
    groups = trace(of).groups
    first = of.module.get_submodule("0").get_parameter("weight")
    before = Magnitude(2)(of, reference(of, 2), groups)[0]
    with torch.no_grad():
        first.mul_(-3)
    np.testing.assert_allclose(Magnitude(2)(of, reference(of, 2), groups)[0], 3 * before, rtol=1e-6)


@pytest.mark.parametrize("norm", [0, 3])
def test_other_norms_are_refused(norm: int) -> None:
    with pytest.raises(ValueError, match=f"`norm` \\(={norm}\\) must be 1 or 2"):
        Magnitude(norm)


def test_no_groups_no_scores() -> None:
    of = candidate(chain())
    groups: list[ChannelGroup] = []
    assert Magnitude()(of, reference(of, 2), groups) == []
