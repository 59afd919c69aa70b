"""Measure the artifact beside its baselines: the original in torch eager, and the original in float32 in every runtime that reads ONNX.

Torch eager alone would flatter the artifact, because a runtime is often twice as fast without any compression. Example: torch eager 4.0 ms,
the original in OpenVINO 2.0 ms, the artifact 1.0 ms. Compression made the model twice as fast, the change of runtime the other half.

All of them are timed in the same rounds, one call each in turn, so that a machine that becomes slower does so for all. A baseline whose
runtime is not installed is left out with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from optimize.backends import backend, onnx_target_names, title
from optimize.backends import torch as eager
from optimize.backends.artifact import Artifact
from optimize.backends.error_reasons import runtime_reason
from optimize.backends.session import Session
from optimize.candidate import Candidate, Floats
from optimize.errors import TargetUnavailable
from optimize.files import size_bytes
from optimize.hardware.machine import watch_foreign_load
from optimize.measure.latency import Latency, interleave, ratio
from optimize.measure.median_precision import precise
from optimize.measure.memory import peak_memory
from optimize.measure.reliability import Reliability, doubtful, reliability
from optimize.measure.retake import steadiest
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import stage
from optimize.run.in_memory import NOT_RELOADED

SECONDS = 3.0
"""Longest time of one measurement."""
PRECISION, P99_SAMPLES = 0.005, 299
"""A measurement ends early once every median is steady and known to half a percent, and a 99th percentile can have a bound."""
MIN_ROUNDS = 20
EXTRA_SECONDS = 10.0
"""No measurement is repeated that would end later than this after the end of the first."""
MEMORY_PROCESSES = 2
"""Number of fresh processes that measure memory at once."""
EAGER = "torch eager"
ARTIFACT = "artifact"


@dataclass(frozen=True, eq=False)
class Profile:
    """Measurements of the artifact and its baselines. A contender is the artifact or a baseline.

    Args:
        latency: batch size -> contender -> latency samples in milliseconds.
        peak_memory_bytes: contender -> peak memory of a fresh process in bytes; None where it could not be measured.
        size_bytes: contender -> size on disk in bytes.
        notes: which baselines are missing and why, and which measurements were repeated.
        reliable: batch size -> contender -> whether its latency is reliable, and why not.
        load_percent: batch size -> percent of the machine that other processes used during the measurement.
    """

    latency: Mapping[int, Mapping[str, Latency]]
    peak_memory_bytes: Mapping[str, int | None]
    size_bytes: Mapping[str, int]
    notes: tuple[str, ...]
    reliable: Mapping[int, Mapping[str, Reliability]] = field(default_factory=dict)
    load_percent: Mapping[int, float] = field(default_factory=dict)

    def of(self, contender: str) -> dict[str, Any]:
        """Return the figures of one contender, as the report shows them."""
        return {
            "latency_ms": {str(batch): rounds[contender].as_dict() for batch, rounds in self.latency.items()},
            "peak_memory_bytes": self.peak_memory_bytes[contender],
            "size_bytes": self.size_bytes[contender],
        }

    @property
    def baselines(self) -> dict[str, dict[str, Any]]:
        """The figures of every contender but the artifact, by name."""
        return {name: self.of(name) for name in self.size_bytes if name != ARTIFACT}

    @property
    def reliability(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Batch size -> contender -> whether its latency is reliable, as the report shows it."""
        return {str(batch): {name: verdict.as_dict() for name, verdict in reliable.items()} for batch, reliable in self.reliable.items()}

    def doubts(self, batch: int) -> tuple[str, ...]:
        """Return why the artifact's latency at a batch size is not reliable; empty where it is, or where that was not measured."""
        verdict = self.reliable.get(batch, {}).get(ARTIFACT)
        return () if verdict is None else verdict.reasons

    @property
    def speedup(self) -> dict[str, dict[str, dict[str, float]]]:
        """Batch size -> baseline -> how many times faster the artifact is."""
        return {
            str(batch): {name: ratio(latency, rounds[ARTIFACT]).as_dict() for name, latency in rounds.items() if name != ARTIFACT}
            for batch, rounds in self.latency.items()
        }


def profile(
    original: Candidate,
    file: Path,
    reload: Mapping[str, object] | None,
    onnx: Path,
    artifact: Artifact,
    inputs: Callable[[int], Floats],
    *,
    scratch: Path,
    batches: tuple[int, ...],
    threads: int | None,
) -> Profile:
    """Measure the artifact and its baselines.

    Args:
        original: the network as it was loaded.
        file: file of the original's weights.
        reload: arguments of `load_model` with which a fresh process loads the original; None where none can: its memory is then not
            measured.
        onnx: ONNX file of the original.
        artifact: the compiled model that would ship.
        inputs: function from n to a batch of n real inputs, (n, C, *spatial) float32.
        scratch: folder for the artifacts of the baselines.
        batches: batch sizes to time.
        threads: number of threads of every runtime; None leaves the choice to each runtime.
    """
    models: dict[str, Artifact | None] = {EAGER: None}
    notes = []
    for target in onnx_target_names():
        name = title(target)
        try:
            backend(target).preflight()
        except TargetUnavailable as missing:
            notes.append(f"{name} is not among the baselines: {missing}")
            continue
        with stage(f"compile the original for {name}"):
            # opened once here: a network that a runtime compiles but cannot open must not end the measurement of all others
            try:
                compiled = backend(target).convert(onnx, scratch / target, "f32")
                backend(target).build(compiled, threads=threads).close()
            except Exception as problem:  # whatever a runtime raises about a network that it cannot take
                notes.append(f"{name} is not among the baselines: {runtime_reason(problem)}")
            else:
                models[f"{name} f32"] = compiled
    # last, so that the order of the report is baselines first
    models[ARTIFACT] = artifact
    # All sessions are open at once, since the rounds alternate between them; memory is measured afterwards, each in a process of its own.
    with ExitStack() as opened:
        sessions = {name: opened.enter_context(_open(model, original, threads)) for name, model in models.items()}
        retaken = partial(steadiest, doubtful=_doubts, serious=len(sessions), extra_s=EXTRA_SECONDS)
        taken = {batch: retaken(partial(_time, sessions, inputs(batch))) for batch in batches}
    timed = {batch: attempt.value for batch, attempt in taken.items()}
    notes += [said for batch, attempt in taken.items() if (said := attempt.note(f"batch {batch}"))]
    openers = {name: reload if model is None else model for name, model in models.items()}
    notes += [NOT_RELOADED for opener in openers.values() if opener is None]
    return Profile(
        {batch: measured.latency for batch, measured in timed.items()},
        # at the largest batch size, where memory is largest
        _peak_memory_bytes(openers, max(batches), threads),
        {name: size_bytes(file) if model is None else model.size_bytes for name, model in models.items()},
        tuple(notes),
        {batch: measured.reliable for batch, measured in timed.items()},
        {batch: measured.load_percent for batch, measured in timed.items()},
    )


def _peak_memory_bytes(
    openers: Mapping[str, Artifact | Mapping[str, object] | None], batch: int, threads: int | None
) -> dict[str, int | None]:
    """Return the peak memory of each contender in a fresh process of its own; None for what no fresh process can open."""

    def measured(opener: Artifact | Mapping[str, object] | None) -> int | None:
        return None if opener is None else peak_memory(opener, batch=batch, threads=threads).peak_bytes

    # Two at once: most of their time is spent on imports, and another process changes the time that one takes, but not its memory.
    with stage("memory in fresh processes"), ThreadPoolExecutor(MEMORY_PROCESSES) as pool:
        return dict(zip(openers, pool.map(measured, openers.values()), strict=True))


def _open(model: Artifact | None, original: Candidate, threads: int | None) -> Session:
    """Open a session of an artifact; with None, of the original in torch."""
    return eager.build(original, threads=threads) if model is None else backend(model.target).build(model, threads=threads)


class _Timed(NamedTuple):
    """The measurements at one batch size."""

    latency: dict[str, Latency]
    reliable: dict[str, Reliability]
    load_percent: float


def _doubts(timed: _Timed) -> int:
    """Return how unreliable a measurement is: the number of doubtful contenders, where the two of the headline count most.

    The headline compares the artifact with its fastest baseline. With three contenders, one doubtful figure of the headline gives 3 + 1 and
    one of the others gives 1, so `steadiest` repeats a measurement for the headline first.
    """
    baselines = {name: latency for name, latency in timed.latency.items() if name != ARTIFACT}
    headline = {ARTIFACT, min(baselines, key=lambda name: baselines[name].p50)}
    first = doubtful({name: verdict for name, verdict in timed.reliable.items() if name in headline})
    return first * len(timed.latency) + doubtful(timed.reliable)


def _time(sessions: Mapping[str, Session], batch: Floats) -> _Timed:
    """Time all sessions on one batch, (n, C, *spatial), in alternating rounds."""
    calls = {name: partial(session.predict, batch) for name, session in sessions.items()}
    with stage(f"latency at batch {len(batch)}"):
        # the first calls allocate memory and choose kernels, so they are not measured
        warm = warm_up(calls, most_s=BRIEF_S)
        # the load of other processes while the rounds run says whether their figures can be trusted
        taken = watch_foreign_load()
        latency = interleave(calls, seconds=SECONDS, min_rounds=MIN_ROUNDS, enough=precise(PRECISION, P99_SAMPLES))
        busy = taken()
    return _Timed(latency, reliability(latency, load_percent={"during": busy}, unsettled=warm.unsettled), busy)
