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
    first, *others = sentences_on_test(job)
    plan = accepted.report["acceptance_plan"]
    smallest = min((rail for rail in plan["rails"] if rail["largest_loss"] is not None), key=lambda rail: rail["largest_loss"])
    assert smallest["title"] in first
    assert first.startswith("the test split accepts, with a chance of 90 %, a true loss of") or others
    assert set(sentences_on_test(job)) <= set(sentences(job))


def test_a_smaller_power_asks_for_less(job: Job) -> None:
    bolder = replace(job, recipe=replace(job.recipe, power=0.6))
    assert bolder.acceptance_rule.asked_chance < job.acceptance_rule.asked_chance
    assert "with a chance of 60 %" in sentences_on_test(bolder)[0]
