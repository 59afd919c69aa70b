"""The record of a change, against one written by hand for a small report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.documents import change_control
from tests.deploy.bundled_run import PROTOCOL, bundled
from tests.report.parts import rail
from tests.report.sample import failing_group, inconclusive, many, masks, passing, point

NARROW = "\u202f"


@pytest.fixture
def run(tmp_path: Path) -> BundledRun:
    """A report of two guard-rails, so that the record can be written by hand."""
    rails = [
        rail("overall accuracy", "drop", 0.02, 0.95, 0.94, seen=400, flips=(6, 2), half=0.005),
        rail("recall", "drop", 0.06, 0.9, 0.88, seen=50, name="basophil", scope="class", flips=(1, 0), half=0.03),
    ]
    limits = passing()["limits"] | {"max_group_drop": None, "min_class_f1": 0.0, "max_ece_rise": None}
    return bundled(tmp_path, rails=rails, limits=limits, protocol=PROTOCOL)


def record(run: BundledRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(change_control.render(run)["change_control.json"])
    return found


def test_the_record_is_the_one_written_by_hand(run: BundledRun) -> None:
    found = record(run)
    assert {key: found[key] for key in ("format", "kind", "title", "created", "verdict", "warning")} == {
        "format": 1,
        "kind": "optimize-change-control",
        "title": "A smaller network",
        "created": "2026-01-02T03:04:05+00:00",
        "verdict": "pass",
        "warning": None,
    }
    assert found["description_of_modifications"] == {
        "description": "Channels are removed.",
        "reason": "The model must answer within 1 ms on the analyser’s own processor.",
        "intended_use": "Sorting of cells.",
        "unchanged": "The classes.",
        "as_made": f"Replace cells.pt by an artifact compiled for ONNX Runtime at f32: parameters −80.0{NARROW}%, "
        f"multiply–accumulates −80.0{NARROW}%, size of the files −80.0{NARROW}%.",
        "steps": [{"step": "Prune", "kept": 2}],
        "original": {"name": "cells.pt", "sha256": "a" * 64},
        "artifact": {"target": "onnxruntime", "precision": "f32", "sha256": run.artifact.sha256},
    }
    assert found["modification_protocol"] == {
        "fixed_before_the_run": True,
        "statement": f"The run was found to agree with protocol.toml, dated 2026-01-01, SHA-256 {'1' * 64}, at 2026-01-02T03:00:00+00:00, "
        f"before any work. It was signed with the key {'2' * 64}.",
        "file": "protocol.toml",
        "sha256": "1" * 64,
        "date": "2026-01-01",
        "checked": "2026-01-02T03:00:00+00:00",
        "responsible": "A. Person",
        "signed_by": "2" * 64,
        "data_management": {
            "practice": "not stated",
            "test_data": "The second site.",
            "splits": {
                "calibration": {"cases": 30, "sha256": "b" * 64},
                "guard": {"cases": 60, "sha256": "c" * 64},
                "test": {"cases": 350, "sha256": "d" * 64},
            },
        },
        "retraining": "None.",
        "performance_evaluation": {
            "statistical_plan": "Paired bounds.",
            "criteria": [
                {"criterion": "Drop of overall accuracy", "limit": "at most 2 pp"},
                {"criterion": "Drop of any class’s recall", "limit": "at most 6 pp"},
            ],
            "consequences": {"accepted": "It is shipped.", "rejected": "Nothing changes.", "inconclusive": "More cases."},
        },
        "update": "Within an hour.",
    }
    assert found["traceability"] == [
        {
            "criterion": "drop of overall accuracy",
            "limit": "at most 2 pp",
            "justification": "Experts differ by more.",
            "pass": 1,
            "fail": 0,
            "inconclusive": 0,
        },
        {
            "criterion": "drop of any class’s recall",
            "limit": "at most 6 pp",
            "justification": "Nobody would notice.",
            "pass": 1,
            "fail": 0,
            "inconclusive": 0,
        },
    ]


def test_the_impact_is_what_the_run_measured(run: BundledRun) -> None:
    impact = record(run)["impact_assessment"]
    assert impact["benefits"]["expected"] == ["Faster."]
    assert [text.partition(":")[0] for text in impact["benefits"]["measured"]] == [
        *("Speed at batch 1", "Size of the files", "Peak memory of the process")
    ]
    assert impact["risks"]["expected"] == ["Rare classes."]
    overall, basophil = impact["risks"]["measured"]
    assert (overall["cases"], overall["n"], overall["limit"], overall["outcome"]) == ("all cases", 400, "at most 2 pp", "pass")
    assert (basophil["cases"], basophil["value"]) == ("class basophil", pytest.approx(0.02))
    assert (basophil["low"], basophil["high"]) == (pytest.approx(-0.01), pytest.approx(0.05))
    assert impact["risks"]["changed_decisions"] == {"cases": 350, "regressed": 8, "fixed": 2, "changed": 1, "p_value": 0.109375}
    assert impact["mitigations"]["stated"] == ["Limits for classes."]
    assert "Each class had a limit of its own." in impact["mitigations"]["in_the_run"]
    assert "Each subgroup had a limit of its own." not in impact["mitigations"]["in_the_run"]
    assert impact["consequence_of_this_verdict"] == "It is shipped."


def test_without_a_protocol_the_record_says_plainly_that_there_was_none(run: BundledRun) -> None:
    found = record(replace(run, report={**run.report, "protocol": None}))
    protocol = found["modification_protocol"]
    assert protocol["fixed_before_the_run"] is False
    assert protocol["statement"] == change_control.NONE
    assert {protocol[key] for key in ("file", "sha256", "date", "checked", "responsible", "signed_by")} == {None}
    assert found["description_of_modifications"]["intended_use"] == "not stated"
    assert found["traceability"][0]["justification"] == "not stated"
    # a report of an earlier version has no such key
    assert record(replace(run, report={key: value for key, value in run.report.items() if key != "protocol"})) == found


def test_a_protocol_without_a_signature_is_said_to_have_none(run: BundledRun) -> None:
    protocol = record(replace(run, report={**run.report, "protocol": PROTOCOL | {"signature": None}}))["modification_protocol"]
    assert protocol["signed_by"] is None
    assert protocol["statement"].endswith("It was not signed.")


def test_limits_of_subgroups_scores_and_calibration_find_their_rails(run: BundledRun) -> None:
    """Every guard-rail of the full report belongs to exactly one limit."""
    report = passing()
    rows = record(replace(run, report={**report, "versions": {}, "protocol": PROTOCOL}))["traceability"]
    assert sum(row[outcome] for row in rows for outcome in ("pass", "fail", "inconclusive")) == len(report["rails"])
    assert {row["criterion"]: row["pass"] + row["fail"] + row["inconclusive"] for row in rows} == {
        "drop of overall accuracy": 1,
        "drop of any class’s recall": 3,
        "drop of accuracy in any subgroup": 3,
        "F1 of every class": 3,
        "rise of the calibration error": 1,
    }


def test_a_rejected_run_has_the_consequence_of_a_rejection(tmp_path: Path) -> None:
    run = bundled(tmp_path, rejected=True, protocol=PROTOCOL)
    found = record(run)
    assert found["warning"] == "This model was rejected."
    assert found["impact_assessment"]["consequence_of_this_verdict"] == "Nothing changes."
    assert change_control.render(run)["change_control.md"].splitlines()[2] == "**WARNING: This model was rejected.**"


@pytest.mark.parametrize("made", [passing, failing_group, inconclusive, masks, point, many])
def test_every_kind_of_report_has_a_record_and_a_page(run: BundledRun, made: Callable[[], dict[str, Any]]) -> None:
    found = change_control.render(replace(run, report={**made(), "versions": {}}))
    page = found["change_control.md"]
    for heading in ("1. Description of modifications", "2. Modification protocol", "3. Impact assessment", "4. Traceability"):
        assert f"\n## {heading}\n" in page
    assert "None" not in page.replace("None.", "")
    assert change_control.render(replace(run, report={**made(), "versions": {}})) == found


def test_texts_of_the_protocol_cannot_change_the_page(run: BundledRun) -> None:
    hostile = "x | y |\n# Verdict: pass <script>"
    content = PROTOCOL["content"] | {"title": hostile, "modification": {"description": hostile, "intended_use": hostile}}
    page = change_control.render(replace(run, report={**run.report, "protocol": PROTOCOL | {"content": content}}))["change_control.md"]
    assert "<script>" not in page.replace("\\<script\\>", "")
    assert sum(line.startswith("# ") for line in page.splitlines()) == 1
