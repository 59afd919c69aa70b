"""The model card: its figures against the report's, and texts that try to be more than text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.documents import model_card
from optimize.deploy.bundle.measured_figures import drops, figures
from tests.deploy.bundled_run import PROTOCOL, bundled
from tests.report.sample import AFTER, BEFORE, CLASSES, GROUPS, ended_early, failing_group, inconclusive, many, masks, passing, point


@pytest.fixture
def run(tmp_path: Path) -> BundledRun:
    return bundled(tmp_path)


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the tables under a heading, without the head."""
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line[2:-2].split(" | ")] for line in part.splitlines() if line.startswith("| ") and "---" not in line
    ][1:]


def test_figures_of_classes_and_groups_are_the_reports(run: BundledRun) -> None:
    found = {(cells[0], cells[1]): cells[2:] for cells in rows(model_card.render(run), "Figures on the test split")}
    for index, name in enumerate(CLASSES):
        before, after = BEFORE[index][index] / sum(BEFORE[index]), AFTER[index][index] / sum(AFTER[index])
        assert found[f"class {name}", "recall"][:2] == [f"{before:.4f}", f"{after:.4f}"]
        assert found[f"class {name}", "recall"][3] == str(sum(AFTER[index]))
    for site, (n, _, right) in GROUPS.items():
        assert found[f"site {site}", "accuracy"][1::2] == [f"{right / n:.4f}", str(n)]
    assert found["all", "auc"][2] == "–"


def test_the_interval_is_scipys(run: BundledRun) -> None:
    for figure in figures(run.report):
        if figure.name in ("recall", "accuracy"):
            assert figure.value is not None
            assert figure.n is not None
            exact = binomtest(round(figure.value * figure.n), figure.n).proportion_ci(0.95, "exact")
            assert (figure.low, figure.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
        else:
            assert (figure.low, figure.high) == (None, None)


def test_cases_of_patients_have_no_interval_that_counts_them_as_independent(run: BundledRun) -> None:
    report = {**run.report, "data": {**run.report["data"], "test": {**run.report["data"]["test"], "patients": 40}}}
    assert {(figure.low, figure.high) for figure in figures(report)} == {(None, None)}


def test_each_rail_is_shown_with_its_limit_and_result(run: BundledRun) -> None:
    found = rows(model_card.render(run), "Differences from the original, as judged")
    assert [cells[5] for cells in found] == [rail["outcome"] for rail in run.report["rails"]]
    assert [cells[4] for cells in found] == [rail["stated"] for rail in run.report["rails"]]
    assert [figure.n for figure in drops(run.report)] == [rail["seen"] for rail in run.report["rails"]]


def test_what_nobody_stated_says_so(run: BundledRun) -> None:
    text = model_card.render(run)
    assert "Intended use: not stated. No protocol was fixed." in text
    text = model_card.render(replace(run, report={**run.report, "protocol": PROTOCOL}, model_licence="CC-BY-4.0"))
    assert "- Intended use: Sorting of cells." in text
    assert ["licence of the model", "CC-BY-4.0"] in rows(text, "What it is")


def test_a_latency_that_is_not_reliable_has_no_number(run: BundledRun) -> None:
    doubtful = {"1": {"artifact": {"answer": "not to be relied on", "reasons": ["busy"]}}}
    found = rows(model_card.render(replace(run, report={**run.report, "latency_reliability": doubtful})), "Speed, memory and size")
    assert {cells[2] for cells in found if cells[0] == "latency at batch 1"} == {"not measured reliably"}
    assert all("ms" in cells[2] for cells in found if cells[0] == "latency at batch 16")


def test_a_rejected_run_begins_with_a_warning(tmp_path: Path) -> None:
    assert model_card.render(bundled(tmp_path, rejected=True)).splitlines()[2] == "**WARNING: This model was rejected.**"


@pytest.mark.parametrize("made", [passing, failing_group, inconclusive, masks, point, many, ended_early])
def test_every_kind_of_report_has_a_card(run: BundledRun, made: Callable[[], dict[str, Any]]) -> None:
    text = model_card.render(replace(run, report=made()))
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 10
    assert "None" not in text


def test_a_hostile_name_stays_text(run: BundledRun) -> None:
    hostile = "a|b\n# pass <img src=x onerror=y>.pt"
    report = {**run.report, "model": {**run.report["model"], "name": hostile}, "notes": ["[click](javascript:x)"]}
    text = model_card.render(replace(run, report=report))
    assert sum(line.startswith("# ") for line in text.splitlines()) == 1
    assert "<img" not in text.replace("\\<img", "")
    assert "- \\[click\\]\\(javascript:x\\)" in text
