"""What a run says of its chances: in its notes before the search, and in its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimize.run.acceptance_plan import sentences, sentences_on_test
from optimize.run.prepare import Job, loaded
from optimize.run.recipe import resolve
from tests import runs
from tests.runs import Run


@pytest.fixture(scope="module")
def job(brought: Path, any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    out = tmp_path_factory.mktemp("plan") / "out"
    return loaded(resolve(brought, target=any_target, overrides={"out": out, "history": runs.history(out)}), lambda _: None)


def test_the_report_has_the_plan_and_what_came_of_it(accepted: Run) -> None:
    plan = accepted.report["acceptance_plan"]
    assert plan["power"] == 0.9
    assert plan["shipped"] >= plan["asked"]
    assert plan["asked"] <= 0.92
    titles = [rail["title"] for rail in plan["rails"]]
    assert titles == [rail["title"] for rail in accepted.report["rails"]]
    assert [rail["cases"] for rail in plan["rails"]] == [rail["seen"] for rail in accepted.report["rails"]]
    kept = [step for step in accepted.report["steps"] if step["kept"]]
    assert all(step["chance"] >= plan["asked"] for step in kept)


def test_a_run_says_before_the_search_what_can_be_accepted(job: Job, accepted: Run) -> None:
    """Thirty test cases of a class, and a limit of 12 pp: hardly anything may change."""
    (tight,) = sentences_on_test(job)
    assert "pass only where nearly nothing changes (30 to 120 test cases): about" in tight
    assert tight in accepted.report["notes"]
    *_, small_guard = sentences(job)
    assert small_guard.startswith("even a candidate that changes nothing on the guard split (100 cases) has a chance of acceptance of only")
    assert small_guard in accepted.report["notes"]


def test_larger_limits_leave_room_for_a_loss(job: Job) -> None:
    limits = replace(job.recipe.limits, rails={**job.recipe.limits.rails, "max_drop": 0.1, "max_class_drop": 0.3})
    roomy = replace(job, recipe=replace(job.recipe, limits=limits, power=0.8))
    first = sentences_on_test(roomy)[0]
    assert first.startswith("the test split accepts, with a chance of 80 %, a true loss of")
    assert "all limits together, where every class loses alike" in first
    assert roomy.acceptance_rule.asked_chance > job.acceptance_rule.asked_chance
