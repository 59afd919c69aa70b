"""Made-up reports of three blood-cell classes: accepted, rejected, inconclusive, and ended before an artifact existed; one of masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Label order is not alphabetical, so a table that sorts its classes would be caught.
CLASSES = ["platelet", "basophil", "erythroblast"]
BEFORE = [[96, 3, 1], [2, 198, 0], [5, 1, 44]]
AFTER = [[95, 4, 1], [2, 195, 3], [6, 2, 42]]


def metrics(confusion: list[list[int]]) -> dict[str, Any]:
    size, total = range(len(confusion)), sum(map(sum, confusion))
    recall = [confusion[i][i] / sum(confusion[i]) for i in size]
    precision = [confusion[i][i] / sum(row[i] for row in confusion) for i in size]
    f1 = [2 * r * p / (r + p) for r, p in zip(recall, precision, strict=True)]
    per_class = {CLASSES[i]: {"cases": sum(confusion[i]), "recall": recall[i], "precision": precision[i], "f1": f1[i]} for i in size}
    overall = {"accuracy": sum(confusion[i][i] for i in size) / total, "macro_f1": sum(f1) / len(f1)}
    return {"overall": overall, "per_class": per_class, "confusion": confusion}


def latency(p50: float) -> dict[str, dict[str, float]]:
    shape = {"p50": 1.0, "p90": 1.1, "p95": 1.2, "p99": 1.5}
    return {batch: {name: p50 * k * rise for name, rise in shape.items()} | {"n": 321} for batch, k in (("1", 1), ("16", 9))}


def measurement(confusion: list[list[int]], p50: float, runtime: str, scale: int) -> dict[str, Any]:
    figures = {"peak_memory_bytes": 3_000_123, "parameters": 1_234_567, "macs": 2_000_000, "size_bytes": 4_938_268}
    measured = {"metrics": metrics(confusion), "latency_ms": latency(p50), "runtime": runtime}
    return measured | {name: value * scale for name, value in figures.items()}


def split(cases: int, digit: str) -> dict[str, Any]:
    return {"sha256": digit * 64, "cases": cases, "per_class": {name: cases // 3 for name in CLASSES}}


def tried(precision: str, why: str, p50: float, size_bytes: int) -> dict[str, Any]:
    judged = {"precision": precision, "kept": precision == "int8", "why": why, "verdict": "pass"}
    return judged | {"latency_ms_p50": p50, "size_bytes": size_bytes}


def passing() -> dict[str, Any]:
    baselines: dict[str, dict[str, Any]] = {
        name: {"latency_ms": latency(p50), "peak_memory_bytes": 5_000_000, "size_bytes": 4_000_000}
        for name, p50 in (("torch eager", 8.0), ("ONNX Runtime f32", 4.0), ("OpenVINO f32", 3.0))
    }
    return {
        "format": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "verdict": "pass",
        "accepted": True,
        "reasons": ["every limit holds with 95 % confidence"],
        "target": "openvino",
        "precision": "int8",
        "machine": {"cpu": "A processor", "physical_cores": 2, "isa": ["avx2", "avx512_vnni"], "memory_bytes": 25_000_000_000, "load": 1.5},
        "versions": {"torch": "2.13.0", "optimize": "0.1.0"},
        "seed": 7,
        "duration_s": 75.2,
        "model": {"name": "cells.pt", "sha256": "a" * 64, "arch": "net.py:make"},
        "classes": CLASSES,
        "data": {"train": None, "calibration": split(30, "b"), "guard": split(60, "c"), "test": split(350, "d")},
        "limits": {"max_drop": 0.02, "max_class_drop": 0.06, "min_class_f1": 0.75},
        "baseline": measurement(BEFORE, 8.0, "torch eager", 5),
        "compressed": measurement(AFTER, 0.5, "OpenVINO int8", 1),
        "baselines": baselines,
        "speedup": {
            batch: {name: {"value": each["latency_ms"]["1"]["p50"] / 0.5, "low": 0.9, "high": 17.7} for name, each in baselines.items()}
            for batch in ("1", "16")
        },
        "precisions_tried": [tried("f32", "slower than int8", 1.25, 2_000_000), tried("int8", "fastest that holds", 0.5, 1_000_000)],
        "steps": [
            {
                "step": step,
                "settings": {"budget": budget},
                "kept": kept,
                "reasons": [why],
                "parameters": 1_234_567,
                "macs": 2_000_000,
                "overall": 0.95,
                "worst_class": {"name": "basophil", "drop": 0.015},
                "seconds": 12.5,
            }
            for step, budget, kept, why in (("Prune", 0.05, True, "limits hold"), ("Prune", 0.2, False, "basophil fell by 9 pp"))
        ],
        "layers": [{"name": "conv1", "kind": "Conv2d", "before": [64, 3, 3, 3], "after": [16, 3, 3, 3]}],
        "layer_precisions": {"conv1": "int8", "node10": "int8", "node2": "f32"},
        "parity": {"max_abs_diff": 2e-6, "cases": 8, "opset": 18},
        "notes": ["3 duplicates were dropped"],
        "artifact": {"files": [{"name": "model.bin", "sha256": "e" * 64, "bytes": 1_000_000}]},
        "guard": {"overall": 0.95, "worst_class": {"name": "basophil", "drop": 0.015}},
    }


def refused(verdict: str, reason: str) -> dict[str, Any]:
    return passing() | {"verdict": verdict, "accepted": False, "artifact": None, "reasons": [reason]}


def failing() -> dict[str, Any]:
    report = refused("fail", "recall of basophil fell by 9.00 pp; the limit is 6 pp")
    return report | {"compressed": report["compressed"] | {"metrics": metrics([[96, 3, 1], [2, 180, 18], [5, 1, 44]])}}


def inconclusive() -> dict[str, Any]:
    return refused("inconclusive", "50 erythroblasts cannot tell; 410 are needed")


def ended_early() -> dict[str, Any]:
    gone = ("precision", "compressed", "baselines", "speedup", "precisions_tried", "steps", "layers", "layer_precisions", "parity", "guard")
    return failing() | dict.fromkeys(gone) | {"reasons": ["the original itself misses the F1 limit"]}


def masks() -> dict[str, Any]:
    """A segmentation of two classes, one of which nobody in the test split has."""
    report = passing() | {"task": "segmentation", "classes": ["tumour", "cyst"]}
    counts = {"tumour": 20, "cyst": 0}
    report["data"] = {name: each and each | {"patients": 12, "per_class": counts} for name, each in report["data"].items()}
    report["limits"] = report["limits"] | {"min_agreement": 0.9}
    for part, dice, agreement in (("baseline", 0.791, 1.0), ("compressed", 0.7754, 0.976)):
        per_class = {"tumour": {"patients": 12, "dice": dice}, "cyst": {"patients": 0, "dice": None}}
        report[part]["metrics"] = {"overall": {"dice": dice, "agreement": agreement}, "per_class": per_class, "confusion": None}
    for each in (report["guard"], *report["steps"]):
        each["worst_class"] = {"name": "tumour", "drop": 0.015}
    report["steps"][1]["reasons"] = ["Dice of tumour fell by 9 pp on 10 patients; the limit is 6 pp"]
    return report


RUNS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "pass": passing,
    "fail": failing,
    "inconclusive": inconclusive,
    "ended early": ended_early,
    "masks": masks,
}
