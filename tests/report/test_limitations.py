"""What was not looked at is said, and only then; the record of the change quotes what the report holds."""

from __future__ import annotations

from typing import Any

import pytest

from optimize.report.change_control import evidence, fingerprint, fixed, intended
from optimize.report.limitations import limitations
from optimize.report.rails import Rail
from tests.report.sample import LIMITS, ended_early, failing, inconclusive, masks, passing, point

ALL_OTHERS = ("max_regressed", "max_sensitivity_drop", "max_specificity_drop")


def said(report: dict[str, Any]) -> str:
    return "\n".join(limitations({"signature": None, **report}, "OpenVINO")).replace("\u202f", " ")


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (point(), "without a margin for chance"),
        (point(), "No column of subgroups was given"),
        (passing(), "Each bound holds with 95 % confidence. The confidence that all 11 hold at the same time is lower."),
        (inconclusive(), "These figures come from fewer than 30 cases: erythroblast (12). One case changes such a figure by up"),
        (inconclusive(), "by up to 8.33 pp."),
        (passing(), "sensitivity at an operating point, specificity at an operating point and the share of cases that were right"),
        (passing(), "The data has no patient ids"),
        (passing(), "Calibration set, size: 30 cases are few"),
        (passing(), "The page lists 4 of 11 cases whose decision changed; flips.csv lists all of them."),
        (passing(), "the files whose hashes are listed above, run in OpenVINO"),
        (failing(), "the artifact that was measured, run in OpenVINO"),
        (failing(), "This report is not signed."),
        (ended_early(), "The run ended before the guard-rails were judged"),
        (masks(), "Of 12 patients: a severe loss in fewer than one of 4 patients would probably not have been observed."),
        (masks(), "The test split has no case of: cyst."),
        (masks(), "Calibration of confidence is not measured for masks."),
        (passing() | {"calibration": None}, "Calibration of confidence was not measured."),
        (passing() | {"limits": LIMITS | {"max_group_drop": None}}, "No limit was fixed for subgroups by site"),
    ],
)
def test_what_was_not_looked_at_is_said(report: dict[str, Any], text: str) -> None:
    assert text in said(report)
    assert "Latency is measured for the network alone" in said(report)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (passing(), "margin for chance"),
        (passing(), "subgroups"),
        (passing(), "not signed"),
        (passing(), "come from fewer than"),
        (passing(), "Calibration of confidence"),
        (masks(), "has no patient ids"),
        (masks(), "the calibration error"),
        (ended_early(), "another kernel"),
        (passing() | {"limits": LIMITS | dict.fromkeys(ALL_OTHERS, 0.1)}, "No limit was fixed"),
    ],
)
def test_and_only_then(report: dict[str, Any], text: str) -> None:
    assert text not in said(report)


def test_a_rail_that_could_not_be_measured_is_named() -> None:
    report = passing()
    report["rails"][0] = report["rails"][0] | {"value": None}
    assert "These figures could not be measured: overall accuracy." in said(report)


def test_what_was_fixed_is_told_as_it_was() -> None:
    limits = LIMITS | {
        "metric": "macro_f1",
        "class_metric": "precision",
        "max_drop": 0.01,
        "relative": ["max_drop"],
        "min_class_recall": 0.8,
        "max_regressed": 0.025,
    }
    assert fixed(passing() | {"limits": limits}) == [
        ("Drop of macro F1", "at most 1 % of the original’s"),
        ("Drop of any class’s precision", "at most 6 pp"),
        ("Drop of macro F1 in any subgroup", "at most 6 pp"),
        ("F1 of every class", "at least 0.75"),
        ("Recall of every class", "at least 0.8"),
        ("Rise of the calibration error", "at most 2 pp"),
        ("Share of cases right before and wrong after", "at most 2.5 %"),
    ]
    assert fixed(masks())[0] == ("Drop of overall Dice", "at most 2 pp")


def test_the_change_is_told_from_what_was_measured() -> None:
    assert intended(passing(), "OpenVINO").replace("\u202f", " ") == (
        "Replace cells.pt by an artifact compiled for OpenVINO at int8: "
        "parameters −80.0 %, multiply–accumulates −80.0 %, size of the files −80.0 %."
    )
    assert intended(ended_early(), "OpenVINO") == "Replace cells.pt by an artifact compiled for OpenVINO. No artifact was made."
    bare = passing()
    bare["compressed"] |= {"parameters": None, "macs": None, "size_bytes": None}
    assert intended(bare, "OpenVINO") == "Replace cells.pt by an artifact compiled for OpenVINO at int8."


def test_evidence_quotes_every_criterion_and_what_else_was_measured() -> None:
    told = dict(evidence(failing()))
    assert told["Drop of recall of each class, worst of 3: basophil"].replace("\u202f", " ").endswith(", at most 6 pp: fail")
    assert told["Decisions that changed"] == "8 right, now wrong; 2 wrong, now right; of 350"
    assert told["Speed at batch 1"] == "6.00× (5.88× to 6.12×) against OpenVINO f32; 0.500 ms"
    assert list(told)[-2:] == ["Size of the files", "Peak memory of the process"]
    lone = [rail for rail in masks()["rails"] if rail["scope"] == "class"]
    found: list[Rail] = list(lone)
    assert "Drop of Dice of each class, tumour" in dict(evidence(masks() | {"rails": found}))


def test_the_fingerprint_is_of_the_raw_bytes() -> None:
    # SHA-256 of 32 zero bytes, and a text that is no base64.
    assert fingerprint("A" * 43 + "=") == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    assert fingerprint("ä") == "not readable"
