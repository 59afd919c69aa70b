"""Made-up reports of three blood-cell classes at three sites, one for every way a run can end; one of masks, one without statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.report.parts import latency, measurement, metrics, rail, reliability, split, tried

# Label order is not alphabetical, so a table that sorts its classes would be caught.
CLASSES = ["platelet", "basophil", "erythroblast"]
BEFORE = [[96, 3, 1], [2, 198, 0], [5, 1, 44]]
AFTER = [[95, 4, 1], [2, 195, 3], [6, 2, 42]]
GROUPS = {"A": (150, 146, 144), "B": (120, 116, 114), "C": (80, 76, 74)}
LIMITS: dict[str, Any] = {
    "preset": None,
    "verdict": "statistical",
    "confidence": 0.95,
    "metric": "accuracy",
    "class_metric": "recall",
    "max_drop": 0.02,
    "max_class_drop": 0.06,
    "max_group_drop": 0.06,
    "min_class_f1": 0.75,
    "min_class_recall": 0.0,
    "min_agreement": 0.0,
    "threshold": 0.5,
    "positive": ["erythroblast"],
    "max_sensitivity_drop": None,
    "max_specificity_drop": None,
    "max_ece_rise": 0.02,
    "max_regressed": None,
    "relative": [],
}


def rails(
    after: list[list[int]], groups: Mapping[str, tuple[int, int, int]] = GROUPS, before: list[list[int]] = BEFORE
) -> list[dict[str, Any]]:
    """Judged by hand: a drop fails beyond its limit, is inconclusive below 40 cases, and passes otherwise."""
    old, new = metrics(CLASSES, before), metrics(CLASSES, after)
    total = sum(map(sum, before))
    accuracy = (old["overall"]["accuracy"], new["overall"]["accuracy"])
    found = [
        rail("overall accuracy", "drop", 0.02, *accuracy, seen=total, flips=(8, 1)),
        rail("calibration error", "rise", 0.02, 0.021, 0.027, seen=total, method="bootstrap of cases"),
    ]
    for i, name in enumerate(CLASSES):
        recall = (each["per_class"][name]["recall"] for each in (old, new))
        lost = max(0, before[i][i] - after[i][i])
        found.append(rail("recall", "drop", 0.06, *recall, seen=sum(before[i]), name=name, scope="class", flips=(lost + 1, 1)))
    for name in CLASSES:
        f1 = (each["per_class"][name]["f1"] for each in (old, new))
        found.append(rail("F1", "floor", 0.75, *f1, seen=total, name=name, scope="class", method="bootstrap of cases"))
    for site, (cases, right, still) in groups.items():
        shares = (right / cases, still / cases)
        found.append(rail("accuracy", "drop", 0.06, *shares, seen=cases, name=site, scope="group", column="site", flips=(right - still, 0)))
    return found


def flip(number: int, kind: str, truth: str, before: str, after: str, **others: Any) -> dict[str, Any]:
    at = {"id": str(number), "patient": f"P{number // 10}", "groups": {"site": "ABC"[number % 3]}, "kind": kind}
    return at | {"truth": truth, "before": before, "after": after, "confidence_before": 0.91, "confidence_after": 0.55} | others


def plan_rail(title: str, scope: str, cases: int, loss: float | None, most_lost: int, required: int | None) -> dict[str, Any]:
    name = title.removeprefix("recall of ") if scope == "class" else None
    at = {"title": title, "scope": scope, "column": None, "name": name, "stated": "6 pp", "cases": cases, "unit": "cases"}
    return at | {"largest_loss": loss, "most_lost": most_lost, "nearly_no_change": loss is None, "required": required}


def passing() -> dict[str, Any]:
    baselines: dict[str, dict[str, Any]] = {
        name: {"latency_ms": latency(p50), "peak_memory_bytes": 5_000_000, "size_bytes": 20_000_000}
        for name, p50 in (("torch eager", 8.0), ("ONNX Runtime f32", 4.0), ("OpenVINO f32", 3.0))
    }
    per_group = [{"site": {site: {"cases": g[0], "accuracy": g[k] / g[0]} for site, g in GROUPS.items()}} for k in (1, 2)]
    ends = (("value", 0.5), ("low", 0.51), ("high", 0.49))
    tries = (
        ("Prune", 0.05, True, "limits hold", 0.962, 1.9, 0.91),
        ("Prune", 0.2, False, "basophil fell by 9 pp", 0.93, 1.0, 0.66),
        ("Prune", 0.1, True, "limits hold", 0.955, 1.4, 0.74),
        ("Factorize", 0.9, False, "no faster on the target", 0.954, 1.35, 0.78),
    )
    return {
        "format": 2,
        "created": "2026-01-02T03:04:05+00:00",
        "verdict": "pass",
        "accepted": True,
        "reasons": ["overall accuracy 94.86 % against 96.57 %, limit 2 pp; worst class erythroblast lost 4.00 pp, limit 6 pp"],
        "target": "openvino",
        "precision": "int8",
        "machine": {"cpu": "A processor", "physical_cores": 2, "isa": ["avx2", "avx512_vnni"], "memory_bytes": 25_000_000_000, "load": 1.5},
        "versions": {"torch": "2.13.0", "optimize": "0.1.0"},
        "seed": 7,
        "duration_s": 75.2,
        "profile": {
            "seconds": 75.0,
            "cpu_seconds": 120.0,
            "peak_memory_bytes": 1_500_000_000,
            "resumed": False,
            "taken_over_seconds": 0,
            "rows": [
                {"part": part, "stage": stage, "calls": calls, "seconds": seconds, "cpu_seconds": cpu, "peak_memory_bytes": peak}
                for part, stage, calls, seconds, cpu, peak in (
                    ("load", "load the data", 1, 5.0, 4.0, 900_000_000),
                    ("search", "judge", 4, 20.0, 38.0, 1_500_000_000),
                    ("search", "narrow", 4, 40.0, 70.0, 1_400_000_000),
                    ("measure", "latency at batch 1", 1, 10.0, 8.0, 1_500_000_000),
                )
            ],
        },
        "time_budget": None,
        "model": {"name": "cells.pt", "sha256": "a" * 64, "arch": "net.py:make"},
        "classes": CLASSES,
        "data": {"train": None, "calibration": split(CLASSES, 30, "b"), "guard": split(CLASSES, 60, "c"), "test": split(CLASSES, 350, "d")},
        "limits": LIMITS,
        "baseline": measurement(metrics(CLASSES, BEFORE, per_group[0]), 8.0, "torch eager", 5),
        "compressed": measurement(metrics(CLASSES, AFTER, per_group[1]), 0.5, "OpenVINO int8", 1),
        "baselines": baselines,
        "speedup": {
            batch: {name: {end: each["latency_ms"]["1"]["p50"] / ours for end, ours in ends} for name, each in baselines.items()}
            for batch in ("1", "16")
        },
        "precisions_tried": [tried("f32", "slower than int8", 1.25, 2_000_000), tried("int8", "fastest that holds", 0.5, 1_000_000)],
        "acceptance_plan": {
            "power": 0.9,
            "asked": 0.92,
            "unchanged": 0.988,
            "required_guard": None,
            "shipped": 0.947,
            "gained": 0.005,
            "loss_of_all": 0.0041,
            "rails": [
                plan_rail("recall of basophil", "class", 40, 0.0, 2, None),
                plan_rail("overall accuracy", "overall", 350, 0.0062, 3, None),
                plan_rail("recall of <b>", "class", 25, None, 0, 73),
            ],
        },
        "steps": [
            {
                "step": step,
                "settings": {"budget": budget},
                "kept": kept,
                "reasons": [why],
                "parameters": int(megs * 1e6),
                "macs": int(megs * 2e6),
                "overall": overall,
                "worst_class": {"name": "basophil", "drop": 0.015},
                "seconds": 12.5,
                "latency_ms": taken,
            }
            for step, budget, kept, why, overall, megs, taken in tries
        ],
        "layers": [
            {"name": "conv1", "kind": "Conv2d", "before": [64, 3, 3, 3], "after": [16, 3, 3, 3]},
            {"name": "fc.0", "kind": "Linear", "before": [100, 400], "after": [24, 400]},
            {"name": "fc.1", "kind": "Linear", "before": [100, 400], "after": [100, 24]},
        ],
        "layer_precisions": {"conv1": "int8", "node10": "int8", "node2": "f32"},
        "parity": {"max_abs_diff": 2e-6, "cases": 8, "opset": 18},
        "roofline": {
            "batch": 1,
            "p50_ms": 0.5,
            "roof_ms": 0.2,
            "share": 0.4,
            "limit": "overhead",
            "compute_ms": 0.15,
            "memory_ms": 0.05,
            "overhead_ms": 0.3,
            "sentence": "0.5 ms at the median, where the roofline allows 0.2 ms: 40 % of it is reached. Overhead limits it.",
            "peak_macs_per_s": {"int8": 4e11},
            "bandwidth_bytes_per_s": 4e10,
            "load_percent": 1.5,
            "slowest": [
                {"name": name, "precision": "int8", "ms": ms, "of_median": ms / 0.5, "roof_ms": 0.05, "share": 0.05 / ms, "bound": bound}
                for name, ms, bound in (("conv1", 0.25, "compute"), ("fc.1", 0.1, "memory"))
            ],
        },
        "unused_parameters": {"old.bias": 10, "old.weight": 1000},
        "notes": ["3 duplicates were dropped"],
        "artifact": {"files": [{"name": "model.bin", "sha256": "e" * 64, "bytes": 1_000_000}]},
        "guard": {"overall": 0.95, "worst_class": {"name": "basophil", "drop": 0.015}},
        "rails": rails(AFTER),
        "flips": {
            "cases": 350,
            "regressed": 8,
            "fixed": 2,
            "changed": 1,
            "p_value": 0.109375,
            "file": "flips.csv",
            "listed": [
                flip(17, "regressed", "basophil", "basophil", "platelet"),
                flip(41, "regressed", "erythroblast", "erythroblast", "basophil", confidence_before=0.62, patient=None),
                flip(58, "fixed", "platelet", "basophil", "platelet"),
                flip(203, "changed", "erythroblast", "platelet", "basophil", groups={}),
            ],
        },
        "calibration": {"before": reliability(0.021, 0.0), "after": reliability(0.027, -0.03)},
        "operating_points": [
            {
                "class": "erythroblast",
                "threshold": 0.5,
                "sensitivity_before": 0.88,
                "sensitivity_after": 0.84,
                "specificity_before": 1.0,
                "specificity_after": 0.9867,
                "restoring_threshold": 0.43,
                "specificity_restored": 0.97,
            }
        ],
        "unevenness": {
            "p_value": 0.031,
            "method": "exact test of independence",
            "rows": [
                {"class": name, "cases": sum(BEFORE[i]), "regressed": BEFORE[i][i] - AFTER[i][i] + 1, "fixed": 1}
                for i, name in enumerate(CLASSES)
            ],
        },
        "health": [
            {"check": "size", "level": "warning", "text": "30 cases are few: ranges may be too narrow"},
            {"check": "near duplicates", "level": "ok", "text": "none among 30 cases"},
        ],
        "change": {"reason": "The model must answer within 1 ms on the analyser’s own processor."},
        "signature": {"algorithm": "Ed25519", "public_key": "A" * 43 + "=", "sha256": "f" * 64, "value": "B" * 86 + "=="},
    }


def refused(verdict: str, reason: str) -> dict[str, Any]:
    return passing() | {"verdict": verdict, "accepted": False, "artifact": None, "reasons": [reason], "signature": None}


def failing() -> dict[str, Any]:
    after = [[96, 3, 1], [2, 180, 18], [5, 1, 44]]
    report = refused("fail", "recall of basophil fell by 9.00 pp; the limit is 6 pp")
    report["compressed"]["metrics"] = metrics(CLASSES, after, report["compressed"]["metrics"]["per_group"])
    return report | {"rails": rails(after), "change": {"reason": None}}


def failing_group() -> dict[str, Any]:
    groups = GROUPS | {"C": (80, 76, 68)}
    report = refused("fail", "accuracy of site C fell by 10.00 pp; the limit is 6 pp")
    report["compressed"]["metrics"]["per_group"]["site"]["C"]["accuracy"] = 68 / 80
    return report | {"rails": rails(AFTER, groups)}


def inconclusive() -> dict[str, Any]:
    """Twelve erythroblasts, of which one more is missed than before."""
    before, after = [[96, 3, 1], [2, 198, 0], [1, 0, 11]], [[95, 4, 1], [2, 197, 1], [1, 0, 11]]
    report = refused("inconclusive", "12 erythroblasts are too few to show whether recall fell by more than 6 pp; 431 are needed")
    for part, confusion in (("baseline", before), ("compressed", after)):
        report[part]["metrics"] = metrics(CLASSES, confusion, report[part]["metrics"]["per_group"])
    return report | {"rails": rails(after, before=before)}


def ended_early() -> dict[str, Any]:
    gone = ("precision", "compressed", "baselines", "speedup", "precisions_tried", "steps", "layers", "layer_precisions", "parity", "guard")
    gone += ("acceptance_plan", "roofline", "flips", "calibration", "operating_points", "unevenness")
    return failing() | dict.fromkeys(gone) | {"rails": [], "reasons": ["the original itself misses the F1 limit"]}


def masks() -> dict[str, Any]:
    """A segmentation of two classes, one of which nobody in the test split has."""
    report = passing() | {"task": "segmentation", "classes": ["tumour", "cyst"]}
    counts = {"tumour": 20, "cyst": 0}
    report["data"] = {name: each and each | {"patients": 12, "per_class": counts} for name, each in report["data"].items()}
    report["acceptance_plan"]["rails"] = []  # Dice is no share of cases, so nothing is known of it before a run
    unasked = {"max_group_drop": None, "max_ece_rise": None, "threshold": None, "positive": []}
    report["limits"] = LIMITS | {"metric": "dice", "class_metric": "dice", "min_agreement": 0.9} | unasked
    for part, dice, agreement in (("baseline", 0.791, 1.0), ("compressed", 0.7754, 0.976)):
        per_class = {"tumour": {"patients": 12, "dice": dice}, "cyst": {"patients": 0, "dice": None}}
        overall = {"dice": dice, "agreement": agreement}
        report[part]["metrics"] = {"overall": overall, "per_class": per_class, "per_group": {}, "confusion": None}
    for each in (report["guard"], *report["steps"]):
        each["worst_class"] = {"name": "tumour", "drop": 0.015}
        each["overall"] = 0.78
    for each in report["steps"]:
        del each["latency_ms"]
    report["steps"][1]["reasons"] = ["Dice of tumour fell by 9 pp on 10 patients; the limit is 6 pp"]
    paired = {"unit": "patients", "seen": 12, "method": "Student’s t of paired differences"}
    report["rails"] = [
        rail("overall Dice", "drop", 0.02, 0.791, 0.7754, half=0.003, **paired),
        rail("agreement", "floor", 0.9, 1.0, 0.976, **paired),
        rail("Dice", "drop", 0.06, 0.791, 0.7754, name="tumour", scope="class", half=0.003, **paired),
        rail("Dice", "floor", 0.75, 0.791, 0.7754, name="tumour", scope="class", **paired),
    ]
    shown = {"class": "tumour", "confidence_before": None, "confidence_after": None, "groups": {}}
    listed = [flip(7, "regressed", "shown", "shown", "not shown", **shown)]
    report["flips"] = report["flips"] | {"cases": 40, "regressed": 1, "fixed": 0, "changed": 0, "p_value": 1.0, "listed": listed}
    rows = [{"class": "tumour", "cases": 20, "regressed": 1, "fixed": 0}, {"class": "cyst", "cases": 20, "regressed": 0, "fixed": 0}]
    report["unevenness"] = {"p_value": None, "method": "exact test of independence", "rows": rows}
    return report | {"calibration": None, "operating_points": None}


def point() -> dict[str, Any]:
    """Measured values alone are compared: no bounds, no methods."""
    report = passing()
    report["limits"] = LIMITS | {"verdict": "point", "preset": "bloodmnist", "max_group_drop": None, "relative": ["max_drop"]}
    report["rails"] = [each | {"low": None, "high": None, "method": None} for each in report["rails"] if each["scope"] != "group"]
    report["rails"][0] |= {"stated": "2 % of the original’s", "limit": 0.02 * report["rails"][0]["before"]}
    for part in ("baseline", "compressed"):
        report[part]["metrics"]["per_group"] = {}
    return report | {"reasons": ["every measured value is within its limit"], "health": [], "signature": None}


def many() -> dict[str, Any]:
    """Forty attributes with long names, as of faces."""
    names = [f"attribute number {i}" for i in range(40)]
    report = passing() | {"classes": names}
    counted = [rail("recall", "drop", 0.06, 0.9, 0.9 - 0.001 * i, seen=50 + 40 * i, name=n, scope="class") for i, n in enumerate(names)]
    for part in ("baseline", "compressed"):
        figures = {n: {"cases": 50 + 40 * i, "recall": 0.9, "precision": 0.9, "f1": 0.9} for i, n in enumerate(names)}
        report[part]["metrics"] |= {"per_class": figures, "confusion": None}
    return report | {"rails": report["rails"][:2] + counted}


RUNS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "pass": passing,
    "fail": failing,
    "fail by subgroup": failing_group,
    "inconclusive": inconclusive,
    "ended early": ended_early,
    "masks": masks,
    "point": point,
    "many classes": many,
}
