"""Take an unreliable timing again: wait briefly for a quiet machine, measure once more, keep the steadiest measurement.

The measurement that is kept is chosen by how steady it was, never by how fast: a choice by speed would make every model look faster than it
is. Worked example: the first measurement has 2 doubtful figures, the second 0 and is slower: the second one counts, and there is no third.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from optimize.hardware.machine import BUSY_PERCENT, foreign_load
from optimize.progress import note, timed
from optimize.progress.deadline import time_left

T = TypeVar("T")

TRIES = 4
"""Largest number of times that one measurement is taken."""
EXTRA_S = 60.0
"""No further measurement is begun that would end later than this after the end of the first, seconds."""
MAX_SHARE = 0.25
"""Share of the time that a run has left for repeating a measurement; it counts only where there is a time budget."""
QUIET_S = 5.0
"""Longest wait for a quiet machine before another measurement, seconds."""


@dataclass(frozen=True)
class Taken(Generic[T]):
    """A measurement.

    Args:
        value: steadiest of the measurements that were taken.
        times: number of measurements that were taken.
        doubtful: number of doubtful figures in `value`; 0 where all are reliable.
    """

    value: T
    times: int
    doubtful: int

    def note(self, what: str) -> str | None:
        """Return a sentence about the repeated measurement; None where the first one was reliable.

        Args:
            what: what was measured, such as "batch 1".
        """
        if self.times == 1:
            return None
        end = "which is still not measured reliably" if self.doubtful else "which is reliable"
        return f"{what} was timed {self.times} times, since the machine was busy or had not settled: the steadiest counts, {end}"


def steadiest(
    take: Callable[[], T],
    doubtful: Callable[[T], int],
    *,
    serious: int = 1,
    extra_s: float = EXTRA_S,
    wait: Callable[[], None] | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Taken[T]:
    """Measure, and measure again while figures are not reliable; at most `TRIES` times, and only as long as `extra_s` allows.

    Args:
        take: function that measures once.
        doubtful: function that counts the doubtful figures of a measurement; 0 ends it.
        serious: number of doubtful figures from which on a measurement is taken more than twice.
        extra_s: no further measurement is begun that would end later than this after the end of the first, seconds.
        wait: function that returns when the machine is quiet, or after a moment; only a test gives another one.
        timer: function that returns seconds, rising; only a test gives another one.
    """
    started = timer()
    best = take()
    min_doubts, times, ended = doubtful(best), 1, timer()
    # the next measurement is expected to take as long as the first did
    lasted = ended - started

    def in_time() -> bool:
        return timer() - ended + lasted <= min(extra_s, MAX_SHARE * time_left())

    while min_doubts >= (1 if times == 1 else max(1, serious)) and times < TRIES and in_time():
        with timed("wait for a quiet machine"):
            (wait or await_quiet)()
        again, times = take(), times + 1
        # strictly fewer doubts: of equally doubtful measurements the first stays, whichever is the faster
        if doubtful(again) < min_doubts:
            best, min_doubts = again, doubtful(again)
    return Taken(best, times, min_doubts)


def await_quiet(look: Callable[[], float] = foreign_load, timer: Callable[[], float] = time.perf_counter) -> None:
    """Return as soon as other processes use little of this machine, or after `QUIET_S`.

    Args:
        look: function that watches for a moment and returns the percent of the machine that other processes use.
        timer: function that returns seconds, rising.
    """
    end = timer() + QUIET_S
    while (percent := look()) > BUSY_PERCENT:
        # a machine that never gets quiet must not stop the run: the measurement is taken, and marked as doubtful
        if timer() >= end:
            note(f"other processes use {percent:.0f} % of this machine: it is timed again all the same")
            return
