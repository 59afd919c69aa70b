"""Lines for the terminal."""

from __future__ import annotations

import jsonschema  # type: ignore[import-untyped]

from optimize.progress import COLUMNS, folded
from optimize.report.render import render
from optimize.report.summary import summary
from tests.report.sample import passing
from tests.report.test_schema import SCHEMA


def test_no_line_of_a_whole_summary_is_too_wide_and_no_word_is_lost() -> None:
    report = passing()
    report["reasons"] = [f"{'a long reason ' * 20}that ends"]
    lines = list(summary(report))
    assert max(map(len, lines)) > COLUMNS
    shown = [part for line in lines for part in folded(line)]
    assert max(map(len, shown)) <= COLUMNS
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(lines).split())


def test_what_goes_on_is_indented_and_a_long_word_is_not_broken() -> None:
    path = "/" + "folder/" * 20
    assert (folded(f"  see {path}"), folded("short"), folded("")) == (["  see", f"      {path}"], ["short"], [""])


def test_a_search_that_its_time_budget_ended_says_so() -> None:
    said = "stopped by the time budget of 3 min after 7 proposals; without it about 15 more"
    budget = {"seconds": 180.0, "spent_seconds": 171.0, "stopped": True, "proposals": 7, "further_proposals": 15, "sentence": said}
    assert f"  the search was {said}" in summary({**passing(), "time_budget": budget})
    assert not [line for line in summary({**passing(), "time_budget": {**budget, "stopped": False}}) if "time budget" in line]
    page = render({**passing(), "time_budget": budget})
    assert f"S{said[1:]}." in page
    jsonschema.validate({**passing(), "time_budget": budget}, SCHEMA, cls=jsonschema.Draft202012Validator)
