"""The time that a run was given: what the search gets of it, what is refused, and what is said afterwards."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.errors import InputError
from optimize.progress import begin_part, current_profile, stage, whole_run
from optimize.run.compress import SHARES, run_search
from optimize.run.planning.cost import Cost
from optimize.run.planning.text import _cost
from optimize.run.prepare import Job, prepare
from optimize.run.recipe import Recipe, resolve, to_toml
from optimize.run.time_budget import Expectation, TimeBudget, expectation, record, recorded, time_budget
from tests import runs

PARTS = {"compile": 10.0, "measure": 40.0, "judge": 0.2}


def recipe(model: Path, out: Path, target: str, **overrides: object) -> Recipe:
    return resolve(model, target=target, overrides={"out": out, "history": runs.history(out), **overrides})


@pytest.fixture(scope="module")
def job(brought: Path, any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run that is prepared, outside of `whole_run`: it has no budget."""
    made = prepare(recipe(brought, tmp_path_factory.mktemp("budget"), any_target, time_budget="3min"), resume=False, overwrite=False)
    assert made.budget is None
    return made


def test_the_search_gets_what_the_rest_does_not_need() -> None:
    started = time.perf_counter()
    budget = TimeBudget(180, started, 60, 22)
    assert budget.search_deadline.at == started + 120
    assert budget.deadline.at == started + 180
    stopped, whole = budget.as_dict(True, 7), budget.as_dict(False, 22)
    assert (stopped["further_proposals"], stopped["stopped"], stopped["proposals"]) == (15, True, 7)
    assert stopped["sentence"] == "stopped by the time budget of 3 min after 7 proposals; without it about 15 more"
    assert (whole["further_proposals"], whole["sentence"]) == (0, "the search ended by itself within the time budget of 3 min")
    assert budget.as_dict(True, 30)["further_proposals"] == 1
    assert replace(budget, proposals=None).as_dict(True, 1)["sentence"].endswith("after 1 proposal")


def test_the_rest_follows_from_what_was_measured(job: Job) -> None:
    assert expectation(job).plain == {}  # outside of a run nothing was measured
    with whole_run(SHARES):
        profile = current_profile()
        assert profile is not None
        begin_part("export of the original")
        with stage("export and compile the original"):
            time.sleep(0.05)
        first = expectation(job).plain
        with stage("export and compile the original"):
            time.sleep(0.1)
        second = expectation(job).plain
        assert set(first) == {"compile", "measure", "judge"}
        assert second["compile"] > first["compile"] > 0.05
        assert second["measure"] > first["measure"] > 4
        budget = time_budget(job)
        assert budget is not None
        assert budget.rest_s == pytest.approx(1.2 * sum(expectation(job).seconds.values()) + 2, abs=0.01)


def test_too_short_a_time_is_refused_at_once(job: Job) -> None:
    with whole_run(SHARES), pytest.raises(InputError, match=r"`--time-budget` \(=2 s\) is too short: .* give more than \d+ s") as problem:
        time_budget(replace(job, recipe=replace(job.recipe, time_budget=2.0)))
    assert "\n" not in str(problem.value)
    with whole_run(SHARES):
        assert time_budget(replace(job, recipe=replace(job.recipe, time_budget=None))) is None
        profile = current_profile()
        assert profile is not None
        profile.started -= 20  # it was not known within ten seconds
        assert time_budget(replace(job, recipe=replace(job.recipe, time_budget=2.0))) is not None


def test_without_time_for_a_search_the_original_is_compiled(job: Job) -> None:
    late = replace(job, budget=TimeBudget(90, time.perf_counter() - 60, 40, 22))
    found = run_search(late)
    assert (found.best, found.trials, found.out_of_time) == (job.original, (), True)
    said = "the search was stopped by the time budget of 90 s before the first proposal was judged: nothing was tried"
    assert said in found.notes


def test_earlier_runs_correct_the_expectation(tmp_path: Path) -> None:
    assert recorded(tmp_path) == {}
    with whole_run({"compile": 1.0, "measure": 1.0}):
        begin_part("compile")
        time.sleep(0.05)
        begin_part("measure")
        for _ in range(12):
            record(Expectation(PARTS), tmp_path / "new")
    ratios = recorded(tmp_path / "new")
    assert set(ratios) == {"compile", "measure"}  # nothing was judged, and it would be too short to say anything
    assert {len(of) for of in ratios.values()} == {10}
    assert set(ratios["compile"]) == {0.25}  # bounded from below: it took far less than 10 s
    assert Expectation(PARTS, ratios).seconds == {"compile": 2.5, "measure": 10.0, "judge": 0.2}
    assert Expectation(PARTS).seconds == PARTS
    record(Expectation(PARTS), tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"ratios": 3}', '{"ratios": {"measure": ["x"]}}', '{"ratios": {"measure": 2}}'])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "ratios.json").write_text(content)
    assert recorded(tmp_path) == {}


def test_the_setting_is_read_written_and_no_other_run(brought: Path, tmp_path: Path) -> None:
    for value, seconds in (("90s", 90.0), ("3min", 180.0), ("1.5h", 5400.0), (75, 75.0), (" 2 min ", 120.0), ("none", None)):
        assert recipe(brought, tmp_path, "onnxruntime", time_budget=value).time_budget == seconds
    made = recipe(brought, tmp_path, "onnxruntime", time_budget="3min")
    (tmp_path / "lock.toml").write_text(to_toml(made))
    assert resolve(recipe_file=tmp_path / "lock.toml") == made
    for wrong in ("3 days", "-5s", "0", "min", True):
        with pytest.raises(InputError, match=r"--time-budget.*must be a time above 0 such as '90s', '3min' or '1h'"):
            recipe(brought, tmp_path, "onnxruntime", time_budget=wrong)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (20, "about 40 s of it is needed without any search, so it is too short"),
        (140, "about 40 s of it is needed without any search, and about 11 of 22 proposals fit into the rest"),
        (1000, "about 40 s of it is needed without any search, and the whole search fits into the rest"),
    ],
)
def test_a_plan_says_what_fits(budget: float, words: str) -> None:
    cost = Cost({"load": 5.0, "search": 200.0, "measure": 35.0}, 10**9, proposals=22)
    assert words in "\n".join(_cost(cost, budget))
    assert cost.within(budget)["without_search_s"] == 40
    assert "time budget" not in "\n".join(_cost(cost, None))


def test_a_plan_of_an_open_search_says_only_what_the_rest_needs() -> None:
    cost = Cost({"load": 5.0}, 10**9)
    assert cost.proposals_within(100) is None
    assert "and the search has the rest" in "\n".join(_cost(cost, 100))
