"""Timing processes answer while the block runs, and are gone afterwards, however it ends; what they time is counted by stand-ins."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.errors import OptimizeError
from optimize.measure import timing_process
from optimize.measure.timing_process import block_ns, timing_processes, warm_call_ns
from tests.measure import small

PARENT = """
import sys, time
from optimize.backends.artifact import Artifact
from optimize.measure.timing_process import timing_processes
with timing_processes([Artifact.read(sys.argv[1])], threads=1) as processes:
    print(processes[0].child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("timing")
    return backend("onnxruntime").convert(small.write(folder / "m.onnx"), folder / "artifact", "f32")


def works(number: int) -> bool:
    """A process that ended but that nobody has asked about does not."""
    try:
        return str(psutil.Process(number).status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_two_processes_answer_and_none_is_left(artifact: Artifact) -> None:
    ids = []

    def measured() -> None:
        with timing_processes([artifact, artifact], batch=2, threads=1) as processes:
            ids.extend(process.child.pid for process in processes)
            assert all(map(works, ids))
            assert all(process.call_ns > 0 for process in processes)
            for process in processes:
                process.request(calls=3, settle=1)
            assert all(process.answer()["ns"] > 0 for process in processes)
            if hasattr(os, "sched_getaffinity"):
                core = min(os.sched_getaffinity(0))
                processes[0].request(calls=1, cores=[core])
                processes[0].answer()
                threads = psutil.Process(ids[0]).threads()
                assert {tuple(os.sched_getaffinity(thread.id)) for thread in threads} == {(core,)}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured()
    assert len(set(ids)) == 2
    assert not any(map(works, ids))


def test_none_is_left_when_the_one_who_measures_is_killed(artifact: Artifact) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(artifact.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        assert works(number)
    finally:
        parent.kill()
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()
    assert soon(lambda: not works(number))


def test_one_that_fails_is_named_by_its_last_words(artifact: Artifact) -> None:
    lost = dataclasses.replace(artifact, folder=artifact.folder / "nowhere")
    with (
        pytest.raises(
            OptimizeError, match=r"^latency of `model` \(=.*nowhere\) could not be measured: .* failed \(`.*nowhere` is no artifact"
        ),
        timing_processes([lost], threads=1),
    ):
        pytest.fail("the block was entered without a model")


def test_one_that_dies_between_two_blocks_is_named_too(artifact: Artifact) -> None:
    with timing_processes([artifact], threads=1) as (process,):
        process.child.kill()
        process.child.wait()
        process.request(calls=1)
        with pytest.raises(OptimizeError, match=r"could not be measured: its process failed \(exit code -9\)"):
            process.answer()


def test_the_loop_answers_every_line_and_ends_with_its_input(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the timing says what it was asked: which calls, and how much slower."""
    asked: list[tuple[int, float]] = []
    monkeypatch.setattr(timing_process, "block_ns", lambda _, calls, slowdown, waited: asked.append((calls, slowdown)) or 7)
    opened = {"artifact": str(artifact.folder), "batch": 1, "threads": 1, "seed": 0, "slowdown": 0.05}
    lines = [opened, {"calls": 3, "settle": 2}, {"calls": 4}]
    answers = io.StringIO()
    timing_process.serve(io.StringIO("".join(f"{json.dumps(line)}\n" for line in lines)), answers)
    ready, *blocks = map(json.loads, answers.getvalue().splitlines())
    assert ready["call_ns"] > 0
    assert blocks == [{"ns": 7}] * 2
    assert asked == [(3, 0.05), (4, 0.05)]


def test_warming_up_takes_its_time_and_returns_the_fastest_call() -> None:
    """Calls of 30, 20, 10, 40, 40 ns by a made-up clock: warm after 100 ns, that is with the fourth."""
    now, lengths, calls = [0], iter([30, 20, 10, 40, 40]), []

    def call() -> None:
        calls.append(now[0])
        now[0] += next(lengths)

    assert warm_call_ns(call, warm_ns=100, timer=lambda: now[0]) == 10
    assert calls == [0, 30, 50, 60]


def test_a_slow_model_warms_up_twice() -> None:
    now, calls = [0], []

    def call() -> None:
        calls.append(now[0])
        now[0] += 1000

    warm_call_ns(call, warm_ns=100, timer=lambda: now[0])
    assert len(calls) == 2


class Clock:
    """Stands in for the module `time`: a call works for 1000 ns on each of some threads, and waits for 500 ns while another process works.

    Every look at the CPU clock of the thread takes a nanosecond.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.passed = self.used = 0

    def work(self) -> None:
        self.passed += 1500
        self.used += 1000 * self.threads

    def thread_time_ns(self) -> int:
        self.passed += 1
        self.used += 1
        return self.used

    def process_time_ns(self) -> int:
        return self.used

    def perf_counter_ns(self) -> int:
        return self.passed


@pytest.mark.parametrize(
    ("calls", "threads", "slowdown", "expected"),
    # 20 calls take 30 us, 20 us of it at work; by four threads 80 us of CPU time, of which no more than the 30 us that passed count
    [(1, 1, 0.0, 1500), (20, 1, 0.0, 30_000), (20, 1, 0.05, 31_000), (20, 1, 1.0, 50_000), (20, 4, 0.05, 31_500)],
)
def test_a_block_is_slowed_down_by_a_share_of_its_own_time(
    calls: int, threads: int, slowdown: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(threads)
    monkeypatch.setattr(timing_process, "time", clock)
    assert block_ns(clock.work, calls, slowdown) == pytest.approx(expected, abs=3)


def test_what_a_runtime_prints_is_no_answer(tmp_path: Path) -> None:
    own = "from optimize.measure.timing_process import _own_output as own"
    script = f"import os; {own}; print('answer', file=own(), flush=True); os.system('echo noise')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("answer\n", "noise\n")
