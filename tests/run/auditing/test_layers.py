"""Redundancy of layers, each planted and found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.run.auditing.layers import LayerAudit, audit_layers, elbow, holding
from optimize.run.auditing.playbook import advise


def audited(net: nn.Sequential, inputs: np.ndarray) -> dict[str, LayerAudit]:
    candidate = Candidate(net.eval().requires_grad_(False), torch.from_numpy(inputs[:1]))
    return {layer.name: layer for layer in audit_layers(candidate, inputs)}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_planted_rank_is_found_exactly(rank: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 12)
    with torch.no_grad():
        # equal singular values: each holds the same share, so 99 % takes all of them
        left, right = (torch.linalg.qr(torch.randn(size, rank))[0] for size in (12, 20))
        layer.weight.copy_(left @ right.T)
    found = audited(nn.Sequential(layer), normal(4000, 20))["0"]
    assert found.ranks[-1] == found.whitened_ranks[-1] == found.dimensions[-1] == rank
    advice = advise(found)
    assert advice.method in ("low rank", "prune")
    assert found.macs == found.weights == 240
    # by hand: 1 - r (20 + 12) / 240 or 1 - r / 12
    assert advice.saves == pytest.approx(max(1 - rank * 32 / 240, 1 - rank / 12))


def test_dimensions_are_those_of_the_outputs_themselves() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 6, 3)
    inputs = normal(64, 3, 8, 8) * np.array([3, 1, 0.1], np.float32)[:, None, None]
    outputs = layer(torch.from_numpy(inputs)).detach().permute(0, 2, 3, 1).reshape(-1, 6).double().numpy()
    expected = np.linalg.eigvalsh(np.cov(outputs.T))[::-1]
    assert audited(nn.Sequential(layer), inputs)["0"].dimensions == holding(expected)


def test_inputs_that_few_directions_use_lower_the_whitened_rank_alone() -> None:
    torch.manual_seed(0)
    inputs = normal(2000, 16) * np.r_[np.ones(2), np.full(14, 1e-3)].astype(np.float32)
    found = audited(nn.Sequential(nn.Linear(16, 16)), inputs)["0"]
    assert found.ranks[-1] > 8
    assert found.whitened_ranks[-1] == 2


def test_twins_zeros_and_what_never_varies() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1)
    with torch.no_grad():
        first.weight[1] = 2 * first.weight[0]
        first.weight[2] = 0
        first.weight[3] = -first.weight[0]
    found = audited(nn.Sequential(first, second), normal(32, 2, 4, 4))
    # filters of two weights may be alike by chance; 1 and 3 are like 0 on purpose, and the filter of zeros is like no other
    assert found["0"].twins >= 2
    assert found["0"].most_similar == pytest.approx(1)
    assert found["0"].zeros == 2
    assert found["1"].unused_inputs == 1
    assert advise(found["0"]).method in ("merge", "prune")


def test_what_cannot_be_measured_says_why() -> None:
    found = audited(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)), normal(16, 4, 6, 6))
    assert (found["0"].dimensions, found["0"].note) == ((), "a grouped layer is a matrix for each group")
    assert advise(found["0"]).method == "keep"
    assert found["1"].note == ""
    assert found["0"].macs_share + found["1"].macs_share == pytest.approx(1)


def test_counts_by_hand() -> None:
    assert holding(np.array([4.0, 3, 2, 1])) == (3, 4, 4)
    assert holding(np.zeros(3)) == (0, 0, 0)
    assert elbow(np.array([10.0, 10, 10, 1, 1, 1, 1, 1, 1, 1])) == 3
    assert elbow(np.zeros(2)) == 0
