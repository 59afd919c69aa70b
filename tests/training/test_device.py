"""Where training runs: bfloat16 only where it is native, and nobody else's random numbers are touched."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

from optimize.training.device import Precision, autocast, channels_last, device, native_bfloat16, reproducible

CPU = torch.device("cpu")


def test_the_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device() == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("sets", "precision", "half"),
    [
        (("avx2", "avx512f"), "auto", False),
        (("avx512f", "avx512_bf16"), "auto", True),
        (("amx_bf16",), "auto", True),
        (("amx_bf16",), "float32", False),
        ((), "bfloat16", True),
    ],
)
def test_bfloat16_where_the_cpu_has_instructions_for_it(
    sets: tuple[str, ...], precision: Precision, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.training.device.instruction_sets", lambda: sets)
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, precision):
        assert layer(torch.zeros(1, 2)).dtype == (torch.bfloat16 if half else torch.float32)
    assert layer(torch.zeros(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_without_counting_emulation(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert native_bfloat16(torch.device("cuda", 0)) is native


def test_what_was_set_and_drawn_outside_stays_as_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with suppress(ZeroDivisionError), reproducible(CPU):
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(0)
        torch.rand(5)
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)


class Flat(nn.Module):
    """A convolution whose output is flattened by a view, which needs the positions last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(inputs)
        return found.view(len(inputs), -1)


def test_channels_are_last_in_memory_and_the_answers_the_same() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval(), torch.rand(2, 3, 8, 8)
    expected = net(inputs)
    found = channels_last(net, inputs)(inputs)
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in (net[0], net[2]))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_network_that_does_not_run_so_stays_as_it_was() -> None:
    net, inputs = Flat().eval(), torch.rand(2, 3, 8, 8)
    last = Flat()
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with pytest.raises(RuntimeError, match="view"):
        last(inputs)
    assert channels_last(net, inputs) is net
    assert net.conv.weight.is_contiguous()
    assert net(inputs).shape == (2, 144)


def test_series_have_no_such_layout() -> None:
    net = nn.Conv1d(3, 4, 3)
    assert channels_last(net, torch.rand(2, 3, 8)) is net
    assert net.weight.is_contiguous()
