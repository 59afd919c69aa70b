"""Where the time of a run went, against sums worked out by hand."""

from __future__ import annotations

from optimize.report.render import render
from optimize.report.time_spent import MAX_STAGES, longest, parts, sentence
from tests.report.sample import passing


def test_parts_and_stages() -> None:
    report = passing()
    assert parts(report) == {"load": 5, "search": 60, "measure": 10}
    rows = longest(report)
    assert [(row.part, row.stage, row.calls) for row in rows] == [
        ("search", "narrow", 4),
        ("search", "judge", 4),
        ("measure", "latency at batch 1", 1),
        ("load", "load the data", 1),
    ]
    assert [row.share for row in rows] == [40 / 75, 20 / 75, 10 / 75, 5 / 75]
    assert sentence(report) == "1 min 15 s in all: load 5.0 s, search 1 min 00 s, measure 10.0 s. The process held 1.50\u202fGB at most."


def test_a_report_without_a_profile_has_no_table() -> None:
    for without in ({**passing(), "profile": None}, {name: value for name, value in passing().items() if name != "profile"}):
        assert (parts(without), longest(without), sentence(without)) == ({}, [], "")
        assert "Where the time went" not in render(without)


def test_a_resumed_run_says_whose_times_these_are() -> None:
    report = passing()
    report["profile"] |= {"resumed": True, "taken_over_seconds": 90.0}
    assert sentence(report).endswith(
        "The run was resumed: these are the times of its last call. Proposals of earlier calls took 1 min 30 s more."
    )


def test_the_page_shows_the_longest_stages() -> None:
    report = passing()
    row = report["profile"]["rows"][0]
    report["profile"]["rows"] = [{**row, "stage": f"<stage {number}>", "seconds": float(number)} for number in range(MAX_STAGES + 5)]
    page = render(report)
    assert "Where the time went" in page
    assert f"&lt;stage {MAX_STAGES + 4}&gt;" in page
    assert "&lt;stage 4&gt;" not in page
