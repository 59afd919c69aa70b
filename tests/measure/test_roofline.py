"""Bytes, MACs and roofs by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from models.raagr2 import raagr2
from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.graph.macs import macs
from optimize.measure.peaks import Peaks
from optimize.measure.roofline import LayerRoof, Roofline, roofline, width_bytes

PEAKS = Peaks({"fake": {"f32": 2e9, "bf16": 4e9, "int8": 8e9}}, bandwidth=1e9)


class Net(nn.Module):
    """(N, 3, 8, 8) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


def net(**more: Any) -> Roofline:
    return roofline(Candidate(Net().eval(), torch.randn(1, 3, 8, 8)), PEAKS, "fake", **more)


def test_work_and_roofs_by_hand() -> None:
    conv, head = net().layers
    assert (conv.name, conv.calls, conv.macs) == ("conv", 1, 3 * 8 * 9 * 64)
    assert (conv.weight_bytes, conv.activation_bytes) == (4 * 216, 4 * (192 + 512))
    assert conv.intensity == 13824 / 3680
    assert (conv.bound, conv.attainable) == ("compute", 2e9)
    assert conv.roof_ms == pytest.approx(13824 / 2e9 * 1e3)
    assert (head.name, head.macs, head.weight_bytes, head.activation_bytes) == ("head", 5120, 4 * 5120, 4 * 522)
    assert (head.bound, head.attainable) == ("memory", 5120 / 22568 * 1e9)
    assert head.roof_ms == pytest.approx(22568 / 1e9 * 1e3)
    assert (conv.ms, conv.share, head.share) == (None, None, None)


def test_narrow_numbers_move_fewer_bytes() -> None:
    for precision, width in (("f32", 4), ("bf16", 2), ("int8", 1)):
        assert [layer.bytes for layer in net(precision=precision).layers] == [width * 920, width * 5642]
    mixed = net(precision="int8", precisions={"head": "f32", "relu": "bf16"}).layers
    assert [(layer.precision, layer.peak, layer.bytes) for layer in mixed] == [("int8", 8e9, 920), ("f32", 2e9, 4 * 5642)]


def test_a_batch_moves_its_weights_once() -> None:
    for layer, one in zip(net(batch=5).layers, net().layers, strict=True):
        assert (layer.macs, layer.weight_bytes, layer.activation_bytes) == (5 * one.macs, one.weight_bytes, 5 * one.activation_bytes)


def test_the_network_is_the_sum_of_its_layers() -> None:
    found = net(p50_ms=0.1)
    compute, memory = 13824 / 2e6, 22568 / 1e6
    assert found.compute_ms == pytest.approx(compute)
    assert found.memory_ms == pytest.approx(memory)
    assert found.share == pytest.approx((compute + memory) / 0.1)
    assert found.overhead_ms == pytest.approx(0.1 - compute - memory)
    assert found.other_ms == 0
    assert found.outside_ms is None


class Tied(nn.Module):
    """Two layers with one weight, the second called twice; one more through a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.second.weight = self.first.weight
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.second(self.second(self.first(x))))


def test_a_shared_weight_is_moved_once_and_multiplied_every_time() -> None:
    taken = {"first": 1.0, "first#2": 2.0, "first#3": 4.0, "up": 8.0, "relu": 16.0}
    found = roofline(Candidate(Tied().eval(), torch.randn(1, 4, 6, 6)), PEAKS, "fake", layer_ms=taken, p50_ms=20.0)
    first, up = found.layers
    assert (first.name, first.calls, first.macs) == ("first", 3, 3 * 144 * 36)
    assert (first.weight_bytes, first.activation_bytes) == (4 * 144, 4 * 3 * 2 * 144)
    assert (up.macs, up.bytes) == (4 * 2 * 4 * 36, 4 * (32 + 144 + 2 * 144))
    assert (first.ms, up.ms) == (7.0, 8.0)
    assert first.share == pytest.approx(3 * 144 * 36 / 2e9 * 1e3 / 7)
    assert found.outside_ms == 5.0


def test_one_layer_alone_is_a_network() -> None:
    (layer,) = roofline(Candidate(nn.Linear(3, 2).eval(), torch.randn(1, 3)), PEAKS, "fake").layers
    assert (layer.name, layer.bytes) == ("", 4 * (6 + 3 + 2))


def test_a_weight_made_for_each_call_is_nobodys() -> None:
    module = nn.Sequential(weight_norm(nn.Linear(3, 3)), weight_norm(nn.Linear(3, 3))).eval()
    assert [layer.name for layer in roofline(Candidate(module, torch.randn(1, 3)), PEAKS, "fake").layers] == ["0", "1"]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.project(x)
        return made @ made.transpose(1, 2)


def test_products_outside_of_layers_count_at_the_peak() -> None:
    found = roofline(Candidate(Attention().eval(), torch.randn(1, 5, 6)), PEAKS, "fake", "bf16", batch=3)
    assert found.layers[0].macs == 3 * 5 * 36
    assert found.other_ms == pytest.approx(3 * 5 * 5 * 6 / 4e9 * 1e3)
    assert found.compute_ms >= found.other_ms


def test_recurrent_and_shared_layers_of_a_whole_network() -> None:
    """Four depthwise convolutions of a pyramid share a kernel: the weights are the network's own, each once, and no MAC is lost."""
    module = raagr2(width=0.125, variant="encoder-decoder").eval()
    candidate = Candidate(module, torch.randn(1, 4, 16, 16))
    found = roofline(candidate, PEAKS, "fake")
    assert sum(layer.macs for layer in found.layers) == macs(candidate)
    kernels = {id(weight): weight.numel() for name, weight in module.named_parameters() if weight.dim() == 4 and "unused" not in name}
    assert sum(layer.weight_bytes for layer in found.layers) == 4 * sum(kernels.values())
    assert found.layers[0].name == "encoder.0.depthwise.0"
    assert found.layers[0].calls == 4


def layer(macs: int, weight_bytes: int, ms: float | None = None, calls: int = 1) -> LayerRoof:
    """Of a machine with 1e6 MACs and 1e6 bytes per second: a thousand of either is a millisecond."""
    return LayerRoof("layer", calls, macs, weight_bytes, 0, "f32", 1e6, 1e6, ms)


@pytest.mark.parametrize(
    ("found", "limit", "words"),
    [
        (Roofline((layer(3000, 1000), layer(1000, 2000)), p50_ms=6), "compute", "6 ms at the median, where the roofline allows 5 ms: 83 %"),
        (Roofline((layer(1000, 1),), other_ms=3), "compute", "At least 4 ms, mostly limited by compute; the network was not timed."),
        (Roofline((layer(1000, 4000),), p50_ms=5), "memory", "80 % of it is reached. Memory limits it: fewer or narrower weights"),
        (Roofline((layer(1, 4000),)), "memory", "At least 4 ms, mostly limited by memory"),
        (
            Roofline((layer(1000, 1, calls=4),), p50_ms=5),
            "overhead",
            "Overhead limits it: 4 ms beyond the roof, 1000 microseconds for each of 4 calls of layers; times of every layer would tell",
        ),
        (
            Roofline((layer(1000, 1, ms=2.0),), p50_ms=5),
            "overhead",
            "4 ms beyond the roof, 3 ms outside of these layers, 1 ms inside: 1000 microseconds for each of 1 calls of layers.",
        ),
        (Roofline((layer(1000, 1, ms=0.5),), p50_ms=5), "overhead", "it: 4 ms beyond the roof, all of it outside of these layers."),
        (
            Roofline((layer(1000, 1, ms=1.0005, calls=2),), p50_ms=5),
            "overhead",
            "4 ms outside of these layers, 0.0005 ms inside: less than a microsecond for each of 2 calls of layers.",
        ),
        (Roofline((layer(1000, 1, ms=2.0), layer(1000, 1)), p50_ms=9), "overhead", "times of every layer would tell"),
        (Roofline((layer(1000, 5000),), p50_ms=4), "memory", "125 % of it is reached; faster than the roof, since its data stay in"),
    ],
)
def test_what_limits_is_the_largest_part(found: Roofline, limit: str, words: str) -> None:
    assert found.limit == limit
    assert words in found.in_words()


def test_a_network_faster_than_its_roof_has_no_overhead() -> None:
    found = Roofline((layer(1000, 5000, ms=4.5),), p50_ms=4)
    assert (found.overhead_ms, found.outside_ms) == (0, 0)
    assert found.share == 1.25


def test_a_network_without_layers_is_all_overhead() -> None:
    found = roofline(Candidate(nn.ReLU().eval(), torch.randn(1, 3)), PEAKS, "fake", p50_ms=2.0)
    assert (found.layers, found.roof_ms, found.share, found.limit) == ((), 0, 0, "overhead")
    assert "2 ms beyond the roof, all of it outside of these layers." in found.in_words()


def test_widths() -> None:
    assert [width_bytes(each) for each in ("f32", "bf16", "f16", "int8")] == [4, 2, 2, 1]
    with pytest.raises(InputError, match=r"^`precision` \(='int4'\) is not known .*: write one of 'f32', "):
        width_bytes("int4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, r"^`batch` \(=0\) must be at least 1\.$"),
        ({"p50_ms": 0.0}, r"^`p50_ms` \(=0\.0\) must be a positive number"),
        ({"p50_ms": math.nan}, r"^`p50_ms` \(=nan\)"),
        ({"precision": "f16"}, r"^there is no measured peak of fake in f16 on this machine; measured: fake f32, fake bf16, fake int8\.$"),
        ({"precisions": {"head": "int4"}}, r"^`precision` \(='int4'\) is not known"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        net(**settings)
