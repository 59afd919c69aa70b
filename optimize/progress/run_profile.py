"""Record where the time of a run goes: seconds, CPU seconds, calls and peak memory of each stage.

Every moment belongs to one stage, the innermost that is open, so the seconds of all rows add up to those of the run:

    stage "judge"                      0 s ─────────────────── 10 s      5 s of its own
      stage "export to ONNX"                3 s ──── 8 s                 3 s of its own
        stage "simplify"                       4 s ─ 6 s                 2 s of its own

The recording needs no terminal and no thread: the clocks are read where a stage begins and where it ends. A stage costs a few microseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    import resource
except ImportError:  # Windows has no such module: CPU time of child processes and peaks between two readings are then left out
    resource = None  # type: ignore[assignment]

START = "start"
"""Part of a run before `begin_part` is called for the first time."""
OWN = "other"
"""Stage that stands for the time of a part in which no stage was open."""
FURTHER = "further stages"
MAX_ROWS = 60
"""Rows that a report gets; the shortest stages of a part beyond that are added up under `FURTHER`."""
READING_INTERVAL_S = 0.05
"""Resident memory is read at most this often: a reading takes about 20 microseconds."""


@dataclass(frozen=True)
class ProfileRow:
    """Time and memory of one stage in one part of a run.

    Args:
        part: name of the part of the run.
        stage: name of the stage; `OWN` for the time in which no stage was open.
        calls: how often the stage began.
        seconds: wall-clock time, without that of stages inside it.
        cpu_seconds: CPU time of all threads of the process and of child processes that ended, without that of stages inside it.
        peak_memory_bytes: largest resident memory of the process while the stage was open, stages inside it included; of a short stage
            the last reading before it. The memory of child processes is not in it.
    """

    part: str
    stage: str
    calls: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON."""
        times = {"seconds": round(self.seconds, 4), "cpu_seconds": round(self.cpu_seconds, 4)}
        return {"part": self.part, "stage": self.stage, "calls": self.calls, **times, "peak_memory_bytes": self.peak_memory_bytes}


class _Row:
    """A row that is still being added to."""

    __slots__ = ("calls", "cpu_seconds", "peak", "seconds")

    def __init__(self) -> None:
        self.calls, self.seconds, self.cpu_seconds, self.peak = 0, 0.0, 0.0, 0


class OpenStage:
    """A stage that has begun and not yet ended."""

    __slots__ = ("name", "row")

    def __init__(self, name: str, row: _Row) -> None:
        self.name, self.row = name, row


class RunProfile:
    """The profile of one run, recorded while it goes on.

    Args:
        clock: seconds, monotonic.
        cpu_clock: CPU seconds of the process and of its child processes that have ended.
        resident_bytes: resident memory of the process now.
        highest_bytes: highest resident memory of the process so far; 0 where the system does not tell.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] | None = None,
        resident_bytes: Callable[[], int] | None = None,
        highest_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock or _cpu_seconds
        self._resident_bytes, self._highest_bytes = resident_bytes or _resident_reader(), highest_bytes or _highest
        self._rows: dict[tuple[str, str], _Row] = {}
        self._open: list[OpenStage] = []
        self._part = START
        self._last = self.started = self._clock()
        self._last_cpu = self._cpu_clock()
        self._highest, self._read_at = self._highest_bytes(), self._last
        self._resident = self._resident_bytes()
        self._row(OWN).calls = 1

    def begin_part(self, name: str) -> None:
        """Let all that follows belong to the part `name`; a part that began before goes on."""
        self._advance()
        if name != self._part:
            self._part = name
            self._row(OWN).calls += 1

    def open(self, name: str) -> OpenStage:
        """Begin a stage inside the innermost one, and return it for `close`."""
        self._advance()
        opened = OpenStage(name, self._row(name))
        opened.row.calls += 1
        self._open.append(opened)
        return opened

    def close(self, stage: OpenStage) -> None:
        """End a stage. It need not be the innermost: a generator that nobody goes on with ends when it is collected."""
        self._advance()
        if stage in self._open:
            self._open.remove(stage)

    def tick(self) -> None:
        """Read the memory inside of a long stage; nothing is read more often than every `READING_INTERVAL_S`."""
        if self._clock() - self._read_at >= READING_INTERVAL_S:
            self._advance()

    def rows(self) -> tuple[ProfileRow, ...]:
        """Return the profile so far, in the order in which parts and stages first began."""
        self._advance()
        whole = [
            ProfileRow(part, stage, row.calls, row.seconds, row.cpu_seconds, row.peak)
            for (part, stage), row in self._rows.items()
            if row.seconds > 0 or stage != OWN
        ]
        return shortened(whole, MAX_ROWS)

    def as_dict(self) -> dict[str, Any]:
        """Return the profile so far as the report holds it."""
        rows = self.rows()
        return {
            "seconds": round(sum(row.seconds for row in rows), 4),
            "cpu_seconds": round(sum(row.cpu_seconds for row in rows), 4),
            "peak_memory_bytes": max((row.peak_memory_bytes for row in rows), default=0),
            "rows": [row.as_dict() for row in rows],
        }

    def seconds_of(self, part: str, stage: str | None = None) -> float:
        """Return the seconds of a part so far, or of one stage of it, without those of stages inside this one."""
        self._advance()
        return sum(row.seconds for (name, own), row in self._rows.items() if name == part and stage in (None, own))

    def _advance(self) -> None:
        """Add the time since the last call to the innermost stage, and the memory to all that are open."""
        now, cpu = self._clock(), self._cpu_clock()
        innermost = self._open[-1].row if self._open else self._row(OWN)
        innermost.seconds += now - self._last
        innermost.cpu_seconds += cpu - self._last_cpu
        self._last, self._last_cpu = now, cpu
        if now - self._read_at >= READING_INTERVAL_S:
            self._resident, self._read_at = self._resident_bytes(), now
        highest = self._highest_bytes()
        # Between two readings memory may have risen and fallen again. Where that was a new high of the process, the system still knows it.
        peak = max(self._resident, highest) if highest > self._highest else self._resident
        self._highest = highest
        for row in [stage.row for stage in self._open] or [innermost]:
            row.peak = max(row.peak, peak)

    def _row(self, stage: str) -> _Row:
        return self._rows.setdefault((self._part, stage), _Row())


class Timed:
    """A block of work as a stage of a profile; without a profile it does nothing.

    Args:
        profile: the profile to record in, or None.
        name: name of the stage.
    """

    __slots__ = ("_name", "_profile", "_stage")

    def __init__(self, profile: RunProfile | None, name: str) -> None:
        self._profile, self._name = profile, name
        self._stage: OpenStage | None = None

    def __enter__(self) -> None:
        if self._profile is not None:
            self._stage = self._profile.open(self._name)

    def __exit__(self, *raised: object) -> None:
        if self._profile is not None and self._stage is not None:
            self._profile.close(self._stage)


def shortened(rows: list[ProfileRow], most: int) -> tuple[ProfileRow, ...]:
    """Return at most about `most` rows: the shortest stages of each part become one row, so that the sums stay the same.

    >>> rows = [ProfileRow("search", name, 1, seconds, seconds, 10) for name, seconds in (("a", 5.0), ("b", 0.1), ("c", 0.2))]
    >>> [(row.stage, row.calls, round(row.seconds, 1)) for row in shortened(rows, 1)]
    [('a', 1, 5.0), ('further stages', 2, 0.3)]
    """
    if len(rows) <= most:
        return tuple(rows)
    longest = {id(row) for row in sorted(rows, key=lambda row: row.seconds, reverse=True)[:most]}
    result: list[ProfileRow] = []
    for part in dict.fromkeys(row.part for row in rows):
        own = [row for row in rows if row.part == part]
        result += [row for row in own if id(row) in longest]
        if rest := [row for row in own if id(row) not in longest]:
            calls, peak = sum(row.calls for row in rest), max(row.peak_memory_bytes for row in rest)
            seconds, cpu_seconds = sum(row.seconds for row in rest), sum(row.cpu_seconds for row in rest)
            result.append(ProfileRow(part, FURTHER, calls, seconds, cpu_seconds, peak))
    return tuple(result)


def _cpu_seconds() -> float:
    if resource is None:
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _highest() -> int:
    if resource is None:
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest  # bytes there, kibibytes elsewhere


def _resident_reader() -> Callable[[], int]:
    import psutil  # late: only a run needs it

    process = psutil.Process()
    return lambda: int(process.memory_info().rss)
