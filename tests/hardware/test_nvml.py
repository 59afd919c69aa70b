"""No GPU was at hand: a made-up `pynvml` shows what is asked of it and what becomes of its answers, not that it answers so."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.hardware import nvml
from optimize.hardware.nvml import device_bytes, devices, opened
from optimize.measure import energy


class Refused(Exception):
    """What the real library raises is an NVMLError."""


class MadeUp:
    """Two GPUs; `processes` says what runs on each, as (id, bytes)."""

    NVMLError = Refused

    def __init__(self, processes: Any = ((), ()), *, refuses: str = "") -> None:
        self.processes, self.refuses, self.millijoules = processes, refuses, 5_000

    def _unless_refused(self, name: str) -> None:
        if name == self.refuses:
            raise Refused("Not Supported")

    def nvmlInit(self) -> None:
        self._unless_refused("init")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.processes)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H100"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        self._unless_refused("processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self.processes[handle]]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        self._unless_refused("energy")
        return self.millijoules * (handle + 1)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "present", lambda: True)


def install(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)


@pytest.mark.usefixtures("driver")
def test_memory_of_a_process_on_made_up_gpus_is_summed_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    install(MadeUp((((7, 100), (8, 1)), ((7, 20),))), monkeypatch)
    assert device_bytes(7) == (120, "")
    install(MadeUp((((os.getpid(), 30),),)), monkeypatch)
    assert device_bytes() == (30, "")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (None, "nvidia-ml-py is not installed, which asks the driver of the GPU; pip install 'optimize[gpu]'"),
        (MadeUp(refuses="init"), "NVML cannot be used: Not Supported"),
        (MadeUp(refuses="processes"), "NVML does not tell the memory of processes: Not Supported"),
        (MadeUp((((8, 1),), ())), "NVML names no process of this id: it counts by the ids of the host, which in a container are others"),
        (MadeUp((((7, None),), ())), "NVML names this process without its memory, as it does where the system manages that of the GPU"),
    ],
)
def test_memory_that_a_made_up_library_does_not_tell_has_a_reason(library: object, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(library, monkeypatch)
    assert device_bytes(7) == (None, reason)


def test_nothing_is_asked_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(None, monkeypatch)
    monkeypatch.setattr(nvml, "present", lambda: False)
    assert opened() == (None, "no NVIDIA GPU or driver found")
    assert device_bytes() == (None, "no NVIDIA GPU or driver found")


@pytest.mark.usefixtures("driver")
def test_energy_of_made_up_gpus_is_in_thousandths_of_a_joule(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    library = MadeUp()
    install(library, monkeypatch)
    assert [name for name, _ in devices(library)] == ["NVIDIA H100 #0", "NVIDIA H100 #1"]
    found = energy.meters(tmp_path).meters
    before = [each.read() for each in found]
    library.millijoules = 7_500
    after = [each.read() for each in found]
    assert [each.joules(*pair) for each, *pair in zip(found, before, after, strict=True)] == [2.5, 5.0]
    assert [name for name, _ in devices(MadeUp(((),)))] == ["NVIDIA H100"]


@pytest.mark.usefixtures("driver")
def test_energy_that_a_made_up_gpu_does_not_count_has_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    install(MadeUp(refuses="energy"), monkeypatch)
    found = energy.meters(tmp_path)
    assert (found.meters, found.notes[-1]) == ((), "NVML does not tell the energy of a GPU: Not Supported")
