"""Lines for the terminal."""

from __future__ import annotations

from optimize.progress import COLUMNS, folded
from optimize.report.summary import summary
from tests.report.sample import passing


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
