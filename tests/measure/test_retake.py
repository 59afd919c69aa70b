"""What is not to be relied on is taken again, a bounded number of times, and the steadiest is kept."""

from __future__ import annotations

import pytest

from optimize.measure import retake
from optimize.measure.retake import Taken, await_quiet, steadiest
from optimize.progress.deadline import Deadline


class Clock:
    """Seconds that pass only while something is measured or waited for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(doubts: list[int], lasting: float, monkeypatch: pytest.MonkeyPatch, tries: int = 3) -> tuple[Taken[int], int]:
    """Measurements with so many doubtful figures each, the value being its place; and how often the machine was waited for."""
    monkeypatch.setattr(retake, "TRIES", tries)
    clock, places, waits = Clock(), iter(range(len(doubts))), []

    def take() -> int:
        clock.now += lasting
        return next(places)

    def wait() -> None:
        waits.append(clock.now)
        clock.now += 1.0

    return steadiest(take, lambda place: doubts[place], wait=wait, timer=clock), len(waits)


@pytest.mark.parametrize(
    ("doubts", "value", "times"),
    [
        ([0], 0, 1),
        ([4, 0], 1, 2),
        ([4, 2, 3], 1, 3),
        ([2, 2, 2], 0, 3),
        ([1, 4, 0], 2, 3),
    ],
)
def test_the_steadiest_is_kept(doubts: list[int], value: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, waits = taken(doubts, 7.0, monkeypatch)
    assert (found.value, found.times, found.doubtful, waits) == (value, times, doubts[value], times - 1)


def test_a_long_measurement_is_not_repeated_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """25 s, a wait of 1 s and 25 s fit into 60 s more, a third time does not: it would end 77 s after the first."""
    assert taken([1, 1, 0], 25.0, monkeypatch)[0].times == 3
    assert taken([1, 1, 0], 31.0, monkeypatch)[0].times == 2
    assert taken([1, 1, 0], 61.0, monkeypatch)[0].times == 1


def test_with_a_time_budget_a_measurement_is_repeated_only_where_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for left, times in ((100.0, 3), (20.0, 1)):
        with Deadline(left, lambda: 0.0).announced():
            found, _ = taken([4, 2, 1], 7.0, monkeypatch)
        assert found.times == times


def test_figures_that_do_not_count_are_taken_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two doubtful figures are serious here: one alone is worth one more measurement."""
    monkeypatch.setattr(retake, "TRIES", 4)
    for doubts, times in (([1, 1, 0], 2), ([2, 2, 1, 0], 3), ([2, 2, 2, 2], 4)):
        left = iter(doubts)
        assert steadiest(lambda left=left: next(left), lambda doubt: doubt, serious=2, wait=lambda: None).times == times


def test_a_note_says_how_often_and_whether_it_helped() -> None:
    assert Taken(0, 1, 5).note("batch 1") is None
    said = "batch 8 was timed 3 times, since the machine was busy or had not settled: the steadiest counts, which is "
    assert Taken(0, 3, 0).note("batch 8") == f"{said}reliable"
    assert Taken(0, 3, 1).note("batch 8") == f"{said}still not measured reliably"


@pytest.mark.parametrize(("loads", "looks"), [([5.0], 1), ([90.0, 40.0, 20.0, 0.0], 3), ([90.0] * 9, 5)])
def test_a_quiet_machine_is_waited_for_but_not_long(loads: list[float], looks: int) -> None:
    """One look takes a second here, and five seconds are the longest wait."""
    clock, left = Clock(), list(loads)

    def look() -> float:
        clock.now += 1.0
        return left.pop(0)

    await_quiet(look, clock)
    assert len(loads) - len(left) == looks
