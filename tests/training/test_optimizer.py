"""What is trained, what decays, and how fast it goes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from optimize.training.optimizer import OPTIMIZERS, learning_rate_factor, optimizer, trainable_copy
from tests import nets


def test_rate_by_hand() -> None:
    """Of 40 updates two warm up."""
    found = [learning_rate_factor(update, 40) for update in range(40)]
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[21] == pytest.approx(0.5)
    assert found[2 + 38 // 4] == pytest.approx((1 + math.cos(math.pi * 9 / 38)) / 2)
    assert all(0 < later < earlier for earlier, later in itertools.pairwise(found[2:]))
    assert learning_rate_factor(0, 1) == 1


@pytest.mark.parametrize(("given", "expected"), [(0.1, 0.1), (0.01, 0.01), (0.9, 0.1), (None, 0.1)])
def test_momentum_is_bounded_in_a_copy(given: float | None, expected: float) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=given)).requires_grad_(False)
    made = trainable_copy(net)
    assert made[1].momentum == expected  # type: ignore[index]
    assert net[1].momentum == given
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not {tensor.data_ptr() for tensor in made.state_dict().values()} & {tensor.data_ptr() for tensor in net.state_dict().values()}


def test_weights_decay_and_norms_and_biases_do_not() -> None:
    """With no gradient AdamW multiplies a weight by 1 - rate * decay."""
    net = nets.ready(nets.chain_bn())
    before = {name: tensor.clone() for name, tensor in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer("adamw", net, 0.1, 0.5).step()
    for name, tensor in net.named_parameters():
        torch.testing.assert_close(tensor.detach(), before[name] * (0.95 if tensor.dim() > 1 else 1))


def test_sgd_is_nesterovs() -> None:
    """A gradient of 1: the first step is rate * (1 + momentum)."""
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    net.weight.grad = torch.ones(1, 2)
    optimizer("sgd", net, 0.01, 0.0).step()
    torch.testing.assert_close(net.weight.detach(), before - 0.01 * 1.9)
    assert set(OPTIMIZERS) == {"adamw", "sgd"}
