"""Waits for a core are read as the kernel writes them, and taken off a block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.measure import timing_process
from optimize.measure.core_waits import TASKS, core_waits
from optimize.measure.timing_process import block_ns


def write(tasks: Path, **waited: int) -> None:
    """A folder for each thread: nanoseconds run, nanoseconds waited, times."""
    for thread, ns in waited.items():
        (tasks / thread).mkdir(exist_ok=True)
        (tasks / thread / "schedstat").write_text(f"123456789 {ns} 42\n", encoding="utf-8")


def test_the_waits_of_all_threads_are_added(tmp_path: Path) -> None:
    write(tmp_path, main=1000, worker=20)
    waited_ns = core_waits(tmp_path)
    assert waited_ns() == 1020
    write(tmp_path, main=5000)
    assert waited_ns() == 5020


def test_where_nothing_is_counted_nothing_is_waited(tmp_path: Path) -> None:
    assert core_waits(tmp_path / "nowhere")() == 0
    (tmp_path / "thread").mkdir()
    assert core_waits(tmp_path)() == 0


@pytest.mark.skipif(not (TASKS / "self").parent.exists(), reason="this system does not count waits")
def test_this_process_only_ever_waits_longer() -> None:
    waited_ns = core_waits()
    assert 0 <= waited_ns() <= waited_ns()


class Clock:
    """Stands in for the module `time`: 1000 ns pass with every look."""

    def __init__(self) -> None:
        self.passed = 0

    def perf_counter_ns(self) -> int:
        self.passed += 1000
        return self.passed

    def process_time_ns(self) -> int:
        return 0


@pytest.mark.parametrize(("waits", "expected"), [((0, 0), 1000), ((500, 700), 800), ((500, 0), 1000)])
def test_a_block_is_timed_without_its_waits(waits: tuple[int, int], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks at the clock are 1000 ns; waits that became fewer are those of a thread that has ended."""
    read: Iterator[int] = iter(waits)
    monkeypatch.setattr(timing_process, "time", Clock())
    assert block_ns(lambda: None, 1, 0.0, lambda: next(read)) == expected
