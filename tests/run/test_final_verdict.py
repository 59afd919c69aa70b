"""A latency that was asked for: reached, missed, or open where it was not measured reliably. All figures are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from optimize.guard.rail import Outcome
from optimize.guard.verdict import Verdict
from optimize.measure.latency import Latency
from optimize.measure.reliability import Reliability
from optimize.run.baselines import ARTIFACT, Profile
from optimize.run.final_verdict import with_latency_goal
from optimize.run.result import Compiled
from optimize.searching.goal import Goal

BUSY = "other processes used 64 % of the CPU during the measurement, more than 20 %"
RIVAL = "other processes used 50 % of this machine while the original was timed"


def judged(goal_ms: float | None, *, doubts: tuple[str, ...] = (), rival: str = "", outcome: Outcome = "pass") -> Verdict:
    """Of an artifact whose calls took 1, 2 and 6 ms, each a block of its own."""
    reliable = {1: {ARTIFACT: Reliability(doubts)}}
    profile = Profile({1: {ARTIFACT: Latency((1.0, 2.0, 6.0))}}, {}, {}, (), reliable)
    aim = None if goal_ms is None else Goal(goal_ms, lambda _: 0.0, rival)
    return with_latency_goal(Verdict(outcome, ("accuracy",)), aim, cast(Compiled, SimpleNamespace(profile=profile)))


@pytest.mark.parametrize(("goal_ms", "outcome"), [(None, "pass"), (2.0, "pass"), (1.999, "fail")])
def test_a_reliable_median_decides(goal_ms: float | None, outcome: Outcome) -> None:
    found = judged(goal_ms)
    late = "median latency at batch 1 is 2.000 ms; 1.999 ms were asked for"
    assert (found.outcome, found.reasons) == (outcome, ("accuracy",) if found else (late, "accuracy"))


@pytest.mark.parametrize("goal_ms", [1.0, 1.9, 2.0, 5.9])
def test_an_unreliable_one_neither_passes_nor_fails(goal_ms: float) -> None:
    found = judged(goal_ms, doubts=(BUSY,))
    assert found.outcome == "inconclusive"
    assert found.reasons[0].startswith(f"latency at batch 1 was not measured reliably ({BUSY}); {goal_ms:.3f} ms were asked for")
    assert found.reasons[1:] == ("accuracy",)


def test_what_every_call_shows_decides_on_a_busy_machine_too() -> None:
    missed, reached = judged(0.9, doubts=(BUSY,)), judged(6.0, doubts=(BUSY,))
    assert missed.outcome == "fail"
    assert "not even the fastest of 3 calls, 1.000 ms" in missed.reasons[0]
    assert reached.outcome == "pass"
    assert reached.reasons[0] == "accuracy"
    assert "even the slowest tenth of the measurement had a median of 6.000 ms" in reached.reasons[1]


def test_single_slow_calls_are_no_slow_block() -> None:
    """Thirty calls in ten blocks of three: one of each is slow, and no median is."""
    profile = Profile({1: {ARTIFACT: Latency((1.0, 9.0, 1.1) * 10)}}, {}, {}, (), {1: {ARTIFACT: Reliability((BUSY,))}})
    compiled = cast(Compiled, SimpleNamespace(profile=profile))
    assert with_latency_goal(Verdict("pass", ()), Goal(1.1, lambda _: 0.0), compiled).outcome == "pass"
    assert with_latency_goal(Verdict("pass", ()), Goal(1.09, lambda _: 0.0), compiled).outcome == "inconclusive"


def test_a_goal_that_rests_on_a_busy_moment_is_not_reached_for_sure() -> None:
    """An original that was slowed down makes a speed-up easy: fast calls do not show it, but what misses even that goal misses it."""
    assert judged(6.0, rival=RIVAL).outcome == "inconclusive"
    assert RIVAL in judged(6.0, rival=RIVAL).reasons[0]
    assert judged(0.9, rival=RIVAL).outcome == "fail"


@pytest.mark.parametrize(("doubts", "goal_ms"), [((BUSY,), 2.0), ((BUSY,), 6.0), ((), 2.0), ((), 1.0)])
def test_what_misses_a_guard_rail_stays_rejected(doubts: tuple[str, ...], goal_ms: float) -> None:
    assert judged(goal_ms, doubts=doubts, outcome="fail").outcome == "fail"


def test_what_is_open_for_another_reason_stays_open() -> None:
    assert judged(6.0, doubts=(BUSY,), outcome="inconclusive").outcome == "inconclusive"
    assert judged(2.0, outcome="inconclusive").outcome == "inconclusive"
