"""What the made-up reports are put together from."""

from __future__ import annotations

from math import sqrt
from typing import Any

TANGO = "score interval of a paired difference (Tango 1998)"


def metrics(classes: list[str], confusion: list[list[int]], per_group: dict[str, Any] | None = None) -> dict[str, Any]:
    size, total = range(len(confusion)), sum(map(sum, confusion))
    recall = [confusion[i][i] / sum(confusion[i]) for i in size]
    precision = [confusion[i][i] / sum(row[i] for row in confusion) for i in size]
    f1 = [2 * r * p / (r + p) for r, p in zip(recall, precision, strict=True)]
    per_class = {classes[i]: {"cases": sum(confusion[i]), "recall": recall[i], "precision": precision[i], "f1": f1[i]} for i in size}
    overall = {"accuracy": sum(confusion[i][i] for i in size) / total, "macro_f1": sum(f1) / len(f1), "auc": 0.9912, "ece": 0.021}
    return {"overall": overall, "per_class": per_class, "per_group": per_group or {}, "confusion": confusion}


def latency(p50: float) -> dict[str, dict[str, float]]:
    shape = {"p50": 1.0, "p90": 1.1, "p95": 1.2, "p99": 1.5}
    return {batch: {name: p50 * k * rise for name, rise in shape.items()} | {"n": 321} for batch, k in (("1", 1), ("16", 9))}


def measurement(measured: dict[str, Any], p50: float, runtime: str, scale: int) -> dict[str, Any]:
    figures = {"peak_memory_bytes": 3_000_123, "parameters": 1_234_567, "macs": 2_000_000, "size_bytes": 4_938_268}
    return {"metrics": measured, "latency_ms": latency(p50), "runtime": runtime} | {name: value * scale for name, value in figures.items()}


def split(classes: list[str], cases: int, digit: str) -> dict[str, Any]:
    return {"sha256": digit * 64, "cases": cases, "per_class": {name: cases // 3 for name in classes}}


def tried(precision: str, why: str, p50: float, size_bytes: int) -> dict[str, Any]:
    judged = {"precision": precision, "kept": precision == "int8", "why": why, "verdict": "pass"}
    return judged | {"latency_ms_p50": p50, "size_bytes": size_bytes}


def rail(
    figure: str,
    rule: str,
    limit: float,
    before: float,
    after: float,
    *,
    seen: int,
    unit: str = "cases",
    name: str | None = None,
    scope: str = "overall",
    column: str | None = None,
    flips: tuple[int, int] | None = None,
    method: str = TANGO,
    half: float | None = None,
) -> dict[str, Any]:
    """A drop or rise fails beyond its limit, is inconclusive below 40 cases of a class, and passes otherwise."""
    value = {"drop": before - after, "rise": after - before}.get(rule, after)
    broken = value < limit if rule == "floor" else value > limit + 1e-9
    outcome = "fail" if broken else "inconclusive" if seen < 40 and unit == "cases" else "pass"
    half = (0.25 if outcome == "inconclusive" else 0.04) / sqrt(seen) if half is None else half
    of = f" of {column} {name}" if column else f" of {name}" if name else ""
    return {
        "scope": scope,
        "column": column,
        "name": name,
        "figure": figure,
        "title": figure + of,
        "rule": rule,
        "stated": f"{limit:g}" if rule == "floor" else f"{limit * 100:g} pp",
        "limit": limit,
        "before": before,
        "after": after,
        "value": value,
        "low": value - half,
        "high": min(1.0, value + half),
        "seen": seen,
        "unit": unit,
        "method": method,
        "lost": None if flips is None else flips[0],
        "gained": None if flips is None else flips[1],
        "p_value": None if flips is None else 0.22,
        "outcome": outcome,
        "needed": 431 if outcome == "inconclusive" else None,
        "power": 0.31 if outcome == "inconclusive" else None,
    }


def reliability(ece: float, shift: float) -> dict[str, Any]:
    """Fifteen bins, the lowest five without a case; right as often as confident, but for the shift."""
    bins: list[dict[str, Any]] = []
    for i in range(15):
        low, high = round(i / 15, 4), round((i + 1) / 15, 4)
        middle = (low + high) / 2
        bins.append({"low": low, "high": high, "cases": 0, "confidence": None, "accuracy": None})
        if i >= 5:
            bins[-1] |= {"cases": 3 * i, "confidence": middle, "accuracy": min(1.0, middle + shift)}
    return {"ece": ece, "bins": bins}
