"""The contest of a case: every finished contender in turns, at both batch sizes, every sample kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.peers import eager
from benchmarks.studies.peers.cases import Ground
from benchmarks.studies.peers.contenders import TARGETS
from benchmarks.studies.peers.record import Record, put, reason
from benchmarks.studies.peers.roof import roof_ms
from optimize.backends import backend, versions
from optimize.backends.artifact import Artifact
from optimize.backends.session import Session
from optimize.hardware.machine import foreign_load, machine
from optimize.measure.latency import Latency, interleave
from optimize.measure.peaks import Peaks, peaks
from optimize.progress import note, stage

BATCHES = (1, 8)
FILE = "contest.json"
WARMUP, MIN_ROUNDS = 3, 25


def contest(ground: Ground, records: Sequence[Record], seconds: float) -> dict[str, Any]:
    """Time the contenders; those that cannot be opened any more are named with the reason.

    Args:
        ground: the case.
        records: of all contenders.
        seconds: shortest time of the rounds at one batch size.
    """
    found: dict[str, Any] = {"machine": machine(), "versions": versions(), "date": datetime.now(UTC).date().isoformat()}
    found |= {"load_percent": {}, "samples_ms": {}, "roof_ms": {}, "broken": {}}
    with ExitStack() as opened:
        sessions: dict[str, Session] = {}
        with stage(f"open the contenders of {ground.case.name}"):
            for record in records:
                if record.failed is not None:
                    continue
                try:
                    sessions[record.name] = opened.enter_context(_open(ground, record))
                    for batch in BATCHES:  # compiles, where that comes with the first call
                        sessions[record.name].predict(_inputs(ground, batch))
                except Exception as problem:  # as where it was made: a row, not the end
                    sessions.pop(record.name, None)
                    found["broken"][record.name] = reason(problem)
                    note(f"{record.name}: {found['broken'][record.name]}")
        for batch in BATCHES:
            calls = {name: partial(session.predict, _inputs(ground, batch)) for name, session in sessions.items()}
            before = foreign_load()
            with stage(f"{ground.case.name}: {len(calls)} contenders at batch {batch}"):
                timed = interleave(calls, seconds=seconds, min_rounds=MIN_ROUNDS, warmup=WARMUP)
            found["load_percent"][str(batch)] = {"before": before, "after": foreign_load()}
            found["samples_ms"][str(batch)] = {name: list(each.samples_ms) for name, each in timed.items()}
    found["roof_ms"] = _roofs(records, peaks(TARGETS))
    return found


def keep(folder: Path, found: Mapping[str, Any]) -> None:
    """Write a contest beside the records."""
    put(folder / FILE, json.dumps(found) + "\n")


def latencies(found: Mapping[str, Any]) -> dict[int, dict[str, Latency]]:
    """Batch size -> contender -> its samples."""
    return {int(batch): {name: Latency(tuple(each)) for name, each in taken.items()} for batch, taken in found["samples_ms"].items()}


def without_broken(records: Sequence[Record], found: Mapping[str, Any]) -> list[Record]:
    """The records, those that did not open marked as failed."""
    return [replace(each, failed=found["broken"][each.name]) if each.name in found["broken"] else each for each in records]


def _open(ground: Ground, record: Record) -> Session:
    if record.artifact is None:
        return eager.build(ground.original, record.target)
    artifact = Artifact.read(record.artifact)
    return backend(artifact.target).build(artifact)


def _inputs(ground: Ground, batch: int) -> Any:
    guard = ground.data.guard
    return guard.inputs(np.arange(batch) % len(guard))


def _roofs(records: Sequence[Record], found: Peaks) -> dict[str, dict[str, float]]:
    """Batch size -> contender -> its roof; those of which a peak is not known are left out."""
    roofs: dict[str, dict[str, float]] = {str(batch): {} for batch in BATCHES}
    for record in records:
        if record.artifact is None or record.failed is not None:
            continue
        for batch in BATCHES:
            try:
                roofs[str(batch)][record.name] = roof_ms(Artifact.read(record.artifact), found, batch)
            except Exception as problem:
                note(f"no roof for {record.name}: {reason(problem)}")
    return roofs
