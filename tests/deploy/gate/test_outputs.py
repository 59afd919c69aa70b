"""JUnit XML by its schema's rules and by another parser; Markdown; the history file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import junitparser
import pytest

from optimize.deploy.gate.history import append, commit_of, entry, read, series
from optimize.deploy.gate.job_summary import WIDTH, job_summary, plot
from optimize.deploy.gate.junit import junit
from optimize.errors import InputError
from optimize.progress import shown
from tests.deploy.gate.tiny import judged, result

ALL = tuple(judged(f"figure {outcome}", outcome) for outcome in ("pass", "fail", "inconclusive", "not judged"))
REQUIRED = {
    "testsuite": {"name", "tests", "failures", "errors", "time", "timestamp", "hostname"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
}
"""Attributes that the JUnit schema requires of an element."""
ORDER = ["properties", "testcase", "system-out", "system-err"]
"""The order in which the schema wants the children of a suite."""


def test_junit_keeps_the_rules_of_the_schema() -> None:
    root = ElementTree.fromstring(junit(result(*ALL)))
    suite = root[0]
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in root.iter():
        assert set(element.attrib) >= REQUIRED.get(element.tag, set()), element.tag
    places = [ORDER.index(child.tag) for child in suite]
    assert places == sorted(places)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
    cases = suite.findall("testcase")
    assert all(len(case) <= 1 for case in cases)
    counted = [str(len(suite.findall(f"testcase/{name}"))) for name in ("failure", "error", "skipped")]
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == counted == ["1", "1", "1"]
    assert suite.get("tests") == str(len(cases)) == "4"


def test_another_parser_reads_the_same_outcomes(tmp_path: Path) -> None:
    (tmp_path / "j.xml").write_text(junit(result(*ALL)), encoding="utf-8")
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "j.xml"))
    kinds = {case.name: type(case.result[0]).__name__ if case.result else "Passed" for case in suite}
    assert kinds == {"figure pass": "Passed", "figure fail": "Failure", "figure inconclusive": "Error", "figure not judged": "Skipped"}
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    assert {each.name: each.value for each in suite.properties()}["cpu"] == "A CPU"


def test_names_of_any_kind_stay_xml() -> None:
    strange = judged('a<b>&"\x00\x1b', "fail", reason="]]> \ud800 \ufffe")
    case = ElementTree.fromstring(junit(result(strange))).find(".//testcase")
    assert case is not None
    assert case.get("name") == 'a<b>&"??'


def test_the_summary_has_a_row_and_a_line_for_each_figure() -> None:
    text = job_summary(result(*ALL))
    rows = [line for line in text.splitlines() if line.startswith("| figure ")][1:]
    assert len(rows) == 4
    assert all(row.count("|") == 7 for row in rows)
    assert "❌ regression: latency gate" in text
    assert "figure fail: it is fail" in text
    assert text.count("```") == 2


def test_names_cannot_change_the_markdown() -> None:
    text = job_summary(result(judged("a|b <script>", "fail"), candidate="x`y"))
    assert "a\\|b \\<script\\>" in text
    assert text.count("`") % 2 == 0


def places(**changes: float | None) -> tuple[str, ...]:
    line, _ = plot(result(judged("x", **changes)))  # type: ignore[arg-type]
    bar = line.split("  ")[1]
    assert len(bar) == WIDTH
    return tuple(bar)


def test_the_plot_is_to_scale() -> None:
    # from −10 % to +10 % on 41 characters: half a percentage point each, 0 in the middle
    bar = places(change=0.01, low=-0.02, high=0.03)
    assert [bar.index(sign) for sign in "├●┤┃"] == [16, 22, 26, 30]
    bar = places(change=0.2, low=0.06, high=0.4)
    assert [bar.index(sign) for sign in "┊┃├●"] == [20, 30, 32, 40]
    assert "┤" not in places(change=0.0, low=None, high=None)


def test_commits_are_those_of_the_ci_systems() -> None:
    assert [commit_of({name: "1"}) for name in ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")] == ["1"] * 3
    assert commit_of({"SHA": "1"}) == ""


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    for value, machine in ((1.0, "a"), (2.0, "b"), (3.0, "a")):
        append(file, entry(result(judged(candidate=value), judged("lost", candidate=None), fingerprint_sha256=machine)))
    found = {one.machine: one.values for one in series(read(file))}
    assert found == {"a": [1.0, 3.0], "b": [2.0]}
    assert read(file)[0]["commit"] == "abc"
    assert "samples" not in read(file)[0]["criteria"][0]


def _append(file: Path) -> None:
    for i in range(20):
        append(file, {"format": 1, "criteria": [], "filler": "x" * 500, "i": i})


def test_those_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    workers = [Thread(target=_append, args=(file,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 80


def test_a_line_that_was_cut_off_is_passed_over_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "h.jsonl"
    append(file, entry(result(judged())))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 2])
    append(file, entry(result(judged())))
    with shown():
        assert len(read(file)) == 2
    assert "1 damaged line of" in " ".join(capsys.readouterr().err.split())


def test_another_file_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.jsonl")
    for text in ("", "\n", "not a history\n"):
        (tmp_path / "other.jsonl").write_text(text)
        with pytest.raises(InputError, match="holds no comparison"):
            read(tmp_path / "other.jsonl")
    (tmp_path / "other.jsonl").write_text('{"format": 1}\n')
    with pytest.raises(InputError, match="line 1 that is none of a history"):
        read(tmp_path / "other.jsonl")
