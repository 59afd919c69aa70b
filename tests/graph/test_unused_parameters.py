from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.raagr2 import raagr2
from optimize.graph.unused_parameters import unused_parameters


class Net(nn.Module):
    """A used layer, one that nothing calls, and whatever else `forward` does."""

    def __init__(self, forward: Callable[[Net, torch.Tensor], object]) -> None:
        super().__init__()
        self.used, self.extra = nn.Linear(3, 4), nn.Linear(3, 4)
        self.dead = nn.Conv2d(2, 5, 3)
        self._does = forward

    def forward(self, x: torch.Tensor) -> object:
        return self._does(self, x)


DEAD = {"dead.weight": 2 * 5 * 9, "dead.bias": 5}
EXTRA = {"extra.weight": 12, "extra.bias": 4}


def discards(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.extra(x)
    return net.used(x)


def through_a_view(net: Net, x: torch.Tensor) -> torch.Tensor:
    made = torch.zeros(len(x), 2, 4)
    made[:, 1].add_(net.extra(x))
    made[:, 0] = net.used(x)
    return made.sum(1)


def reads_in_python(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.used(x) if float(net.extra(x).sum()) else x


CASES: dict[str, tuple[Callable[[Net, torch.Tensor], object], dict[str, int]]] = {
    "not called": (lambda net, x: net.used(x), DEAD | EXTRA),
    "called, thrown away": (discards, DEAD | EXTRA),
    "added": (lambda net, x: net.used(x) + net.extra(x), DEAD),
    "written through a view": (through_a_view, DEAD),
    "read by the program": (reads_in_python, DEAD),
    "without a derivative": (lambda net, x: (net.used(x) * net.extra(x).detach().round()).argmax(1), DEAD),
    "in a second output": (lambda net, x: {"a": net.used(x), "b": [net.extra(x)]}, DEAD),
    "only the bias": (lambda net, x: net.used(x) + net.extra.bias, DEAD | {"extra.weight": 12}),
    "nothing": (lambda net, x: x, DEAD | EXTRA | {"used.weight": 12, "used.bias": 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_answer_does_not_depend_on(case: str) -> None:
    forward, expected = CASES[case]
    assert unused_parameters(Net(forward).eval(), torch.randn(1, 3)) == expected


def test_a_shared_tensor_counts_once() -> None:
    net = Net(lambda net, x: net.used(x))
    net.extra.weight = net.used.weight
    net.dead.bias = net.extra.bias
    assert list(dict(net.named_parameters())) == ["used.weight", "used.bias", "extra.bias", "dead.weight"]
    assert unused_parameters(net.eval(), torch.randn(1, 3)) == {"extra.bias": 4, "dead.weight": 90}


def test_empty_tensors_hand_nothing_on() -> None:
    """All of them lie at address 0."""

    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        net.extra(x)[:0].clone()
        return net.used(x) + torch.ones(0, 4).clone().sum()

    assert unused_parameters(Net(forward).eval(), torch.randn(1, 3)) == DEAD | EXTRA


def test_memory_that_was_freed_hands_nothing_on() -> None:
    """What is made next of the same size lies where the discarded result lay."""

    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        many = x.expand(4096, 3)
        for _ in range(20):
            net.extra(many)
        return torch.stack([net.used(many) for _ in range(20)]).sum(0)

    assert unused_parameters(Net(forward).eval(), torch.randn(1, 3)) == DEAD | EXTRA


def test_the_network_is_left_as_it_was() -> None:
    net = Net(lambda net, x: net.used(x)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    unused_parameters(net, torch.randn(1, 3))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.used(torch.randn(1, 3)).requires_grad


def test_the_published_encoder_owns_dead_kernels() -> None:
    """A depthwise 3x3 kernel with its bias in each encoder stage: ten numbers for each channel in."""
    net = raagr2(variant="encoder-decoder").eval()
    found = unused_parameters(net, torch.randn(1, 4, 16, 16))
    assert sum(found.values()) == 10 * (4 + 32 + 64 + 128 + 256) == 4840
    assert set(found) == {f"encoder.{stage}.unused.{part}" for stage in range(5) for part in ("weight", "bias")}


@pytest.mark.parametrize("variant", ["base", "shared", "paired"])
def test_the_other_variants_use_all_they_own(variant: str) -> None:
    assert unused_parameters(raagr2(width=0.125, variant=variant).eval(), torch.randn(1, 4, 16, 16)) == {}  # type: ignore[arg-type]
