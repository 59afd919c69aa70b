"""A latency to be met on the target, and how a candidate's is measured there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from optimize.backends import Backend
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Floats
from optimize.hardware.machine import BUSY_PERCENT, watch_foreign_load
from optimize.measure.latency import interleave
from optimize.measure.retake import await_quiet
from optimize.measure.warmup import warm_up
from optimize.progress import note, stage

SECONDS = 0.5


@dataclass(frozen=True)
class Goal:
    """A latency to be met.

    Args:
        latency_ms: largest median at batch 1.
        measure: milliseconds of a candidate, compiled for the target.
        doubt: why the goal itself is not to be relied on, where it follows from a measurement; empty where it is.
    """

    latency_ms: float
    measure: Callable[[Candidate], float]
    doubt: str = ""

    def met(self, candidate: Candidate) -> bool:
        """Whether the candidate is fast enough."""
        taken = self.measure(candidate)
        note(f"             {taken:.3f} ms on the target; {self.latency_ms:.3f} ms are asked for")
        return taken <= self.latency_ms


def latency_ms(runtime: Backend, threads: int | None, one: Floats, candidate: Candidate) -> float:
    """Median at batch 1 in the target's runtime, in the fastest of its float precisions; int8 may be faster still.

    Args:
        runtime: the target's backend.
        threads: of the runtime.
        one: one input, (1, C, *spatial).
        candidate: what to compile.
    """
    with stage("latency on the target"), tempfile.TemporaryDirectory() as scratch, ExitStack() as opened:
        file = Path(scratch) / "model.onnx"
        export_onnx(candidate, file)
        calls = {}
        for precision in runtime.precisions():
            artifact = runtime.convert(file, Path(scratch) / precision, precision)
            calls[precision] = partial(opened.enter_context(runtime.build(artifact, threads=threads)).predict, one)
        warm_up(calls, most_s=SECONDS)
        return min(each.p50 for each in interleave(calls, seconds=SECONDS).values())


def latency_timer(runtime: Backend, threads: int | None, one: Floats) -> Callable[[Candidate], float]:
    """`latency_ms` on one runtime; no candidate is timed twice."""
    return cache(partial(latency_ms, runtime, threads, one))  # by identity: a candidate is never changed


def goal(measure: Callable[[Candidate], float], original: Candidate, target_ms: float | None, speedup: float | None) -> Goal | None:
    """The goal of a run: a latency, or so many times the original's speed in the same runtime; None when neither is asked for.

    The original is timed when the machine is quiet, as far as that comes soon; else the goal says that it is in doubt.

    Args:
        measure: from `clock`.
        original: the candidate that a speed-up counts from.
        target_ms: the latency asked for, or None.
        speedup: the multiple asked for, or None.
    """
    if speedup is None:
        return None if target_ms is None else Goal(target_ms, measure)
    await_quiet()
    busy = watch_foreign_load()
    original_ms, percent = measure(original), busy()
    doubt = "" if percent <= BUSY_PERCENT else f"other processes used {percent:.0f} % of this machine while the original was timed"
    return Goal(original_ms / speedup, measure, doubt)
