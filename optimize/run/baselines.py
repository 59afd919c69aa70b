"""The artifact beside every fair baseline, in the same rounds: the original in torch eager, and in FP32 in every runtime of the CPU.

Torch eager alone would flatter: a runtime without any compression is often twice as fast. A baseline whose runtime is not installed is left
out, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from optimize.hardware.machine import watch_foreign_load
from optimize.measure.latency import Latency, interleave, ratio
from optimize.measure.memory import peak_memory
from optimize.measure.reliability import Reliability, doubtful, reliability
from optimize.measure.retake import steadiest
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import stage
from optimize.run.in_memory import NOT_RELOADED

SECONDS = 4.0
MIN_ROUNDS = 20
EAGER = "torch eager"
ARTIFACT = "artifact"


@dataclass(frozen=True, eq=False)
class Profile:
    """The artifact and its baselines, measured. A contender is the artifact, or a baseline.

    Args:
        latency: batch size -> contender -> samples.
        peak_memory_bytes: contender -> peak of a fresh process; None where it could not be measured.
        size_bytes: contender -> bytes on disk.
        notes: which baselines are missing, and why; what was timed several times.
        reliable: batch size -> contender -> whether its latency is to be relied on.
        load_percent: batch size -> percent of the machine that other processes used while it was timed.
    """

    latency: Mapping[int, Mapping[str, Latency]]
    peak_memory_bytes: Mapping[str, int | None]
    size_bytes: Mapping[str, int]
    notes: tuple[str, ...]
    reliable: Mapping[int, Mapping[str, Reliability]] = field(default_factory=dict)
    load_percent: Mapping[int, float] = field(default_factory=dict)

    def of(self, contender: str) -> dict[str, Any]:
        """One contender's figures, as the report shows them."""
        return {
            "latency_ms": {str(batch): rounds[contender].as_dict() for batch, rounds in self.latency.items()},
            "peak_memory_bytes": self.peak_memory_bytes[contender],
            "size_bytes": self.size_bytes[contender],
        }

    @property
    def baselines(self) -> dict[str, dict[str, Any]]:
        """Every contender but the artifact."""
        return {name: self.of(name) for name in self.size_bytes if name != ARTIFACT}

    @property
    def reliability(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Batch size -> contender -> whether to rely on its latency, as the report shows it."""
        return {str(batch): {name: each.as_dict() for name, each in found.items()} for batch, found in self.reliable.items()}

    def doubts(self, batch: int) -> tuple[str, ...]:
        """Why the artifact's own latency at a batch size is not to be relied on; empty where it is, or was not asked."""
        found = self.reliable.get(batch, {}).get(ARTIFACT)
        return () if found is None else found.reasons

    @property
    def speedup(self) -> dict[str, dict[str, dict[str, float]]]:
        """Batch size -> baseline -> how many times faster the artifact is."""
        return {
            str(batch): {name: ratio(each, rounds[ARTIFACT]).as_dict() for name, each in rounds.items() if name != ARTIFACT}
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
        file: the file of its weights.
        reload: arguments of `load_model` with which a fresh process loads it; None where none can, and its memory is not measured.
        onnx: the original, exported.
        artifact: the compiled model that would ship.
        inputs: n -> a batch of n real inputs, (n, C, *spatial).
        scratch: folder for the baselines' artifacts.
        batches: batch sizes to time.
        threads: of every runtime alike; None leaves each its own choice.
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
            try:
                compiled = backend(target).convert(onnx, scratch / target, "f32")
                backend(target).build(compiled, threads=threads).close()
            except Exception as problem:  # whatever a runtime raises about a network that it cannot take
                notes.append(f"{name} is not among the baselines: {runtime_reason(problem)}")
            else:
                models[f"{name} f32"] = compiled
    models[ARTIFACT] = artifact
    with ExitStack() as opened:
        sessions = {name: opened.enter_context(_open(model, original, threads)) for name, model in models.items()}
        taken = {batch: steadiest(partial(_time, sessions, inputs(batch)), _doubts) for batch in batches}
    timed = {batch: each.value for batch, each in taken.items()}
    notes += [said for batch, each in taken.items() if (said := each.note(f"batch {batch}"))]
    memory: dict[str, int | None] = {}
    for name, model in models.items():
        opened_by = reload if model is None else model
        if opened_by is None:
            memory[name] = None
            notes.append(NOT_RELOADED)
            continue
        with stage(f"memory of {name}"):
            memory[name] = peak_memory(opened_by, batch=max(batches), threads=threads).peak_bytes
    return Profile(
        {batch: each.latency for batch, each in timed.items()},
        memory,
        {name: file.stat().st_size if model is None else model.size_bytes for name, model in models.items()},
        tuple(notes),
        {batch: each.reliable for batch, each in timed.items()},
        {batch: each.load_percent for batch, each in timed.items()},
    )


def _open(model: Artifact | None, original: Candidate, threads: int | None) -> Session:
    """A session of an artifact; of the original in torch where it is None."""
    return eager.build(original, threads=threads) if model is None else backend(model.target).build(model, threads=threads)


class _Timed(NamedTuple):
    """One batch size of a `Profile`."""

    latency: dict[str, Latency]
    reliable: dict[str, Reliability]
    load_percent: float


def _doubts(timed: _Timed) -> int:
    """How many contenders' figures are not to be relied on; those of the headline, the artifact and its fastest baseline, weigh most."""
    baselines = {name: latency for name, latency in timed.latency.items() if name != ARTIFACT}
    headline = {ARTIFACT, min(baselines, key=lambda name: baselines[name].p50)}
    first = doubtful({name: each for name, each in timed.reliable.items() if name in headline})
    return first * len(timed.latency) + doubtful(timed.reliable)


def _time(sessions: Mapping[str, Session], batch: Floats) -> _Timed:
    calls = {name: partial(each.predict, batch) for name, each in sessions.items()}
    with stage(f"latency at batch {len(batch)}"):
        warm = warm_up(calls, most_s=BRIEF_S)
        taken = watch_foreign_load()
        latency = interleave(calls, seconds=SECONDS, min_rounds=MIN_ROUNDS)
        busy = taken()
    return _Timed(latency, reliability(latency, load_percent={"during": busy}, unsettled=warm.unsettled), busy)
