"""The published fusion against its formula, written out on activations gathered by the network's own forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.ilr import InsideLayerRanking, fuse, minmax
from tests.nets import candidate, cases, chain, chain_bn, ready, reference


def scaled(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.min()) / (values.max() - values.min()))


def inputs_of(net: nn.Module, upto: int, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(nn.Sequential(*list(net.children())[:upto])(torch.from_numpy(inputs)).double())


def test_three_terms_and_the_head() -> None:
    of = candidate(chain_bn())
    inputs = cases(200)
    first, last = InsideLayerRanking()(of, Reference(of, inputs), trace(of).groups)
    want = []
    for upto, norm in ((3, "1"), (7, "4")):
        maps = inputs_of(of.module, upto, inputs)  # after ReLU; after pooling
        parts = maps[:128], maps[128:]
        rms = np.mean([np.sqrt((part**2).mean((0, 2, 3))) for part in parts], axis=0)
        frobenius = np.mean([np.sqrt((part**2).sum((0, 2, 3))) for part in parts], axis=0)
        gamma = np.abs(of.module.get_submodule(norm).get_parameter("weight").detach().double().numpy())
        want.append((0.6 * scaled(rms) + 0.4 * scaled(gamma) + 0.2 * scaled(frobenius)) / 1.2)
    np.testing.assert_allclose(first, want[0], rtol=1e-4, atol=1e-6)
    head = of.module.get_submodule("8").get_parameter("weight").detach().double().abs().numpy()  # (4, 54)
    columns = scaled(head.reshape(4, 6, 9).mean((0, 2)))
    np.testing.assert_allclose(last, 0.7 * want[1] + 0.3 * columns, rtol=1e-4, atol=1e-6)


def test_without_a_norm_its_term_leaves_the_divisor_too() -> None:
    of = candidate(chain())
    inputs = cases(100)
    first = InsideLayerRanking()(of, Reference(of, inputs), trace(of).groups)[0]
    rms = np.sqrt((inputs_of(of.module, 2, inputs) ** 2).mean((0, 2, 3)))
    np.testing.assert_allclose(first, scaled(rms), rtol=1e-4, atol=1e-6)


def test_layers_between_linear_layers_have_no_head() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 3))
    of = candidate(net)
    (score,) = InsideLayerRanking()(of, reference(of, 50), trace(of).groups)
    with torch.no_grad():
        hidden = nn.Sequential(*list(net.children())[:3])(torch.from_numpy(cases(50))).double().numpy()
    np.testing.assert_allclose(score, scaled(np.sqrt((hidden**2).mean(0))), rtol=1e-4, atol=1e-6)


def test_only_six_batches_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    of = candidate(chain())
    seen = []
    of.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    InsideLayerRanking()(of, Reference(of, cases(900, (3, 8, 8))), trace(of).groups)
    assert sum(size for size in seen if size > 1) == 768


def test_a_constant_signal_is_a_half_and_a_missing_one_is_nothing() -> None:
    rising, flat, missing = np.array([1.0, 2.0, 3.0]), np.ones(3), np.full(3, np.nan)
    np.testing.assert_allclose(minmax(flat), 0.5)
    np.testing.assert_allclose(fuse(((0.6, rising), (0.4, flat), (0.2, missing))), [0.2, 0.5, 0.8])


def test_a_single_channel_is_a_half() -> None:
    of = Candidate(ready(nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1))), torch.from_numpy(cases(1)))
    assert InsideLayerRanking()(of, Reference(of, cases(10)), trace(of).groups)[0].tolist() == [0.5]
