"""Where training runs: bfloat16 only where it is native, and nobody else's random numbers are touched."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from optimize.steps.device import Precision, autocast, device, native_bfloat16, reproducible

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
    monkeypatch.setattr("optimize.steps.device.instruction_sets", lambda: sets)
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
