"""Time one model in a fresh process, block by block, on request.

`python -m optimize.measure.timing_process` is that process. It reads one JSON object a line and answers with one JSON object a line:

    measuring process                                       timing process
    {"artifact": …, "batch": 1, "threads": 1, "seed": 0}   ->   opens the model, predicts until a call is as fast as it gets
                                                          <-   {"call_ns": 48000}
    {"calls": 20, "settle": 2}                            ->   2 untimed calls, then 20 timed ones
                                                          <-   {"ns": 958000}
    closes the input, or dies                             ->   ends

A block of many calls is timed as a whole, since a single call of 0.05 ms is as short as the disturbances of the timer. With one thread,
the time in which it waited for a core is taken off (`core_waits`): it is that of the machine and not of the model. The input also
ends when the measuring process dies, in whatever way, so no timing process is left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from optimize.backends.artifact import Artifact
from optimize.backends.session import gc_paused
from optimize.errors import OptimizeError
from optimize.measure.child_process import child_process
from optimize.measure.core_waits import core_waits
from optimize.measure.memory import answering, importer, last_words, model_in_words, source

WARM_NS = 100_000_000
"""Nanoseconds for which a model runs before its first timed block, and twice at least."""


@dataclass(frozen=True)
class TimingProcess:
    """An open model in a process of its own.

    Args:
        model: what the process opened, for errors.
        child: the process.
        errors: file that its standard error goes to.
        call_ns: nanoseconds of its fastest call while it warmed up.
    """

    model: Artifact | Mapping[str, object]
    child: subprocess.Popen[str]
    errors: IO[str]
    call_ns: int = 0

    def request(self, **command: object) -> None:
        """Send a command; the answer is read by `answer`, so that two processes can work at the same time."""
        with suppress(BrokenPipeError):  # it died; `answer` says why
            print(json.dumps(command, default=str), file=self.child.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Return the answer to the oldest command without one.

        Raises:
            OptimizeError: when the process has failed; its last words are in the text.
        """
        line = self.child.stdout.readline() if self.child.stdout else ""
        if line:
            return dict(json.loads(line))
        code = self.child.wait()
        self.errors.seek(0)
        raise OptimizeError(f"latency of {model_in_words(self.model)} could not be measured: {last_words(self.errors.read(), code)}.")


@contextmanager
def timing_processes(
    models: Sequence[Artifact | Mapping[str, object]],
    *,
    batch: int = 1,
    threads: int | None = None,
    seed: int = 0,
    slowdowns: Sequence[float] = (),
) -> Iterator[list[TimingProcess]]:
    """Open every model in a fresh process of its own, all at the same time; end the processes when the block ends.

    Args:
        models: artifacts, or arguments of `load_model`, as in `peak_memory`; processes are started in this order.
        batch: number of inputs in one call.
        threads: number of threads of each process, as in `build`.
        seed: seed of the inputs, which are the same in all processes.
        slowdowns: for each model, the share by which it is made slower, as in `block_ns`, to test that this is caught. Empty for none.

    Raises:
        OptimizeError: when a process fails.
    """
    shared = {"batch": batch, "threads": threads, "seed": seed}
    with ExitStack() as started:
        processes = [
            started.enter_context(_process(model, {**source(model), **shared, "slowdown": slowdown}))
            for model, slowdown in zip(models, slowdowns or [0.0] * len(models), strict=True)
        ]
        yield [replace(process, call_ns=process.answer()["call_ns"]) for process in processes]


@contextmanager
def _process(model: Artifact | Mapping[str, object], request: Mapping[str, object]) -> Iterator[TimingProcess]:
    with child_process("optimize.measure.timing_process") as (child, errors):
        process = TimingProcess(model, child, errors)
        process.request(**request)
        yield process


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Open the model of the first line, and time blocks until the lines end."""
    import numpy as np

    request: dict[str, Any] = json.loads(lines.readline())
    with importer(request)() as session:
        inputs = np.random.default_rng(request["seed"]).standard_normal((request["batch"], *session.input_shape), dtype=np.float32)

        def call() -> object:
            return session.predict(inputs)

        with gc_paused():
            print(json.dumps({"call_ns": warm_call_ns(call)}), file=answers, flush=True)
            # Of several threads that wait at the same time the sum would be too much, and threads of one process also wait for each other.
            waited_ns = core_waits() if request["threads"] == 1 else lambda: 0
            for line in lines:
                command = json.loads(line)
                _prepare(call, command)
                taken = block_ns(call, command["calls"], request["slowdown"], waited_ns)
                print(json.dumps({"ns": taken}), file=answers, flush=True)


def warm_call_ns(call: Callable[[], object], *, warm_ns: int = WARM_NS, timer: Callable[[], int] = time.perf_counter_ns) -> int:
    """Call for a while, and return the nanoseconds of the fastest call; it says how many calls make a block."""
    start, fastest, calls = timer(), sys.maxsize, 0
    while calls < 2 or timer() - start < warm_ns:
        before = timer()
        call()
        fastest, calls = min(fastest, timer() - before), calls + 1
    return fastest


def _prepare(call: Callable[[], object], command: Mapping[str, Any]) -> None:
    if command.get("cores"):
        _bind(command["cores"])
    for _ in range(command.get("settle", 0)):
        call()
    # The clock is that of the whole system, so two processes that wait for the same moment start together.
    while time.perf_counter_ns() < command.get("start_ns", 0):
        pass


def _bind(cores: Sequence[int]) -> None:
    """Let every thread of this process run on these cores only; a runtime's own threads are bound by their numbers, one by one."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread), cores)


def block_ns(call: Callable[[], object], calls: int, slowdown: float = 0.0, waited_ns: Callable[[], int] = lambda: 0) -> int:
    """Return the nanoseconds that so many calls take in a row, without those in which they waited for a core.

    Args:
        call: does the work once.
        calls: number of calls.
        slowdown: share of the calls' own time that is spent once more, doing nothing. Their own time is that without the moments in which
            another process had the core: the CPU time of this process, or with several threads the time that passed.
        waited_ns: returns the nanoseconds waited for a core so far, as `core_waits` gives it.
    """
    cpu, start, waited = time.process_time_ns(), time.perf_counter_ns(), waited_ns()
    for _ in range(calls):
        call()
    if slowdown:
        own_ns = min(time.process_time_ns() - cpu, time.perf_counter_ns() - start)
        # CPU time again: like work that takes longer, the wait is longer when another process takes the core away
        end = time.thread_time_ns() + round(slowdown * own_ns)
        while time.thread_time_ns() < end:
            pass
    # The waits are read within the time that is taken, so no wait is taken off that lies outside; none at all where a thread has ended.
    waits = max(0, waited_ns() - waited)
    return time.perf_counter_ns() - start - waits


def _own_output() -> IO[str]:
    """Return what was the standard output; whatever a runtime prints from now on goes to standard error."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


if __name__ == "__main__":
    with answering():
        serve(sys.stdin, _own_output())
    # No destructors: a runtime that takes its time to shut down has nothing left to lose.
    os._exit(0)
