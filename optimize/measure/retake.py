"""A timing that is not to be relied on is taken again: wait briefly for a quiet machine, measure once more, keep the steadiest.

What is kept is chosen by how steady it was, never by how fast: choosing by speed would flatter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from optimize.hardware.machine import BUSY_PERCENT, foreign_load
from optimize.progress import note

T = TypeVar("T")

TRIES = 4
"""Times at most that one measurement is taken."""
EXTRA_S = 60.0
"""No further one is begun that would end later than this after the first had ended."""
QUIET_S = 5.0
"""Longest wait for a quiet machine before another one, seconds."""


@dataclass(frozen=True)
class Taken(Generic[T]):
    """A measurement.

    Args:
        value: the steadiest of those taken.
        times: how many were taken.
        doubtful: what was counted of the steadiest; 0 where all of it is to be relied on.
    """

    value: T
    times: int
    doubtful: int

    def note(self, what: str) -> str | None:
        """What a reader should know; None where the first was good.

        Args:
            what: was measured, such as "batch 1".
        """
        if self.times == 1:
            return None
        end = "which is still not measured reliably" if self.doubtful else "which is reliable"
        return f"{what} was timed {self.times} times, since the machine was busy or had not settled: the steadiest counts, {end}"


def steadiest(
    take: Callable[[], T],
    doubtful: Callable[[T], int],
    *,
    wait: Callable[[], None] | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Taken[T]:
    """Measure, and again while figures are not to be relied on; at most `TRIES` times, and only as long as `EXTRA_S` allows.

    Args:
        take: measures.
        doubtful: counts what is not to be relied on in a measurement; 0 ends it.
        wait: returns when the machine is quiet, or after a moment; only a test gives another one.
        timer: seconds, rising; likewise.
    """
    started = timer()
    best = take()
    fewest, times, ended = doubtful(best), 1, timer()
    lasted = ended - started
    while fewest and times < TRIES and timer() - ended + lasted <= EXTRA_S:
        (wait or await_quiet)()
        again, times = take(), times + 1
        if doubtful(again) < fewest:
            best, fewest = again, doubtful(again)
    return Taken(best, times, fewest)


def await_quiet(look: Callable[[], float] = foreign_load, timer: Callable[[], float] = time.perf_counter) -> None:
    """Return as soon as other processes use little of this machine, or after `QUIET_S`.

    Args:
        look: percent of the machine that others use, looked at for a moment.
        timer: seconds, rising.
    """
    end = timer() + QUIET_S
    while (percent := look()) > BUSY_PERCENT:
        if timer() >= end:
            note(f"other processes use {percent:.0f} % of this machine: it is timed again all the same")
            return
