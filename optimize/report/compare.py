"""Several runs side by side: one row each, as a page, as JSON and as CSV, and in words why some of them cannot be compared."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.report import charts, drawn, rails, rows
from optimize.report.page import OUTCOMES, RUNTIMES, as_json, page, write_all
from optimize.report.pareto import best
from optimize.report.render import read, rerender
from optimize.report.rows import find
from optimize.report.speed import doubts, qualifier, speed
from optimize.report.terms import terms
from optimize.report.wording import Report

FORMAT = 1
_PASSING = ("load",)
"""What a machine's fingerprint holds of the moment, not of the machine."""


def compare(folders: Sequence[Path], out: Path) -> Path:
    """Render every run again, write comparison.html, comparison.json and comparison.csv into `out`, and return the page's path.

    Args:
        folders: of two runs or more, each with its report.json.
        out: made when it is missing.

    Raises:
        InputError: when a run is missing, unreadable or named twice, or `out` cannot be written; nothing is written then.
    """
    _distinct(folders)
    reports = dict(zip(names(folders), map(read, folders), strict=True))
    _writable(out)
    texts = comparison(reports)
    for folder in folders:
        rerender(folder)
    write_all(out, texts)
    return out / "comparison.html"


def comparison(reports: Mapping[str, Report]) -> dict[str, str]:
    """The three files' texts by name, from reports by the name of their run."""
    found = [row(name, report) for name, report in reports.items()]
    said = list(warnings(reports))
    text = io.StringIO()
    writer = csv.DictWriter(text, found[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return {
        "comparison.html": page("comparison.html", rows=found, warnings=said, chart=_chart(found), runtimes=RUNTIMES, outcomes=OUTCOMES),
        "comparison.json": as_json({"format": FORMAT, "runs": found, "warnings": said}),
        "comparison.csv": text.getvalue(),
    }


def row(name: str, report: Report) -> dict[str, Any]:
    """One run. Shares, drops and `…_off` are fractions; what was not measured is None."""
    words, whole = terms(report), {**dict.fromkeys(("rails", "baselines", "speedup", "compressed", "baseline")), **report}
    before, after = whole["baseline"], whole["compressed"]
    judged = rails.rails(whole)
    drop = next((rail for rail in judged if rail["scope"] == "overall" and rail["rule"] == "drop"), {})
    dropped = [rail for rail in judged if rail["scope"] == "class" and rail["rule"] == "drop" and rail["value"] is not None]
    worst = max(dropped, key=lambda rail: rail["value"], default={})
    strongest = rows.strongest(whole) if "1" in rows.batches(whole) else None
    ratio = (strongest.ratio if strongest else None) or {}
    return {
        "run": name,
        "verdict": whole["verdict"],
        "qualifier": qualifier(whole) or None,
        "target": whole["target"],
        "precision": whole["precision"],
        "parameters": find(after, "parameters"),
        "parameters_off": _off(before, after, "parameters"),
        "macs": find(after, "macs"),
        "macs_off": _off(before, after, "macs"),
        "size_bytes": find(after, "size_bytes"),
        "overall": drop.get("figure") or words.overall,
        "before": drop.get("before", find(before, "metrics", "overall", words.overall_key)),
        "after": drop.get("after", find(after, "metrics", "overall", words.overall_key)),
        "drop": drop.get("value"),
        "drop_low": drop.get("low"),
        "drop_high": drop.get("high"),
        "worst_class": worst.get("name"),
        "worst_class_figure": worst.get("figure"),
        "worst_class_drop": worst.get("value"),
        "p50_ms": find(after, "latency_ms", "1", "p50"),
        "p50_reliable": None if find(after, "latency_ms", "1", "p50") is None else not doubts(whole, "1"),
        "baseline": strongest.name if strongest and ratio else None,
        "speed": speed(whole) if strongest and ratio else None,
        "speedup": ratio.get("value"),
        "speedup_low": ratio.get("low"),
        "speedup_high": ratio.get("high"),
        "peak_memory_bytes": find(after, "peak_memory_bytes"),
        "model_sha256": whole["model"]["sha256"],
        "test_sha256": find(whole, "data", "test", "sha256"),
    }


def warnings(reports: Mapping[str, Report]) -> Iterator[str]:
    """In words, what keeps the runs from being compared."""
    different: tuple[tuple[str, Callable[[Report], Any], str], ...] = (
        ("are of different models", lambda report: report["model"]["sha256"], "what became smaller or worse is not the same thing"),
        ("were judged on different test data", lambda report: find(report, "data", "test", "sha256"), "their figures do not compare"),
        ("were judged by different limits", lambda report: report["limits"], "the same word may stand for another verdict"),
        ("were measured on different machines", _machine, "their latencies, ratios and memory do not compare"),
    )
    for what, of, therefore in different:
        groups: list[tuple[Any, list[str]]] = []
        for name, report in reports.items():
            value = of(report)
            same = next((members for known, members in groups if known == value), None)
            if same is None:
                groups.append((value, [name]))
            else:
                same.append(name)
        if len(groups) > 1:
            yield f"The runs {what} ({' | '.join(', '.join(members) for _, members in groups)}): {therefore}."


def names(folders: Sequence[Path]) -> list[str]:
    """Of each folder its name, with as many of its parents as tell it from the others."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        short = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return [str(path) for path in paths]


def _distinct(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise InputError(f"`run` (={folder}) is named twice: name every run once.")
        seen.add(folder.resolve())


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as problem:
        raise InputError(f"`--out` (={out}) cannot be written ({problem.strerror}): name another folder.") from None


def _off(before: Report | None, after: Report | None, key: str) -> float | None:
    old, new = find(before, key), find(after, key)
    return 1 - new / old if old and new is not None else None


def _machine(report: Report) -> dict[str, Any]:
    return {key: value for key, value in (report["machine"] or {}).items() if key not in _PASSING}


def _chart(found: Sequence[Report]) -> charts.Chart | None:
    drawable = [each for each in found if each["p50_ms"] is not None and each["after"] is not None]
    if not drawable or len({each["overall"] for each in drawable}) > 1:
        return None
    marks = best([each["p50_ms"] for each in drawable], [each["after"] for each in drawable])
    values = [
        {"cost": each["p50_ms"], "gain": each["after"] * 100, "size": each["parameters"]}
        | {"label": each["run"] if each["p50_reliable"] else f"{each['run']} *"}
        | {"kept": each["verdict"] == "pass", "best": mark}
        for each, mark in zip(drawable, marks, strict=True)
    ]
    label = f"Every run: latency and {drawable[0]['overall']}; the line joins those that none beats"
    return drawn.scatter(values, "median at batch 1, ms", f"{drawable[0]['overall']}, test split, %", label, name_all=True)
