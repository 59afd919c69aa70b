"""What a report says of looks at its test split."""

from __future__ import annotations

from typing import Any

import pytest

from optimize.report.looks import confidence, earlier, sentence, use_of_test
from optimize.report.render import render
from optimize.report.summary import summary
from tests.report.sample import passing
from tests.report.test_schema import validate


def report(**parts: Any) -> dict[str, Any]:
    first = {"number": 1, "share": 0.8, "confidence": 0.96, "all_looks": 0.95, "fresh": False}
    found = passing() | {"looks": {**first, "seen_before": 0, "earlier": [], "record": "r", **parts}}
    validate(found)
    return found


SECOND = {"number": 2, "share": 0.1, "confidence": 0.995, "seen_before": 7, "earlier": [{"date": "2026-01-02T03:04:05", "verdict": "fail"}]}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "Each bound of this look has 96 % confidence, so that all looks together have 95 % confidence."),
        (SECOND, "Each bound of this look has 99.5 % confidence, so that all looks together have 95 % confidence."),
        (
            {"fresh": True, "confidence": 0.95, "share": 1},
            "This look was declared the only one and spends all of it, so no later look at these cases can pass.",
        ),
        (
            SECOND | {"confidence": None, "share": 0},
            "permitted error of 5 %. An earlier look spent all of it, so no model can pass on these cases.",
        ),
        (SECOND | {"confidence": None, "all_looks": None}, "the best result of several looks is better than the model is."),
    ],
)
def test_in_a_sentence(parts: dict[str, Any], said: str) -> None:
    assert sentence(report(**parts)).endswith(said)
    assert said in render(report(**parts))


def test_the_summary_speaks_of_a_second_look_and_not_of_a_first() -> None:
    assert any("This was look 2" in line for line in summary(report(**SECOND)))
    assert not any("look" in line for line in summary(report()))


def test_a_report_without_looks_is_as_it_was() -> None:
    assert (sentence(passing()), earlier(passing()), use_of_test(passing())) == ("", [], "the verdict, read once")
    assert confidence(passing()) == 0.95
    assert (confidence(report(**SECOND)), earlier(report(**SECOND))) == (0.995, [("1", "2026-01-02", "fail")])
    assert "2026-01-02" in render(report(**SECOND))
