"""Dispersions against numpy, and a layer that says the same to everyone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import trace
from optimize.searching.published.dispersion import DispersionCheck, dispersions
from tests import nets
from tests.nets import cases


def activations(module: nn.Module, upto: int) -> np.ndarray:
    with torch.inference_mode():
        return module[:upto](torch.from_numpy(cases(200))).double().numpy()  # type: ignore[index, no-any-return]


def test_standard_deviations_of_every_channel() -> None:
    of = nets.candidate(nets.chain_bn())
    found = dispersions(of, Reference(of, cases(200)), trace(of).groups)
    np.testing.assert_allclose(found[0], activations(of.module, 3).std((0, 2, 3)), rtol=1e-6)
    flat = activations(of.module, 8).reshape(200, 6, 9)
    np.testing.assert_allclose(found[1], flat.std((0, 2)), rtol=1e-6)


def test_the_share_of_the_baseline() -> None:
    of = nets.candidate(nets.chain_bn())
    aim = Reference(of, cases(200))
    group = trace(of).groups[0]
    each = activations(of.module, 3).std((0, 2, 3))
    order = each.argsort()
    strong = [int(channel) for channel in order[2:]]
    # what stays are the two weakest channels
    share = each[order[:2]].mean() / each.mean()
    assert share < 1
    for least, holds in ((share - 1e-6, True), (share + 1e-6, False)):
        health = DispersionCheck.of(aim, [group], float(least))
        assert health.baseline == {"0": pytest.approx(each.mean())}
        assert health.holds(of, aim, group, strong) is holds


def test_a_collapsed_layer_is_seen_whatever_goes() -> None:
    of = nets.candidate(nets.chain_bn())
    aim = Reference(of, cases(200))
    groups = trace(of).groups
    health = DispersionCheck.of(aim, groups)
    # its norm lets little of it through
    faint = Candidate(with_tensors(of.module, "1", weight=of.module.get_parameter("1.weight") * 0.05), of.example)
    assert health.holds(of, aim, groups[0], [0])
    assert not health.holds(faint, aim, groups[0], [0])
