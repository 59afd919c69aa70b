"""|gamma| against the norms' own weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from optimize.graph.trace import trace
from optimize.importance.batchnorm import BatchNormScale
from tests.nets import Concat, Residual, candidate, chain_bn, reference


def scores(net: nn.Module) -> dict[str, np.ndarray]:
    of = candidate(net)
    groups = trace(of).groups
    found = BatchNormScale()(of, reference(of, 2), groups)
    return {group.name: score for group, score in zip(groups, found, strict=True)}


def gamma(net: nn.Module, name: str) -> np.ndarray:
    return net.get_submodule(name).get_parameter("weight").detach().double().numpy()


def test_the_sign_of_gamma_does_not_matter() -> None:
    of = candidate(chain_bn())
    with torch.no_grad():
        of.module.get_submodule("1").get_parameter("weight")[::2].neg_()
    got = BatchNormScale()(of, reference(of, 2), trace(of).groups)
    np.testing.assert_array_equal(got[0], np.abs(gamma(of.module, "1")))
    assert (gamma(of.module, "1") < 0).sum() == 4


def test_each_part_of_a_concatenation_has_its_own_share_of_the_norm() -> None:
    net = Concat()
    got = scores(net)
    np.testing.assert_array_equal(got["left"], gamma(net, "norm")[:6])
    np.testing.assert_array_equal(got["right"], gamma(net, "norm")[6:])


def test_several_norms_give_their_mean_and_none_gives_nan() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1)
            self.norm_a, self.norm_b = nn.BatchNorm2d(5), nn.BatchNorm2d(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.norm_a(self.a(x)) + self.norm_b(self.b(x)))
            return out

    net = Twice()
    np.testing.assert_allclose(scores(net)["a"], (gamma(net, "norm_a") + gamma(net, "norm_b")) / 2, rtol=1e-12)
    assert np.isnan(scores(Concat())["join"]).all()


def test_a_norm_without_gamma_says_nothing() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, affine=False), nn.Conv2d(5, 4, 1))
    assert np.isnan(scores(plain)["0"]).all()


def test_only_the_norm_on_the_sum_side_of_a_residual_counts() -> None:
    net = Residual()
    got = scores(net)
    np.testing.assert_array_equal(got["stem"], gamma(net, "norm2"))
    np.testing.assert_array_equal(got["conv1"], gamma(net, "norm1"))
