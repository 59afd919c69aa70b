"""A latency to be met on the target, and how the latency of a candidate is measured there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from optimize.backends import Backend
from optimize.backends.export_template import Exporter
from optimize.backends.session import gc_paused
from optimize.candidate import Candidate, Floats
from optimize.hardware.machine import BUSY_PERCENT, watch_foreign_load
from optimize.measure.latency import interleave
from optimize.measure.median_precision import precise
from optimize.measure.retake import await_quiet
from optimize.measure.warmup import warm_up
from optimize.progress import note, stage

TIMING_SECONDS = 0.5
BRIEF_SECONDS = 0.15
"""Seconds of a measurement that decides nothing."""
"""Longest time for warm-up, and longest time of the measurement."""
WARMUP_WINDOW_S = 0.1
PRECISION = 0.01
"""A measurement ends early once its median is known to 1 %."""


@dataclass(frozen=True)
class Goal:
    """A latency to be met.

    Args:
        latency_ms: largest median latency at batch 1, in milliseconds.
        measure: returns the latency of a candidate, compiled for the target, in milliseconds.
        unreliable_reason: why the goal itself is unreliable, where it follows from a disturbed measurement; else empty.
    """

    latency_ms: float
    measure: Callable[[Candidate], float]
    unreliable_reason: str = ""

    def is_met(self, candidate: Candidate) -> bool:
        """Return whether the candidate is fast enough; measure and print its latency."""
        taken = self.measure(candidate)
        note(f"             {taken:.3f} ms on the target; {self.latency_ms:.3f} ms are asked for")
        return taken <= self.latency_ms


def latency_ms(
    runtime: Backend,
    threads: int | None,
    example: Floats,
    candidate: Candidate,
    exporter: Exporter | None = None,
    *,
    brief: bool = False,
) -> float:
    """Return the median latency at batch 1 in the target's runtime, in the fastest of its float precisions; int8 may be faster still.

    Args:
        runtime: the target's backend.
        threads: number of threads of the runtime, or None for its own choice.
        example: one input, (1, C, *spatial).
        candidate: the candidate to compile.
        exporter: exporter that may have traced a network of the same topology; None to trace the candidate.
        brief: whether the figure decides nothing, so that a shorter measurement will do.
    """
    seconds = min(BRIEF_SECONDS, TIMING_SECONDS) if brief else TIMING_SECONDS
    with stage("latency on the target"), tempfile.TemporaryDirectory() as scratch, ExitStack() as opened:
        file = Path(scratch) / "model.onnx"
        (exporter or Exporter()).fill(candidate, file)
        calls = {}
        # each of the target's float precisions is timed, and the fastest counts: a bf16 machine is not judged by its f32 speed
        for precision in runtime.precisions():
            artifact = runtime.convert(file, Path(scratch) / precision, precision)
            calls[precision] = partial(opened.enter_context(runtime.build(artifact, threads=threads)).predict, example)
        with gc_paused():
            warm_up(calls, window_s=WARMUP_WINDOW_S, most_s=seconds)
            return min(latency.p50 for latency in interleave(calls, seconds=seconds, enough=precise(PRECISION)).values())


def latency_timer(
    runtime: Backend, threads: int | None, example: Floats, exporter: Exporter | None = None, *, brief: bool = False
) -> Callable[[Candidate], float]:
    """Return `latency_ms` as a function of the candidate; no candidate is timed twice, and one of each topology is traced."""
    # cached by identity: a candidate is never changed
    return cache(partial(latency_ms, runtime, threads, example, exporter=exporter or Exporter(), brief=brief))


def make_goal(measure: Callable[[Candidate], float], original: Candidate, target_ms: float | None, speedup: float | None) -> Goal | None:
    """Return the goal of a run: a latency, or a multiple of the original's speed in the same runtime; None when neither is asked for.

    The original is timed when the machine is quiet, or after a short wait; a goal from a disturbed measurement says so.

    Args:
        measure: returns a candidate's latency in milliseconds, from `latency_timer`.
        original: the candidate that the speed-up counts from.
        target_ms: the latency asked for, or None.
        speedup: the multiple of the original's speed asked for, or None.
    """
    if speedup is None:
        return None if target_ms is None else Goal(target_ms, measure)
    await_quiet()
    measured_load = watch_foreign_load()
    # the goal is a quotient: a disturbance of the original's one measurement would move the goal of the whole run
    original_ms, percent = measure(original), measured_load()
    doubt = "" if percent <= BUSY_PERCENT else f"other processes used {percent:.0f} % of this machine while the original was timed"
    return Goal(original_ms / speedup, measure, doubt)
