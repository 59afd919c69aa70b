"""The schema, judged by an independent validator: what it takes and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from optimize.report import render as rendering
from tests.report.sample import LIMITS, RUNS, ended_early, masks, passing

SCHEMA = json.loads((Path(rendering.__file__).parent / "schema.json").read_text(encoding="utf-8"))


def validate(report: dict[str, Any]) -> None:
    jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_valid(run: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validate(RUNS[run]())


def change(**parts: Any) -> dict[str, Any]:
    return passing() | parts


def limits(**parts: Any) -> dict[str, Any]:
    return change(limits=LIMITS | parts)


def with_rail(**parts: Any) -> dict[str, Any]:
    report = passing()
    report["rails"][2] |= parts
    return report


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        at: Any = report
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("report", "where"),
    [
        (change(format=1), "2 was expected"),
        (change(verdict="maybe"), "maybe"),
        (change(extra=1), "extra"),
        (change(accepted=False), "fail|null|pass"),
        (change(verdict="fail"), "pass"),
        (change(model={"name": "x", "sha256": "A" * 64, "arch": None}), "does not match"),
        (change(speedup={"one": {}}), "one"),
        (change(load_percent={"end": 101}), "maximum of 100"),
        (change(speed="fast"), "fast"),
        (change(latency_reliability={"1": {"a": {"answer": "perhaps", "reasons": []}}}), "perhaps"),
        (change(task="detection"), "detection"),
        (change(task="segmentation"), "is not valid under any"),
        ({**masks(), "task": "classification"}, "is not valid under any"),
        (limits(max_drop=2), "maximum of 1"),
        (limits(max_drop="2pp"), "is not of type 'number'"),
        (limits(confidence=1), "exclusive|less than"),
        (limits(verdict="bayes"), "bayes"),
        (limits(preset="mnist"), "mnist"),
        (limits(metric="loss"), "loss"),
        (limits(class_metric="auc"), "auc"),
        (limits(relative=["max_everything"]), "max_everything"),
        (limits(extra=0), "extra"),
        (change(rails=None), "is not of type 'array'"),
        (with_rail(rule="ratio"), "ratio"),
        (with_rail(scope="site"), "site"),
        (with_rail(scope="overall"), "is not of type 'null'"),
        (with_rail(scope="group"), "is not of type 'string'"),
        (with_rail(name=None), "is not of type 'string'"),
        (with_rail(column="site"), "is not of type 'null'"),
        (with_rail(outcome="maybe"), "maybe"),
        (with_rail(value=1.5), "maximum of 1"),
        (with_rail(seen=-1), "minimum of 0"),
        (with_rail(unit="images"), "images"),
        (with_rail(needed=3.5), "is not of type 'integer'"),
        (with_rail(note="x"), "note"),
        (change(health=[{"check": "size", "level": "bad", "text": ""}]), "bad"),
        (change(change={}), "'reason' is a required"),
        (change(change={"reason": 3}), "is not of type"),
        (change(signature={"algorithm": "Ed25519"}), "is a required"),
        (change(operating_points=[{}]), "is a required"),
        (change(unevenness={"p_value": 2, "method": "", "rows": []}), "maximum of 1"),
        *(
            ({key: value for key, value in passing().items() if key != name}, f"'{name}' is a required")
            for name in ("guard", "rails", "flips", "calibration", "operating_points", "unevenness", "health", "change", "signature")
        ),
        *(({**passing(), "limits": {k: v for k, v in LIMITS.items() if k != name}}, f"'{name}' is a required") for name in LIMITS),
    ],
)
def test_the_schema_refuses(report: dict[str, Any], where: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=where):
        validate(report)


@pytest.mark.parametrize(
    "spoil",
    [
        put("flips", "listed", 0, "kind", value="lost"),
        put("flips", "listed", 0, "id", value=17),
        put("flips", "listed", 0, "groups", value={"site": 1}),
        put("flips", "listed", 0, "confidence_after", value=1.2),
        put("flips", "regressed", value=-1),
        put("flips", "more", value=[]),
        put("calibration", "after", value=None),
        put("calibration", "before", "bins", 0, "cases", value=0.5),
        put("operating_points", 0, "threshold", value=None),
        put("steps", 0, "latency_ms", value=-1),
        put("steps", 0, "latency_ms", value="1 ms"),
        put("signature", "public_key", value="A" * 44),
        put("signature", "value", value="B" * 88),
        put("signature", "algorithm", value="RSA"),
    ],
)
def test_the_schema_refuses_inside(spoil: Callable[[dict[str, Any]], None]) -> None:
    report = passing()
    spoil(report)
    with pytest.raises(jsonschema.ValidationError):
        validate(report)


@pytest.mark.parametrize("part", ["auc", "ece", "per_group"])
def test_metrics_name_what_was_not_measured(part: str) -> None:
    report = passing()
    metrics = report["baseline"]["metrics"]
    del (metrics if part == "per_group" else metrics["overall"])[part]
    with pytest.raises(jsonschema.ValidationError, match="is not valid under any"):
        validate(report)


@pytest.mark.parametrize("figures", [{"cases": 3}, {"cases": 3, "accuracy": 0.5, "f1": 0.5}, {"patients": 3, "dice": 0.5}])
def test_a_group_has_the_figures_of_its_task(figures: dict[str, Any]) -> None:
    report = passing()
    report["baseline"]["metrics"]["per_group"]["site"]["A"] = figures
    with pytest.raises(jsonschema.ValidationError, match="is not valid under any"):
        validate(report)


def test_what_was_not_reached_may_be_null_and_latency_of_a_step_left_out() -> None:
    report = ended_early()
    assert [report[name] for name in ("flips", "calibration", "operating_points", "unevenness", "signature")] == [None] * 5
    assert "latency_ms" not in masks()["steps"][0]
    report["steps"] = passing()["steps"]
    report["steps"][0]["latency_ms"] = None
    validate(report)


def test_what_earlier_versions_did_not_say_is_valid_where_it_is_said() -> None:
    roof = passing()["roofline"]
    timed = roof["slowest"][0] | {"calls": 2, "macs": 100}
    layers = [timed, timed | {"name": "fused", "ms": None, "of_median": None, "share": None}]
    reliable = {"1": {"artifact": {"answer": "steady", "reasons": []}}}
    loads = {"batch 1": 3.0, "end": 0}
    validate(change(roofline=roof | {"layers": layers, "untimed": 1}, load_percent=loads, latency_reliability=reliable))
    validate(change(latency_reliability=None))
    for answer in ("faster", "not faster", "not measured reliably", None):
        validate(change(speed=answer))


def test_every_property_of_format_2_says_what_it_is_or_is_plain() -> None:
    for name in ("rails", "flips", "calibration", "operating_points", "unevenness", "health", "signature"):
        assert SCHEMA["properties"][name]["description"]
