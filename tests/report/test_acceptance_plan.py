"""The table of what the test split could accept: the limits that allow least first, and none where a report has no plan."""

from __future__ import annotations

from optimize.report.acceptance_plan import MAX_ROWS, tightest
from optimize.report.render import render
from tests.report import sample


def test_what_allows_least_comes_first() -> None:
    assert [rail["title"] for rail in tightest(sample.passing())] == ["recall of <b>", "recall of basophil", "overall accuracy"]
    many = sample.passing()
    many["acceptance_plan"]["rails"] *= 9
    assert len(tightest(many)) == MAX_ROWS


def test_a_report_without_a_plan_has_no_table() -> None:
    report = sample.passing()
    assert "What the test split can accept" in render(report)
    assert "a chance of 90" in render(report)
    del report["acceptance_plan"]
    assert tightest(report) == []
    assert "What the test split can accept" not in render(report)


def test_figures_that_are_not_known_before_are_left_out() -> None:
    report = sample.passing()
    for rail in report["acceptance_plan"]["rails"]:
        rail |= {"largest_loss": None, "most_lost": None, "nearly_no_change": False}
    assert tightest(report) == []
    assert "What the test split can accept" not in render(report)
