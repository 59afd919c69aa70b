"""The time left, worked out by hand from made-up clocks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from optimize.progress.estimate import RunEstimate, in_words

SHARES = {"load": 5.0, "search": 50.0, "compile": 25.0, "measure": 20.0}


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(clock: Clock) -> RunEstimate:
    return RunEstimate(SHARES, clock)


def test_the_example_of_the_module(run: RunEstimate, clock: Clock) -> None:
    assert (run.remaining, run.fraction) == (None, 0)
    run.begin("load")
    clock.now += 6
    run.begin("search")
    assert (run.remaining, run.fraction) == (None, 0.05)
    clock.now += 54
    run.begin("compile")
    clock.now += 10
    pace = 60 / 55
    assert run.remaining == pytest.approx(25 * pace - 10 + 20 * pace)
    assert run.fraction == pytest.approx(70 / (70 + 45 * pace - 10))


def test_a_short_first_part_is_no_pace(run: RunEstimate, clock: Clock) -> None:
    run.begin("load")
    clock.now += 1
    run.begin("search")
    clock.now += 1000
    assert run.remaining is None


def test_steps_say_more_than_shares(run: RunEstimate, clock: Clock) -> None:
    run.begin("load")
    clock.now += 5
    run.begin("search", steps=10)
    clock.now += 8
    run.end_step()
    assert run.remaining is None
    clock.now += 8
    run.end_step()
    # 2 of 10 steps took 16 s: 64 s to go; so load and search take 85 s for 55 shares, and 45 shares are left
    assert run.remaining == pytest.approx(64 + 45 * 85 / 55)


def test_more_steps_than_expected_never_end_the_run(run: RunEstimate, clock: Clock) -> None:
    run.begin("search", steps=4)
    for _ in range(12):
        clock.now += 10
        run.end_step()
    assert run.remaining == pytest.approx(120 / 4 + 45 * 150 / 50)


def test_a_part_in_overtime_goes_on_for_a_quarter_of_it(run: RunEstimate, clock: Clock) -> None:
    run.begin("search")
    clock.now += 50
    run.begin("compile")
    clock.now += 400
    assert run.remaining == pytest.approx(100 + 20)
    run.begin("measure")  # compile took 400 s instead of 25: the pace adapts
    assert run.remaining == pytest.approx(20 * 450 / 75)


def test_parts_may_be_left_out_and_unknown_ones_change_nothing(run: RunEstimate, clock: Clock) -> None:
    run.begin("search")
    run.begin("nothing")
    clock.now += 50
    run.begin("search", steps=3)
    run.begin("measure")
    assert run.remaining == pytest.approx(20)
    assert run.part == "measure"


def test_at_the_end_nothing_is_left(clock: Clock) -> None:
    run = RunEstimate({"only": 1.0}, clock)
    assert run.fraction == 0
    run.begin("only", steps=2)
    run.end_step()
    run.end_step()
    assert run.remaining == 0
    assert run.fraction == 1


def test_the_fraction_never_leaves_its_range(run: RunEstimate, clock: Clock) -> None:
    for part in SHARES:
        run.begin(part, steps=2 if part == "search" else None)
        for _ in range(4):
            clock.now += 3
            run.end_step()
            assert 0 <= run.fraction <= 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "estimating"),
        (0, "a few seconds left"),
        (14, "about 10 s left"),
        (89, "about 90 s left"),
        (95, "about 2 min left"),
        (3500, "about 58 min left"),
        (3599, "about 1 h left"),
        (4000, "about 1 h 10 min left"),
        (7140, "about 2 h left"),
        (30000, "about 8 h left"),
    ],
)
def test_the_time_left_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_what_was_said_in_seconds_is_not_taken_from_shares(run: RunEstimate, clock: Clock) -> None:
    run.begin("load")
    clock.now += 1
    run.expect({"compile": 20.0, "measure": 40.0, "nothing": 9.0})
    run.begin("search", steps=4)
    assert run.remaining is None
    for _ in range(2):
        clock.now += 15
        run.end_step()
    assert run.remaining == 30 + 20 + 40
    run.begin("compile")
    clock.now += 5
    assert run.remaining == 15 + 40
    clock.now += 35
    assert run.remaining == 10 + 40  # overdue: a quarter more of the 40 s


def test_a_part_with_a_limit_ends_there(run: RunEstimate, clock: Clock) -> None:
    run.expect({"compile": 20.0, "measure": 40.0})
    run.limit("search", 100)
    run.begin("load")
    clock.now += 10
    run.begin("search", steps=50)
    assert run.remaining == 90 + 20 + 40
    for _ in range(5):
        clock.now += 6
        run.end_step()
    assert run.remaining == 60 + 60
    clock.now += 500
    assert run.remaining == 60


def test_steps_are_timed_from_when_they_begin(run: RunEstimate, clock: Clock) -> None:
    run.expect({"compile": 0.0, "measure": 0.0})
    run.begin("search")
    clock.now += 1000  # choosing images, which is no step
    run.begin("search", steps=4)
    for _ in range(2):
        clock.now += 10
        run.end_step()
    assert run.remaining == 20
