"""Work ends between two of its items once its time is up, and never in the middle of one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import inf

import pytest

from optimize.errors import OutOfTime
from optimize.progress import track
from optimize.progress.deadline import Deadline, check_deadline, not_enforced, time_left


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def worked(clock: Clock, items: int, seconds: float) -> int:
    """How many items were done, each of so many seconds."""
    done = 0
    try:
        for _ in track(range(items), "work"):
            clock.now += seconds
            done += 1
    except OutOfTime:
        return done
    return done


@pytest.mark.parametrize(("seconds", "done"), [(1, 10), (3, 4), (10, 1), (500, 1)])
def test_no_item_begins_after_the_deadline(seconds: float, done: int) -> None:
    clock = Clock()
    with Deadline(10, clock).enforced():
        assert worked(clock, 10, seconds) == done
    clock.now = 0
    assert worked(clock, 10, seconds) == 10


def test_work_that_is_complete_is_not_thrown_away() -> None:
    clock = Clock()
    with Deadline(10, clock).enforced():
        for _ in track(range(1), "work"):
            clock.now = 100
        with pytest.raises(OutOfTime):
            check_deadline()


def test_of_two_deadlines_the_earlier_one_counts() -> None:
    clock = Clock()
    for outer, inner in ((5, 50), (50, 5)):
        clock.now = 0
        with Deadline(outer, clock).enforced(), Deadline(inner, clock).enforced():
            assert worked(clock, 10, 3) == 2


def test_processes_that_wait_for_each_other_are_not_stopped() -> None:
    clock = Clock()
    with Deadline(5, clock).enforced():
        with not_enforced():
            assert worked(clock, 10, 3) == 10
        with pytest.raises(OutOfTime):
            check_deadline()


def test_a_deadline_that_is_announced_stops_nothing() -> None:
    clock = Clock()
    assert time_left() == inf
    with Deadline(5, clock).announced():
        assert worked(clock, 10, 3) == 10
        assert time_left() == -25
    assert time_left() == inf


def test_no_failure_of_a_runtime_hides_it() -> None:
    with pytest.raises(OutOfTime), suppress(Exception):
        Deadline(0, Clock()).require()
    Deadline.after(1000).require(900)
    Deadline.after(inf).require(10**9)
