"""Ranks against numpy's and against maps whose rank is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.activations import sample_calibration
from optimize.importance.rank import Rank, effective_ranks, matrices, numerical_ranks
from tests.nets import candidate, cases, chain_bn, ready


@pytest.mark.parametrize("rank", [0, 1, 3, 5])
def test_products_of_thin_matrices(rank: int) -> None:
    draw = np.random.default_rng(rank)
    maps = np.stack([draw.standard_normal((5, rank)) @ draw.standard_normal((rank, 7)) for _ in range(20)]).astype(np.float32)
    assert numerical_ranks(torch.from_numpy(maps)).tolist() == [rank] * 20 == np.linalg.matrix_rank(maps).tolist()


def test_the_effective_rank_of_known_singular_values() -> None:
    maps = torch.diag_embed(torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 0.0], [7.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    # shares (1/2, 1/4, 1/4): entropy 1.5 ln 2
    np.testing.assert_allclose(effective_ranks(maps).numpy(), [4, 2**1.5, 1, 0], rtol=1e-6)


def test_it_is_the_mean_over_cases_of_what_the_first_reader_sees() -> None:
    of = candidate(chain_bn())
    inputs = cases(150)
    first, last = Rank()(of, Reference(of, inputs), trace(of).groups)
    layers = list(of.module.children())
    with torch.no_grad():
        early = nn.Sequential(*layers[:3])(torch.from_numpy(inputs)).numpy()
        late = nn.Sequential(*layers[:7])(torch.from_numpy(inputs)).numpy()  # (n, 6, 3, 3), read flattened
    np.testing.assert_allclose(first, np.linalg.matrix_rank(early).mean(0), rtol=1e-12)
    np.testing.assert_allclose(last, np.linalg.matrix_rank(late).mean(0), rtol=1e-12)
    (effective, _) = Rank(effective=True)(of, Reference(of, inputs), trace(of).groups)
    values = np.linalg.svd(early.astype(np.float64), compute_uv=False)
    share = values / values.sum(-1, keepdims=True)
    want = np.exp(-(share * np.log(np.maximum(share, 1e-300))).sum(-1)).mean(0)
    np.testing.assert_allclose(effective, want, rtol=1e-3)


def test_only_so_many_cases_are_looked_at() -> None:
    of = candidate(chain_bn())
    some, groups = Reference(of, cases(60), seed=3), trace(of).groups
    for few, same in zip(Rank(cases=20)(of, some, groups), Rank()(of, Reference(of, sample_calibration(some, 20)), groups), strict=True):
        np.testing.assert_array_equal(few, same)


def test_a_channel_of_flat_maps_ranks_below_all_others() -> None:
    net = ready(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)))
    with torch.no_grad():
        net.get_submodule("0").get_parameter("weight")[2] = 0
        net.get_submodule("0").get_parameter("weight")[4] = 0
        net.get_submodule("0").get_parameter("bias")[4] = 0
    of = Candidate(net, torch.from_numpy(cases(1)))
    for effective in (False, True):
        (score,) = Rank(effective, cases=30)(of, Reference(of, cases(60)), trace(of).groups)
        assert score[2] == pytest.approx(1, rel=1e-3)
        assert score[4] == 0
        assert np.delete(score, [2, 4]).min() > 2


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((2, 5, 4, 6), (2, 5, 4, 6)), ((2, 5, 3, 4, 6), (2, 5, 3, 24)), ((2, 5, 9), (2, 5, 3, 3)), ((2, 5, 8), (2, 5, 1, 8))],
)
def test_which_matrix_a_map_is(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    given = torch.arange(float(np.prod(shape))).reshape(shape)
    found = matrices(given)
    assert tuple(found.shape) == seen
    assert found.flatten().tolist() == given.flatten().tolist()
