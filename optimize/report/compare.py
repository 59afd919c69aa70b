"""Several runs side by side, one row for each run, as a page, as JSON and as CSV; warnings say why some of them cannot be compared."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.errors import InputError, spreadsheet_cell
from optimize.report import charts, plots, rails, rows
from optimize.report.page import OUTCOMES, RUNTIMES, as_json, page, write_all
from optimize.report.pareto import best
from optimize.report.render import read, rerender
from optimize.report.rows import find
from optimize.report.speed import doubts, qualifier, speed
from optimize.report.terms import terms
from optimize.report.wording import Report

FORMAT = 1
_MOMENTARY = ("load",)
"""Entries of a machine's description that change from moment to moment, and so say nothing about which machine it is."""


def compare(folders: Sequence[Path], out: Path) -> Path:
    """Render every run again, write comparison.html, comparison.json and comparison.csv into `out`, and return the page's path.

    Args:
        folders: output folders of two or more runs, each with its report.json.
        out: folder for the three files; it is made when it is missing.

    Raises:
        InputError: when a run is missing, unreadable or named twice, or `out` cannot be written; nothing is written then.
    """
    # The checks come before the first file is written, so a mistake in the call changes no run's folder.
    _distinct(folders)
    reports = dict(zip(names(folders), map(read, folders), strict=True))
    _writable(out)
    texts = comparison(reports)
    for folder in folders:
        rerender(folder)
    write_all(out, texts)
    return out / "comparison.html"


def comparison(reports: Mapping[str, Report]) -> dict[str, str]:
    """The texts of the three files, by file name.

    Args:
        reports: the reports, by the name of their run.
    """
    runs = [row(name, report) for name, report in reports.items()]
    incomparable = list(warnings(reports))
    text = io.StringIO()
    writer = csv.DictWriter(text, runs[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(value) for name, value in run.items()} for run in runs)
    return {
        "comparison.html": page(
            "comparison.html", rows=runs, warnings=incomparable, chart=_chart(runs), runtimes=RUNTIMES, outcomes=OUTCOMES
        ),
        "comparison.json": as_json({"format": FORMAT, "runs": runs, "warnings": incomparable}),
        "comparison.csv": text.getvalue(),
    }


def row(name: str, report: Report) -> dict[str, Any]:
    """The row of one run. Shares, drops and `…_off` are fractions; what was not measured is None."""
    # Reports of earlier versions may lack a part; None stands for it, and the row has empty cells.
    words, whole = terms(report), {**dict.fromkeys(("rails", "baselines", "speedup", "compressed", "baseline")), **report}
    baseline, candidate = whole["baseline"], whole["compressed"]
    # The judged rails are quoted rather than the metrics, since a run may have been judged by macro F1 or AUC in place of accuracy.
    judged = rails.rails(whole)
    drop = next((rail for rail in judged if rail["scope"] == "overall" and rail["rule"] == "drop"), {})
    dropped = [rail for rail in judged if rail["scope"] == "class" and rail["rule"] == "drop" and rail["value"] is not None]
    worst = max(dropped, key=lambda rail: rail["value"], default={})
    # Ratios of different batch sizes do not compare, so a run without batch 1 has none here.
    strongest = rows.strongest(whole) if "1" in rows.batches(whole) else None
    ratio = (strongest.ratio if strongest else None) or {}
    return {
        "run": name,
        "verdict": whole["verdict"],
        "qualifier": qualifier(whole) or None,
        "target": whole["target"],
        "precision": whole["precision"],
        "parameters": find(candidate, "parameters"),
        "parameters_off": _off(baseline, candidate, "parameters"),
        "macs": find(candidate, "macs"),
        "macs_off": _off(baseline, candidate, "macs"),
        "size_bytes": find(candidate, "size_bytes"),
        "overall": drop.get("figure") or words.overall,
        "before": drop.get("before", find(baseline, "metrics", "overall", words.overall_key)),
        "after": drop.get("after", find(candidate, "metrics", "overall", words.overall_key)),
        "drop": drop.get("value"),
        "drop_low": drop.get("low"),
        "drop_high": drop.get("high"),
        "worst_class": worst.get("name"),
        "worst_class_figure": worst.get("figure"),
        "worst_class_drop": worst.get("value"),
        "p50_ms": find(candidate, "latency_ms", "1", "p50"),
        "p50_reliable": None if find(candidate, "latency_ms", "1", "p50") is None else not doubts(whole, "1"),
        "baseline": strongest.name if strongest and ratio else None,
        "speed": speed(whole) if strongest and ratio else None,
        "speedup": ratio.get("value"),
        "speedup_low": ratio.get("low"),
        "speedup_high": ratio.get("high"),
        "peak_memory_bytes": find(candidate, "peak_memory_bytes"),
        "model_sha256": whole["model"]["sha256"],
        "test_sha256": find(whole, "data", "test", "sha256"),
    }


def warnings(reports: Mapping[str, Report]) -> Iterator[str]:
    """One sentence for each reason why the runs cannot be compared."""
    different: tuple[tuple[str, Callable[[Report], Any], str], ...] = (
        ("are of different models", lambda report: report["model"]["sha256"], "what became smaller or worse is not the same thing"),
        ("were judged on different test data", lambda report: find(report, "data", "test", "sha256"), "their figures do not compare"),
        ("were judged by different limits", lambda report: report["limits"], "the same word may stand for another verdict"),
        ("were measured on different machines", _machine, "their latencies, ratios and memory do not compare"),
    )
    for what, of, therefore in different:
        # Values such as limits are dicts, which cannot be keys, so equal ones are looked up in a list.
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
    """The name of each folder, with as many parent folders as make all names differ: a/run and b/run, but run1 and run2."""
    paths = [folder.resolve() for folder in folders]
    # a/run and b/run need their parent folders to differ; run1 and run2 do not.
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        short = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return [str(path) for path in paths]


def _distinct(folders: Sequence[Path]) -> None:
    named: set[Path] = set()
    for folder in folders:
        if folder.resolve() in named:
            raise InputError(f"`run` (={folder}) is named twice: name every run once.")
        named.add(folder.resolve())


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Trying to write is the only sure test: permission bits say nothing about a full or read-only disk.
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as problem:
        raise InputError(f"`--out` (={out}) cannot be written ({problem.strerror}): name another folder.") from None


def _off(baseline: Report | None, candidate: Report | None, key: str) -> float | None:
    old, new = find(baseline, key), find(candidate, key)
    # 0.75 means three quarters less. An original of 0 has no share, and neither has a missing figure.
    return 1 - new / old if old and new is not None else None


def _machine(report: Report) -> dict[str, Any]:
    return {key: value for key, value in (report["machine"] or {}).items() if key not in _MOMENTARY}


def _chart(runs: Sequence[Report]) -> charts.Chart | None:
    # Figures of different kinds (accuracy, Dice) cannot share one axis.
    drawable = [run for run in runs if run["p50_ms"] is not None and run["after"] is not None]
    if not drawable or len({run["overall"] for run in drawable}) > 1:
        return None
    # Points of different machines share the chart; a warning above it says that their latencies do not compare.
    marks = best([run["p50_ms"] for run in drawable], [run["after"] for run in drawable])
    values = [
        {"cost": run["p50_ms"], "gain": run["after"] * 100, "size": run["parameters"]}
        # The star marks a latency that is not reliable, as in the tables of a report.
        | {"label": run["run"] if run["p50_reliable"] else f"{run['run']} *"}
        | {"kept": run["verdict"] == "pass", "best": mark}
        for run, mark in zip(drawable, marks, strict=True)
    ]
    label = f"Every run: latency and {drawable[0]['overall']}; the line joins those that none beats"
    return plots.scatter(values, "median at batch 1, ms", f"{drawable[0]['overall']}, test split, %", label, name_all=True)
