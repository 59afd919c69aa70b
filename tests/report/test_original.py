"""The original's own figure in the summary and on the page."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from optimize.report.original import figure, original_sentence
from optimize.report.render import render
from optimize.report.summary import summary
from tests.report import sample

TOLD = {
    "figure": "accuracy",
    "guard": 0.96,
    "constant": 0.5,
    "constant_answer": "answering 'basophil' every time",
    "better_than_constant": True,
    "n": 400,
    "unit": "cases",
    "expected": None,
    "outputs": "logits",
}


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(sample.passing()) | {"original": dict(TOLD)}


def test_it_stands_in_the_first_line_and_in_a_line_of_its_own(report: dict[str, Any]) -> None:
    accuracy = f"{100 * report['baseline']['metrics']['overall']['accuracy']:.2f} %"
    first, second, *_ = summary(report)
    assert f"(the original: accuracy {accuracy})" in first
    assert second == (
        f"  the original reaches accuracy {accuracy} on the test split and 96.00 % on 400 cases of the guard split; "
        "answering 'basophil' every time reaches 50.00 %"
    )


def test_the_interval_stands_behind_the_figure(report: dict[str, Any]) -> None:
    report["original"] |= {"low": 0.936, "high": 0.975}
    assert "of the guard split (95 % interval 93.60 % to 97.50 %); answering" in original_sentence(report)


def test_it_stands_on_the_page_before_the_verdict_s_reasons(report: dict[str, Any]) -> None:
    page = render(report)
    assert page.index("The original reaches accuracy") < page.index('class="headline"')


def test_an_early_end_has_the_guard_s_figure(report: dict[str, Any]) -> None:
    report["baseline"]["metrics"] = None
    assert figure(report) == "accuracy 96.00 %"
    assert original_sentence(report).startswith("The original reaches accuracy 96.00 % on 400 cases of the guard split; answering")


def test_what_was_expected_and_what_was_allowed_is_said(report: dict[str, Any]) -> None:
    report["original"] |= {"expected": 0.97, "better_than_constant": False}
    said = original_sentence(report)
    assert "97.00 % was expected" in said
    assert said.endswith("it is no better than a constant answer. That was allowed, so the limits protect nothing")


def test_a_name_from_the_data_is_escaped(report: dict[str, Any]) -> None:
    report["original"]["constant_answer"] = "answering '<script>' every time"
    assert "<script>&#39;" not in render(report)
    assert "&lt;script&gt;" in render(report)


def test_an_earlier_report_has_its_test_figure_alone() -> None:
    report = sample.passing()
    report.pop("original", None)
    assert "guard" not in original_sentence(report)
    report["baseline"]["metrics"] = None
    assert original_sentence(report) == figure(report) == ""
