from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from optimize.hardware import machine as fingerprint

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse avx2 avx512f amx_int8 avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_cpu_is_read_from_the_first_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: CPUINFO)
    found = fingerprint.machine()
    assert found["cpu"] == "Some CPU @ 2.00GHz"
    assert found["isa"] == ("avx2", "avx512f", "avx512_vnni", "amx_int8")
    assert not fingerprint.virtual()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: CPUINFO.replace("fpu sse", "fpu hypervisor"))
    assert fingerprint.virtual()


def test_cpu_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert fingerprint.instruction_sets() == ()
    assert fingerprint.machine()["cpu"]


def test_machine_agrees_with_the_system() -> None:
    found = fingerprint.machine()
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found) == {"cpu", "physical_cores", "logical_cores", "isa", "memory_bytes", "os", "python"}


@pytest.mark.parametrize(("busy", "own", "percent"), [(0, 0, 0), (2, 0, 25), (2, 1.5, 6.2), (4, 4.2, 0), (9, 0, 100)])
def test_load_is_what_others_use(busy: float, own: float, percent: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores watched for two seconds: eight seconds of CPU time were to be had."""
    machine_busy, own_busy, now = iter([100.0, 100.0 + busy]), iter([5.0, 5.0 + own]), iter([0.0, 2.0])
    process = SimpleNamespace(cpu_times=lambda: (next(own_busy), 0.0, 99.0, 99.0), children=lambda recursive: [])
    monkeypatch.setattr(fingerprint, "_busy", lambda: next(machine_busy))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(fingerprint, "time", SimpleNamespace(sleep=lambda _: None, perf_counter=lambda: next(now)))
    assert fingerprint.foreign_load() == percent


def test_load_of_this_machine_is_a_share() -> None:
    assert 0 <= fingerprint.foreign_load(0.05) <= 100


def test_a_disturbance_that_ends_before_the_watch_does_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 seconds of CPU time others took 10, this process 8, a child that runs 6 and one that has ended meanwhile 4."""
    machine_busy, now = iter([0.0, 28.0]), iter([0.0, 10.0])

    def process(before: tuple[float, ...], after: tuple[float, ...]) -> SimpleNamespace:
        times = iter([before, after])
        return SimpleNamespace(cpu_times=lambda: next(times))

    def gone() -> tuple[float, ...]:
        raise psutil.NoSuchProcess(1)

    # The child that ended had worked for 2 s before, and 6 s when its parent was told.
    ended = iter([process((1, 1, 0, 0), ()), SimpleNamespace(cpu_times=gone)])
    runs = process((3, 0, 0, 0), (7, 1, 0.5, 0.5))
    own = process((1, 1, 0, 0), (6, 4, 5, 1))
    own.children = lambda recursive: [runs, next(ended)] if recursive else []
    monkeypatch.setattr(fingerprint, "_busy", lambda: next(machine_busy))
    monkeypatch.setattr(psutil, "Process", lambda: own)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(fingerprint, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert fingerprint.watch_foreign_load()() == 25
