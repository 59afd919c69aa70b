"""The rows of the report's tables, read from the report's dict: arranged and set against the limits, nothing computed anew.

Everything is ordered by its content (label order, slowest first, natural order of names), never by the order of a mapping's keys, so a
report read back from JSON renders to the same bytes. A part the run ended before producing gives empty rows or `None` cells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

from optimize.report.terms import AGREEMENT, terms
from optimize.report.wording import Report, natural

# A drop that equals its limit is within it; the difference of two shares carries rounding noise.
_NOISE = 1e-9


@dataclass(frozen=True)
class Criterion:
    """One acceptance criterion: what was fixed and what came out; `held` is None where it was not asked for or not measured."""

    name: str
    kind: str
    limit: float
    measured: float | None
    where: str
    held: bool | None


@dataclass(frozen=True)
class Bar:
    """A drop drawn against its limit; all in percent of the width."""

    start: float
    width: float
    zero: float
    limit: float


@dataclass(frozen=True)
class ClassRow:
    """One class on the test split, before and after; figures are fractions, `missed` names the limits it misses.

    What the figures are, and the floors that must be reached, says `Terms`; `over` tells that the drop misses its limit.
    """

    name: str
    seen: int | None
    before: float | None
    after: float | None
    drop: float | None
    floor_before: float | None
    floor_after: float | None
    over: bool
    missed: tuple[str, ...]
    bar: Bar | None


@dataclass(frozen=True)
class Contender:
    """One runtime at one batch size; `ratio` says how many times faster the artifact is than it."""

    name: str
    latency: Report
    ratio: Report | None
    share: float
    ours: bool = False


@dataclass(frozen=True)
class LayerRow:
    """One layer of the original and what became of it; `share` is the part of its weights that is left."""

    name: str
    kind: str
    before: tuple[int, ...]
    after: tuple[int, ...] | None
    share: float | None
    precision: str | None


def find(report: Any, *path: str) -> Any:
    """The value at the end of the path, or None as soon as a part is missing or null."""
    for key in path:
        if report is None:
            return None
        report = report.get(key)
    return report


def class_names(report: Report) -> list[str]:
    """Class names in label order, as far as the report knows it."""
    measured = find(report, "baseline", "metrics", "per_class") or {}
    return list(report["classes"]) if report["classes"] else sorted(measured, key=natural)


def classes(report: Report) -> list[ClassRow]:
    """Every class, in label order, with the drop of its figure drawn to one common scale."""
    limits, words = report["limits"], terms(report)
    names = class_names(report)
    before = {name: find(report, "baseline", "metrics", "per_class", name) for name in names}
    after = {name: find(report, "compressed", "metrics", "per_class", name) for name in names}
    figures = {name: (find(before[name], words.figure_key), find(after[name], words.figure_key)) for name in names}
    drops = {name: _drop(*figures[name]) for name in names}
    known = [drop for drop in drops.values() if drop is not None]
    low, high = min([0.0, *known]), max([limits["max_class_drop"], 0.001, *known]) * 1.1
    rows = []
    for name in names:
        drop, floors = drops[name], (find(before[name], words.floor_key), find(after[name], words.floor_key))
        over = drop is not None and drop > limits["max_class_drop"] + _NOISE
        under = floors[1] is not None and floors[1] < limits["min_class_f1"] - _NOISE
        missed = words.missed[:1] * over + words.missed[1:] * under
        bar = None if drop is None else _bar(drop, limits["max_class_drop"], low, high)
        rows.append(ClassRow(name, find(before[name], words.seen), *figures[name], drop, *floors, over, missed, bar))
    return rows


def criteria(report: Report) -> list[Criterion]:
    """The limits fixed before the run, each beside the worst value measured on the test split."""
    limits, rows, words = report["limits"], classes(report), terms(report)
    overall = _drop(*(find(report, part, "metrics", "overall", words.overall_key) for part in ("baseline", "compressed")))
    drop, dropped = max(((row.drop, row.name) for row in rows if row.drop is not None), default=(None, ""))
    lowest, where = min(((row.floor_after, row.name) for row in rows if row.floor_after is not None), default=(None, ""))
    most, most_class = limits["max_drop"], limits["max_class_drop"]
    fixed = [
        Criterion(f"Drop of {words.overall}", "at most", most, overall, "", _within(overall, most)),
        Criterion(f"Largest drop of any class’s {words.figure}", "at most", most_class, drop, dropped, _within(drop, most_class)),
        _floor(f"Lowest {words.floor} of any class", limits["min_class_f1"], lowest, where),
    ]
    if AGREEMENT in words.further:
        name, key = AGREEMENT
        fixed.append(_floor(name, limits.get("min_agreement", 0.0), find(report, "compressed", "metrics", "overall", key)))
    return fixed


def batches(report: Report) -> list[str]:
    """Every batch size at which anything was timed, smallest first."""
    timed = [find(report, part, "latency_ms") for part in ("baseline", "compressed")]
    timed += [find(entry, "latency_ms") for entry in (report["baselines"] or {}).values()]
    return sorted({batch for each in timed for batch in each or {}}, key=int)


def contenders(report: Report, batch: str) -> list[Contender]:
    """The artifact and every baseline at one batch size, slowest first."""
    timed = {name: find(entry, "latency_ms", batch) for name, entry in originals(report).items()}
    ours = find(report, "compressed", "latency_ms", batch)
    slowest = max([each["p50"] for each in [*timed.values(), ours] if each], default=1.0) or 1.0
    rows = [
        Contender(name, latency, find(report, "speedup", batch, name), latency["p50"] / slowest * 100)
        for name, latency in timed.items()
        if latency
    ]
    if ours:
        rows.append(Contender(artifact_name(report), ours, None, ours["p50"] / slowest * 100, ours=True))
    return sorted(rows, key=lambda row: (row.ours, -row.latency["p50"], row.name))


def originals(report: Report) -> dict[str, Report]:
    """The original in every runtime it was measured in, by name; the one it came in is among them."""
    found = dict(report["baselines"] or {})
    runtime = find(report, "baseline", "runtime")
    if runtime and report["baseline"]:
        found.setdefault(runtime, report["baseline"])
    return {name: found[name] for name in sorted(found, key=natural)}


def strongest(report: Report) -> Contender | None:
    """The fastest baseline at batch 1 (or the smallest batch timed): the one a fair speed-up is quoted against."""
    timed = [row for row in contenders(report, batches(report)[0]) if not row.ours] if batches(report) else []
    return min(timed, key=lambda row: row.latency["p50"], default=None)


def artifact_name(report: Report) -> str:
    """What the compiled artifact is called in tables: its runtime and precision, each said once."""
    runtime, precision = find(report, "compressed", "runtime") or report["target"], report["precision"]
    return runtime if precision is None or precision in runtime.split() else f"{runtime} {precision}"


def layers(report: Report) -> list[LayerRow]:
    """Layers of the original in execution order, with the precision of the compiled layer of the same name."""
    ran = report["layer_precisions"] or {}
    rows = []
    for layer in report["layers"] or []:
        before, after = tuple(layer["before"]), None if layer["after"] is None else tuple(layer["after"])
        share = None if after is None else prod(after) / max(1, prod(before))
        rows.append(LayerRow(layer["name"], layer["kind"], before, after, share, ran.get(layer["name"])))
    return rows


def unmatched(report: Report) -> list[tuple[str, str]]:
    """Layers of the compiled graph that go by another name than any layer of the original: (name, precision)."""
    known = {layer["name"] for layer in report["layers"] or []}
    ran = report["layer_precisions"] or {}
    return [(name, ran[name]) for name in sorted(ran, key=natural) if name not in known]


def tally(report: Report) -> list[tuple[str, int]]:
    """How many layers of the compiled graph ran in each precision, most frequent first."""
    counted = Counter((report["layer_precisions"] or {}).values())
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def confusion(report: Report, part: str) -> list[list[dict[str, Any]]] | None:
    """Cells of one confusion matrix: cases, share of the true class, and how many more or fewer than before."""
    matrix, original = (find(report, each, "metrics", "confusion") for each in (part, "baseline"))
    if not matrix:
        return None
    compare = part != "baseline" and original is not None
    return [
        [
            {"cases": cases, "share": cases / (sum(row) or 1), "change": cases - original[i][j] if compare else 0, "right": i == j}
            for j, cases in enumerate(row)
        ]
        for i, row in enumerate(matrix)
    ]


def _drop(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _within(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit + _NOISE


def _floor(name: str, floor: float, value: float | None, where: str = "") -> Criterion:
    return Criterion(name, "at least", floor, value, where, value >= floor - _NOISE if floor and value is not None else None)


def _bar(drop: float, limit: float, low: float, high: float) -> Bar:
    def at(value: float) -> float:
        return round((value - low) / (high - low) * 100, 3)

    return Bar(at(min(drop, 0.0)), max(at(max(drop, 0.0)) - at(min(drop, 0.0)), 0.6), at(0.0), at(limit))
