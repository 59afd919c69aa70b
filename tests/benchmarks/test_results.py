from __future__ import annotations

import re

import pytest

from benchmarks.results import DOCUMENTS, ROOT, looks, quoted


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_quote_the_results_as_they_are(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert "<!-- results " in text
    assert quoted(text) == text, "run python -m benchmarks.results"


def test_a_figure_changed_by_hand_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    (tmp_path / "study.md").write_text("95.6 %\n", encoding="utf-8")
    true = "before\n<!-- results study -->\n95.6 %\n<!-- /results -->\nafter\n"
    assert quoted(true) == true
    assert quoted(true.replace("95.6", "99.9")) == true


def test_what_was_never_measured_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    assert "not measured yet" in quoted("<!-- results study -->\n<!-- /results -->")


def test_the_studies_say_how_often_a_test_split_was_looked_at() -> None:
    reports = [{"looks": {"number": 3}}, {"looks": {"number": 4}}, {"looks": None}]
    assert looks(reports).startswith("looks 3, 4 of the studies at them since ")
    assert looks(reports[:1]).startswith("look 3 of ")
    assert looks(reports[2:]) == "not looked at"
    assert "not recorded" in looks([{"verdict": "pass"}])


def test_a_document_may_show_a_few_columns(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("benchmarks.results.RESULTS", tmp_path)
    table = "**title**\n\n| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n\nTaken today.\nA note.\n"
    (tmp_path / "study.md").write_text(table, encoding="utf-8")
    filled = quoted("<!-- results study | a | c -->\nold\n<!-- /results -->")
    assert filled == (
        "<!-- results study | a | c -->\n**title**\n\n| a | c |\n| --- | --- |\n| 1 | 3 |\n\nTaken today.\n<!-- /results -->"
    )
    assert quoted(filled) == filled
    with pytest.raises(ValueError, match="'d' is not in list"):
        quoted(filled.replace("| c -->", "| d -->"))


def test_results_stand_in_one_place() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "results.md"]
    assert [path.name for path in pages if "<!-- results " in path.read_text(encoding="utf-8")] == []
    shown = re.findall(r"<!-- results (\w+) -->", (ROOT / "docs/results.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(set(shown))
    assert set(shown) == {path.stem for path in (ROOT / "benchmarks/results").glob("*.md")}
