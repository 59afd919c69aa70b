"""What single layers are, against torch's own attributes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.graph.layer_types import depthwise, groups, linear_submodule, recognised, unsupported_reason, width
from tests.graph.test_trace import Convolving


@pytest.mark.parametrize(
    ("layer", "sides"),
    [
        (nn.Linear(3, 5), (3, 5)),
        (nn.Conv1d(4, 6, 3, groups=2), (4, 6)),
        (nn.ConvTranspose3d(4, 6, 3), (4, 6)),
        (nn.BatchNorm2d(7), (7, 7)),
        (nn.InstanceNorm1d(7), (7, 7)),
        (nn.PReLU(7), (7, 7)),
    ],
    ids=str,
)
def test_width(layer: nn.Module, sides: tuple[int, int]) -> None:
    assert (width(layer, "in"), width(layer, "out")) == sides
    assert recognised(layer)


@pytest.mark.parametrize(
    ("layer", "number", "deep"),
    [
        (nn.Conv2d(6, 6, 3, groups=6), 6, True),
        (nn.Conv2d(6, 12, 3, groups=6), 6, True),
        (nn.Conv2d(6, 12, 3, groups=3), 3, False),
        (nn.Conv2d(1, 12, 3, groups=1), 1, False),
        (nn.ConvTranspose2d(6, 6, 3, groups=6), 6, True),
        (nn.ConvTranspose2d(6, 12, 3, groups=6), 6, False),
        (nn.Linear(6, 6), 1, False),
    ],
    ids=str,
)
def test_depthwise(layer: nn.Module, number: int, deep: bool) -> None:
    assert (groups(layer), depthwise(layer)) == (number, deep)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.PReLU(1), nn.LocalResponseNorm(2), nn.LayerNorm(4), nn.Bilinear(2, 2, 2)], ids=str)
def test_others_are_not_recognised(layer: nn.Module) -> None:
    assert not recognised(layer)


def replaced() -> nn.Module:
    layer = nn.Linear(3, 3)
    layer.forward = torch.relu  # type: ignore[method-assign,assignment]
    return layer


class Inner(nn.Conv2d):
    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(input, weight - weight.mean(), bias)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Linear(3, 3), None),
        (nn.BatchNorm2d(3, affine=False), None),
        (nn.InstanceNorm2d(3), None),
        (nn.BatchNorm2d(3, track_running_stats=False), "computes its weights or statistics as it runs"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "computes its weights or statistics as it runs"),
        (nn.utils.spectral_norm(nn.Linear(3, 3)), "computes its weights or statistics as it runs"),
        (Convolving(3, 3, 1), "has a forward of its own"),
        (Inner(3, 3, 1), "has a forward of its own"),
        (replaced(), "has a forward of its own"),
    ],
    ids=str,
)
def test_a_layer_that_does_something_else_is_told(layer: nn.Module, reason: str | None) -> None:
    assert unsupported_reason(layer) == reason


def test_a_linear_submodule_is_the_layer_itself_and_nothing_else() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Flatten(), nn.Linear(4, 2))
    assert linear_submodule(net, "0.0") is net[0][0]  # type: ignore[index]
    assert linear_submodule(net, "2") is net[2]
    with pytest.raises(TypeError, match=r"'0\.1' is a ReLU: expected a linear layer or a convolution"):
        linear_submodule(net, "0.1")
