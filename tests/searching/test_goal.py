"""A latency to be met: what counts as met, and what a run does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optimize.backends import backend
from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.measure.latency import Latency
from optimize.run.compress import compress
from optimize.run.parsing import times
from optimize.run.recipe import resolve
from optimize.searching import goal as module
from optimize.searching.goal import Goal, latency_ms, latency_timer, make_goal
from tests import nets, runs
from tests.conftest import shortened

HERE = Path()


def test_a_goal_is_met_at_exactly_its_latency() -> None:
    one = nets.candidate(nets.chain())
    assert [Goal(limit, lambda _: 2.0).is_met(one) for limit in (1.999, 2.0, 3.0)] == [False, True, True]


def test_a_speedup_is_of_the_originals_own_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Candidate] = []

    def fake(_: Any, __: Any, ___: Any, candidate: Candidate, **____: Any) -> float:
        asked.append(candidate)
        return candidate.parameters / 100

    monkeypatch.setattr(module, "latency_ms", fake)
    original, other = nets.candidate(nets.chain()), nets.candidate(nets.chain_bn())
    runtime: Any = None
    found = make_goal(latency_timer(runtime, 1, nets.cases(1)), original, None, 4.0)
    assert found is not None
    assert found.latency_ms == original.parameters / 400
    assert not found.is_met(original)
    assert found.measure(other) == other.parameters / 100
    found.is_met(other)
    assert asked == [original, other]  # each is compiled once
    given = make_goal(latency_timer(runtime, 1, nets.cases(1)), original, 7.5, None)
    assert given is not None
    assert given.latency_ms == 7.5
    assert make_goal(latency_timer(runtime, 1, nets.cases(1)), original, None, None) is None


@pytest.mark.parametrize(
    ("percent", "doubt"), [(20.0, ""), (64.0, "other processes used 64 % of this machine while the original was timed")]
)
def test_a_speedup_over_an_original_on_a_busy_machine_is_in_doubt(percent: float, doubt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(module, "await_quiet", lambda: waited.append(True))
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: percent)
    original = nets.candidate(nets.chain())
    found = make_goal(lambda _: 8.0, original, None, 4.0)
    assert found is not None
    assert (found.latency_ms, found.unreliable_reason, waited) == (2.0, doubt, [True])
    given = make_goal(lambda _: 8.0, original, 7.5, None)
    assert given is not None
    assert (given.unreliable_reason, waited) == ("", [True])  # a latency that was named rests on no measurement


def test_the_latency_is_the_fastest_float_precisions(any_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every float precision is compiled and called on the one input; the clock is a stand-in."""
    seen: list[str] = []

    def scripted(calls: dict[str, Any], **_: object) -> dict[str, Latency]:
        seen.extend(calls)
        assert all(call().shape == (1, 4) for call in calls.values())
        return {name: Latency((3.0 - place,)) for place, name in enumerate(calls)}

    monkeypatch.setattr(module, "interleave", scripted)
    runtime = backend(any_target)
    assert latency_ms(runtime, 1, nets.cases(1), nets.candidate(nets.chain())) == 4.0 - len(seen)
    assert seen == list(runtime.precisions())


@pytest.mark.parametrize(("text", "factor"), [("4x", 4.0), ("4", 4.0), (4, 4.0), (1.5, 1.5), (" 2.5x ", 2.5)])
def test_times(text: Any, factor: float) -> None:
    assert times(text, "speedup", HERE) == factor


@pytest.mark.parametrize("wrong", [1, 0.5, "1x", "x", "fast", "-3x", "nanx", "infx", True, None, "4xx", ""])
def test_what_is_no_factor_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"`speedup` \(=.*\) must be a (number|factor above 1 such as '4x')"):
        times(wrong, "speedup", HERE)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"latency_target_ms": 1.0, "speedup": 2.0}, "`--latency-target` and `--speedup` exclude each other"),
        ({"speedup": 2.0, "strategy": "budget"}, "`--speedup` needs the strategy 'allocate', not 'budget'"),
        ({"latency_target_ms": 1.0, "strategy": "stepwise"}, "`--latency-target` needs the strategy 'allocate', not 'stepwise'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(
    settings: dict[str, Any], text: str, brought: Path, any_target: str, tmp_path: Path
) -> None:
    recipe = resolve(brought, target=any_target, overrides={"out": tmp_path / "out", **settings})
    with pytest.raises(InputError, match=text):
        compress(recipe)
    assert not (tmp_path / "out").exists()


def test_an_unreachable_goal_is_a_rejection_with_its_reason(
    brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the search measures on its way is a stand-in; the artifact is timed."""
    monkeypatch.setattr(module, "latency_ms", lambda *_, **__: 1.0)
    found = shortened(brought, tmp_path / "out", "--latency-target", "1e-6ms", target=any_target)
    assert (found.exit_code, found.report["verdict"], found.report["artifact"]) == (1, "fail", None)
    assert "were asked for" in found.report["reasons"][0]
    assert not (tmp_path / "out" / "model").exists()


def test_a_goal_that_the_original_meets_leaves_it_as_it_is(brought: Path, any_target: str, tmp_path: Path) -> None:
    found = shortened(brought, tmp_path / "out", "--latency-target", "1000s", target=any_target)
    assert (found.exit_code, found.report["verdict"]) == (0, "pass")
    assert runs.trials(found) == []
    assert found.report["compressed"]["parameters"] == found.report["baseline"]["parameters"]
