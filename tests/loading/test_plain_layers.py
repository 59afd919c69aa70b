"""Layers with a forward of their own: rewritten where plain layers give the same, left alone where not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import optimize as opt
from optimize.graph.trace import trace
from optimize.loading.plain_layers import with_plain_layers


class NormAct(nn.BatchNorm2d):
    """As several libraries have it: the norm, a dropout that is none, and the activation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


class GroupNormAct(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(2, channels)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(x))


class Standardized(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, (self.weight - mean) / spread, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Same(nn.Conv2d):
    """Pads at the end by as much as the input needs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = [(-(-size // 2) - 1) * 2 + 3 - size for size in x.shape[-2:]]
        return nn.functional.conv2d(nn.functional.pad(x, (0, missing[1], 0, missing[0])), self.weight, self.bias, 2)


class Frozen(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, start in (("weight", 1.5), ("bias", 0.1), ("running_mean", 0.2), ("running_var", 2.0)):
            self.register_buffer(name, torch.linspace(start, start + 1, channels))

    def forward(self, x: Any) -> Any:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class OfInput(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight * x.mean(), self.bias, 1, 1)


class TimesTwo(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def net(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
    whole = nn.Sequential(first, layer, nn.ReLU(), last, nn.Flatten())
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
    return whole.eval().requires_grad_(False)


PLAIN = {
    "norm with activation": (NormAct(8), nn.Sequential),
    "group norm with activation": (GroupNormAct(8), nn.Sequential),
    "standardized weight": (Standardized(8, 8, 3, 1, 1), nn.Conv2d),
    "padded by size": (Same(8, 8, 3), nn.Sequential),
    "frozen norm": (Frozen(8), nn.BatchNorm2d),
    "weight norm": (parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1)), nn.Conv2d),
    "spectral norm": (parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1)), nn.Conv2d),
}


@pytest.mark.parametrize("case", PLAIN)
def test_it_computes_the_same_and_can_be_cut(case: str) -> None:
    layer, kind = PLAIN[case]
    original, inputs = net(layer), torch.randn(4, 3, 9, 9)
    plain, (note,) = with_plain_layers(original, inputs[:2])
    assert type(plain[1]) is kind
    assert original[1] is layer, "the network itself is not changed"
    assert note.startswith("1 layer with a forward or weights of their own (")
    torch.testing.assert_close(plain(inputs), original(inputs), rtol=1e-5, atol=1e-5)
    fixed = dict(trace(opt.Candidate(plain, inputs[:1])).fixed)
    assert "0" not in fixed
    assert any("forward of its own" in why or "as it runs" in why or "takes part" in why for why in _fixed(original, inputs))


def _fixed(module: nn.Module, inputs: torch.Tensor) -> list[str]:
    return [why for _, why in trace(opt.Candidate(module, inputs[:1])).fixed]


@pytest.mark.parametrize("layer", [OfInput(8, 8, 3), TimesTwo(8, 8, 3, 1, 1)], ids=["weight of the input", "something behind it"])
def test_what_plain_layers_do_not_compute_is_left_alone(layer: nn.Module) -> None:
    original = net(layer)
    assert with_plain_layers(original, torch.randn(2, 3, 9, 9)) == (original, ())


def test_a_network_that_asks_for_the_class_of_a_layer_keeps_it() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = NormAct(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.layer.act(self.layer.running_mean).sum() + self.layer(x)

    original = Asks().eval()
    assert with_plain_layers(original, torch.randn(2, 3, 9, 9)) == (original, ())


def test_a_plain_network_is_not_copied() -> None:
    original = net(nn.BatchNorm2d(8))
    assert with_plain_layers(original, torch.randn(2, 3, 9, 9)) == (original, ())


def test_a_hook_of_the_user_keeps_its_layer() -> None:
    layer = NormAct(8)
    layer.register_forward_hook(lambda *_: None)
    original = net(layer)
    assert with_plain_layers(original, torch.randn(2, 3, 9, 9)) == (original, ())


def test_it_is_done_as_a_model_is_loaded_and_said() -> None:
    candidate = opt.load_model(net(NormAct(8)), input_shape=(3, 9, 9))
    assert any("were rewritten as plain ones" in note for note in candidate.notes)
    assert [group.size for group in trace(candidate).groups] == [8]


def test_a_tensor_without_dimensions_does_not_end_the_trace() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.scale = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Parameter(torch.tensor(1.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(x)) * self.scale)

    graph = trace(opt.Candidate(Scaled().eval(), torch.randn(1, 3, 9, 9)))
    assert [group.size for group in graph.groups] == [8]


def test_a_table_of_places_is_no_channel() -> None:
    class Relative(nn.Module):
        """A bias by relative position is looked up with whole numbers that are a buffer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.table = nn.Linear(6, 8), nn.Linear(8, 4), nn.Parameter(torch.zeros(5, 1))
            self.register_buffer("places", torch.tensor([[4, 3, 2], [2, 1, 0], [0, 4, 1]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(x)) + self.table[self.places.view(-1)].view(3, 3).mean(1)[:, None])

    graph = trace(opt.Candidate(Relative().eval(), torch.randn(1, 3, 6)))
    assert [group.size for group in graph.groups] == [8]
