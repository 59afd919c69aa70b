"""What a run says of its chances: in its notes before the search, and in its report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimize.run.acceptance_plan import sentences, sentences_on_test
from optimize.run.prepare import Job
from tests.runs import Run


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


@pytest.mark.parametrize("power", [0.5, 0.99])
def test_a_larger_power_accepts_less(job: Job, power: float) -> None:
    other = replace(job, recipe=replace(job.recipe, power=power))
    assert other.acceptance_rule.asked_chance < job.acceptance_rule.asked_chance if power < 0.9 else True
    assert other.acceptance_rule.power == power
