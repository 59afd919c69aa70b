"""A layer and its norm as one map: what merging on it keeps, seen in forward passes and in numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.steps.merging.crossover import sample_inputs
from optimize.steps.merging.folding import ProducerLayer, clusters, compensate, fold
from tests.nets import candidate, cases


def normed(bias: bool, affine: bool = True) -> Candidate:
    return candidate(nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Conv2d(6, 4, 1)))


def maker(start: Candidate) -> ProducerLayer:
    return ProducerLayer(start.module, "0", "1", np.arange(6))


def normalised(module: nn.Module) -> npt.NDArray[np.float64]:
    """What the activation sees, (6, values)."""
    with torch.inference_mode():
        given = module[:2](torch.from_numpy(cases()))  # type: ignore[index]
    return np.asarray(given.double().transpose(0, 1).flatten(1).numpy())


@pytest.mark.parametrize(("bias", "affine"), [(False, True), (True, True), (True, False)])
def test_the_folded_map_is_what_the_activation_sees(bias: bool, affine: bool) -> None:
    start = normed(bias, affine)
    weight, shift = maker(start).folded()
    x = torch.nn.functional.unfold(torch.from_numpy(cases()).double(), 3).transpose(1, 2)
    got = (x @ weight + shift).reshape(-1, 6).T
    np.testing.assert_allclose(got, normalised(start.module), atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_a_map_written_back_is_seen_by_the_activation_and_by_the_norm(bias: bool) -> None:
    start = normed(bias)
    seen = sample_inputs(start.module, "0", cases(), rows=10**6, seed=0)
    weight, shift = (tensor.flip(-1) for tensor in maker(start).folded())
    made = maker(start).with_folded(weight, shift, seen.mean, seen.gram)
    np.testing.assert_allclose(normalised(made), normalised(start.module)[::-1], atol=1e-4)
    with torch.inference_mode():
        plain = made[0](torch.from_numpy(cases())).double()  # type: ignore[index]
    np.testing.assert_allclose(made.get_buffer("1.running_mean"), plain.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(made.get_buffer("1.running_var"), plain.var((0, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("norm", [True, False])
def test_a_centroid_has_the_mean_and_the_average_deviation_of_its_members(norm: bool) -> None:
    start = normed(True)
    one = maker(start) if norm else ProducerLayer(start.module, "0", None, np.arange(6))
    upto = 2 if norm else 1
    with torch.inference_mode():
        before = start.module[:upto](torch.from_numpy(cases())).double().transpose(0, 1).flatten(1)  # type: ignore[index]
    seen = sample_inputs(start.module, "0", cases(), rows=10**6, seed=0)
    made, home = fold(one, np.array([1, 4]), seen.mean, seen.gram)
    with torch.inference_mode():
        after = made[:upto](torch.from_numpy(cases())).double().transpose(0, 1).flatten(1)  # type: ignore[index]
    assert set(home) == {1, 4}
    for k in (1, 4):
        members = before[home == k]  # one of them may be alone: then it stays as it was
        assert after[k].mean() == pytest.approx(float(members.mean()), abs=1e-4)
        assert after[k].std() == pytest.approx(float(members.std(1).mean()), rel=1e-3)
        assert torch.corrcoef(torch.stack([after[k], members.mean(0)]))[0, 1] == pytest.approx(1, abs=1e-5)


def test_a_fold_without_clusters_changes_nothing() -> None:
    start = normed(False)
    seen = sample_inputs(start.module, "0", cases(), rows=500, seed=0)
    made, home = fold(maker(start), np.arange(6), seen.mean, seen.gram)
    assert made is start.module
    assert home.tolist() == list(range(6))


def test_clusters_by_hand() -> None:
    """Started from 0 and 1, the centres move to 0.5 and 10.5."""
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0]], dtype=torch.float64)
    assert clusters(points, np.array([0, 1])).tolist() == [0, 0, 1, 1]
    assert clusters(points, np.array([3])).tolist() == [3, 3, 3, 3]


def linear(rows: list[list[float]], bias: list[float]) -> ProducerLayer:
    layer = nn.Linear(2, len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
        layer.bias.copy_(torch.tensor(bias))
    return ProducerLayer(nn.Sequential(layer), "0", None, np.arange(len(rows)))


def test_scales_by_hand() -> None:
    """1 is three times 0; 2 leans to 3, whose length is twice as large; 4 is opposite to all that stays."""
    one = linear([[1, 0], [3, 0], [0.6, 0.8], [0, 2], [-1, -1]], [1, 3, 0, 0, 0])
    reads = compensate(one, np.array([0, 3]))
    expected = np.zeros((5, 5))
    expected[0, 0] = expected[3, 3] = 1
    expected[0, 1], expected[3, 2] = 3, 0.5
    np.testing.assert_allclose(reads, expected, atol=1e-6)


def test_a_shift_that_disagrees_can_outweigh_the_cosine() -> None:
    """Cosine 1 with 0 but shifts 10 apart; cosine 0.8 with 1 and the same shift."""
    one = linear([[1, 0], [0.8, 0.6], [2, 0]], [10, 0, 0])
    assert compensate(one, np.array([0, 1]))[:, 2].tolist() == pytest.approx([0, 2, 0])
    cost = 0.85 * (1 - math.cos(math.radians(37))), 0.15 * 10
    assert cost[0] < cost[1]
