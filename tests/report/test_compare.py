"""Several runs side by side: the rows against the reports, the three files against each other, and every wrong call in one line."""

from __future__ import annotations

import copy
import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from optimize.cli import main
from optimize.errors import InputError
from optimize.report.compare import compare, comparison, names, row, warnings
from optimize.report.render import render
from tests.report.read import Page
from tests.report.sample import RUNS, ended_early, failing, inconclusive, masks, passing

COSTS = "their latencies, ratios and memory"


def saved(folder: Path, report: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report | {"signature": None}), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [saved(tmp_path / name, make()) for name, make in (("a", passing), ("b", failing), ("c", ended_early))]


def test_a_spreadsheet_runs_nothing_of_the_table() -> None:
    table = comparison({"=cmd|calc": passing(), "plain": failing()})["comparison.csv"]
    assert [line["run"] for line in csv.DictReader(table.splitlines())] == ["'=cmd|calc", "plain"]


def test_a_row_holds_what_the_report_does() -> None:
    report = passing()
    assert row("first", report) == {
        "run": "first",
        "verdict": "pass",
        "qualifier": None,
        "target": "openvino",
        "precision": "int8",
        "parameters": 1_234_567,
        "parameters_off": 0.8,
        "macs": 2_000_000,
        "macs_off": 0.8,
        "size_bytes": 4_938_268,
        "overall": "overall accuracy",
        "before": 338 / 350,
        "after": 332 / 350,
        "drop": report["rails"][0]["value"],
        "drop_low": report["rails"][0]["low"],
        "drop_high": report["rails"][0]["high"],
        "worst_class": "erythroblast",
        "worst_class_figure": "recall",
        "worst_class_drop": pytest.approx(0.04),
        "p50_ms": 0.5,
        "p50_reliable": True,
        "baseline": "OpenVINO f32",
        "speed": "faster",
        "speedup": 6.0,
        "speedup_low": pytest.approx(3 / 0.51),
        "speedup_high": pytest.approx(3 / 0.49),
        "peak_memory_bytes": 3_000_123,
        "model_sha256": "a" * 64,
        "test_sha256": "d" * 64,
    }


def test_what_a_run_did_not_reach_is_none() -> None:
    found = row("early", ended_early())
    assert found["before"] == 338 / 350
    known = {"run", "verdict", "target", "overall", "before", "model_sha256", "test_sha256"}
    assert {key for key, value in found.items() if value is not None} == known


def test_the_files_tell_the_same_and_every_page_is_rendered(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert compare(runs, out) == out / "comparison.html"
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "comparison.html", "comparison.json"]
    pages = [(run / "report.html").read_text(encoding="utf-8") for run in runs]
    assert pages == [render(make() | {"signature": None}) for make in (passing, failing, ended_early)]
    data = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    with (out / "comparison.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [{key: "" if value is None else str(value) for key, value in each.items()} for each in data["runs"]] == table
    page = Page((out / "comparison.html").read_text(encoding="utf-8"))
    assert [line[:3] for line in page.tables["t-verdicts"][1:]] == [
        ["a", "✓ Accepted", "OpenVINO int8"],
        ["b", "✗ Rejected", "OpenVINO int8"],
        ["c", "✗ Rejected", "OpenVINO"],
    ]
    assert page.tables["t-costs"][1][1:7] == ["1 234 567", "80.00 %", "2.00 M", "80.00 %", "4.94 MB", "0.500"]
    assert page.tables["t-costs"][3][1:] == ["–"] * 8
    assert "None" not in page.text


def test_the_same_runs_give_the_same_bytes() -> None:
    assert comparison({"a": passing(), "b": masks()}) == comparison({"a": passing(), "b": masks()})


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("model", "sha256"), "0" * 64, "The runs are of different models (a | b): what became smaller or worse is not the same thing."),
        (("data", "test", "sha256"), "0" * 64, "The runs were judged on different test data (a | b): their figures do not compare."),
        (("limits", "max_drop"), 0.01, "The runs were judged by different limits (a | b): the same word may stand for another verdict."),
        (("machine", "cpu"), "Other", f"The runs were measured on different machines (a | b): {COSTS} do not compare."),
    ],
)
def test_what_cannot_be_compared_is_said_in_words(path: tuple[str, ...], value: Any, text: str) -> None:
    one, other = copy.deepcopy(passing()), copy.deepcopy(passing())
    at = other
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert list(warnings({"a": one, "b": other})) == [text]
    assert text in Page(comparison({"a": one, "b": other})["comparison.html"]).text


def test_runs_that_compare_are_not_warned_about() -> None:
    busy = passing()
    busy["machine"]["load"] = 40.0
    assert not list(warnings({"a": passing(), "b": busy, "c": inconclusive()}))
    html = comparison({"a": passing(), "b": busy})["comparison.html"]
    assert "These runs are not fully comparable" not in html
    assert "<figure" in html


def test_different_figures_are_not_drawn_on_one_axis() -> None:
    assert "<figure" not in comparison({"a": passing(), "b": masks()})["comparison.html"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["x/a", "x/b"], ["a", "b"]),
        (["x/out", "y/out"], ["x/out", "y/out"]),
        (["x/a/out", "y/a/out", "y/b"], ["x/a/out", "y/a/out", "t/y/b"]),
    ],
)
def test_names_are_as_long_as_they_must_be(folders: list[str], expected: list[str], tmp_path: Path) -> None:
    assert names([tmp_path / "t" / folder for folder in folders]) == expected


def test_hostile_names_stay_text() -> None:
    html = comparison({"<script>x</script>": passing(), "=b": passing()})["comparison.html"]
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.tables["t-verdicts"][1][0] == "<script>x</script>"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a, b, out: ([a, a], out), "is named twice"),
        (lambda a, b, out: ([a, a.parent / "b" / ".." / "a"], out), "is named twice"),
        (lambda a, b, out: ([a, a.parent / "nowhere"], out), "holds no report.json: name the --out folder of a run"),
        (lambda a, b, out: ([a, b], a / "report.json"), "cannot be written"),
        (lambda a, b, out: ([a, b], a / "report.json" / "x"), "cannot be written"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(call: Any, text: str, runs: list[Path], tmp_path: Path) -> None:
    folders, out = call(runs[0], runs[1], tmp_path / "out")
    with pytest.raises(InputError, match=text) as refusal:
        compare(folders, out)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("*.html"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written"):
        compare(runs, tmp_path / "locked")


def command(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["report", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_one_run_is_rendered_and_several_are_compared(runs: list[Path], tmp_path: Path) -> None:
    assert command(runs[0]) == (0, f"{runs[0] / 'report.html'}\n", "")
    assert command(*runs, "--out", tmp_path / "out") == (0, f"{tmp_path / 'out' / 'comparison.html'}\n", "")
    code, _, stderr = command(runs[0], runs[0])
    assert (code, stderr.count("\n")) == (2, 1)
    assert command()[0] == 2


def test_an_older_report_is_refused_in_one_line(tmp_path: Path) -> None:
    old = saved(tmp_path / "old", RUNS["pass"]() | {"format": 1})
    code, _, stderr = command(old)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "is of format 1 and was written by optimize 0.1.0" in stderr
