"""Acceptance records of made-up sites, as `run/verification/site.py` makes them."""

from __future__ import annotations

from typing import Any

from optimize.guard.limits import Limits

FIGURE: dict[str, Any] = {
    **{"scope": "overall", "column": None, "name": None, "figure": "overall accuracy", "title": "overall accuracy", "rule": "drop"},
    **{"stated": "2 pp", "limit": 0.02, "before": 0.97, "after": 0.965, "value": 0.005, "low": -0.002, "high": 0.012, "seen": 400},
    **{"unit": "cases", "method": "exact", "lost": 3, "gained": 1, "p_value": 0.6, "outcome": "pass", "needed": None, "power": None},
}


def record(outcome: str = "pass", *, labelled: bool | None = True, name: str = "cells.pt", **bundle: Any) -> dict[str, Any]:
    """A record with this outcome; `bundle` says what of the bundle is another."""
    judgement: dict[str, Any] = {
        **{"outcome": outcome, "reasons": ["overall accuracy 96.50 % against 97.00 %"], "per_class": [], "not_judged": []},
        "figures": [FIGURE, {**FIGURE, "scope": "class", "name": name, "title": f"recall of {name}", "outcome": outcome, "needed": 900}],
        "disagreements": None,
    }
    if labelled is False:
        rows = {"answers": 40, "left": 1, "high": 0.011, "stated_share": None}
        judgement |= {"not_judged": ["max_class_drop: needs labels"], "disagreements": [4, 17]}
        judgement["per_class"] = [{"name": name, **rows, "needed_share": 0.18}, {"name": "b", **rows, "needed_share": 1.8}]
    cases = {
        **{"cases": 400, "patients": None, "labelled": bool(labelled), "per_class": {name: 300, "b": 100} if labelled else None},
        **{"per_group": {"scanner": {name: 400}}, "sha256": "5" * 64, "recorded_outputs": False, "original": "original.onnx"},
    }
    return {
        **{"format": 1, "kind": "optimize-acceptance", "created": "2026-11-30T10:00:00+00:00", "outcome": outcome, "signed_by": None},
        **{"reasons": judgement["reasons"], "findings": ["complete: 12 files", f"original: {name}"]},
        "bundle": {
            **{"name": name, "target": "onnxruntime", "precision": "int8", "verdict": "pass", "accepted": True, "task": "classification"},
            **{"created": "2026-11-01T10:00:00+00:00", "warning": None, "key": None},
            **{"manifest_sha256": "1" * 64, "artifact_sha256": "2" * 64, "report_sha256": "3" * 64},
            **bundle,
        },
        **{"machine": {"cpu": "Some CPU", "memory_bytes": 2**34}, "versions": {"optimize": "0.1.0", "numpy": "2.4"}},
        "self_test": {"outcome": "pass", "findings": ["16 inputs"]},
        "cases": None if labelled is None else cases,
        "criteria": Limits().as_dict(),
        "judgement": None if labelled is None else judgement,
        "limitations": ["The record is about this machine."],
    }
