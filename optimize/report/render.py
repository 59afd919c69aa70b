"""Writes a report, which is one dict, as report.json and as report.html.

The page is self-contained: no font, no picture and no style from anywhere else, and no script but its own, so it reads the same in ten
years and offline. Whatever comes from a run (class names, file names, reasons) is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.report import (
    acceptance_plan,
    answers,
    change_control,
    charts,
    looks,
    original,
    plots,
    rails,
    rows,
    speed,
    time_spent,
    wording,
)
from optimize.report.limitations import limitations
from optimize.report.page import FOLDER, OUTCOMES, RUNTIMES, as_json, page, write_all
from optimize.report.pareto import frontier
from optimize.report.signature import PAGE, check, sign, sign_page
from optimize.report.terms import terms
from optimize.report.wording import FORMAT, Report

_MACHINE_FIRST = ("cpu", "gpu", "physical_cores", "logical_cores", "isa", "memory_bytes", "os", "python")
_PARTS = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))["required"]
_LISTS = ("reasons", "notes", "classes", "precisions_tried", "steps", "rails", "health")


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing but itself.

    Args:
        report: a report of format 2 (`schema.json`). The page says of every part that is missing or null that it is missing.
    """
    # Templates treat an undefined name as an error, so every part is there, if only as None or as an empty list.
    whole = {**dict.fromkeys((*_PARTS, "task")), **report}
    whole |= {name: whole[name] or [] for name in _LISTS}
    return page("report.html", report=whole, **_words(whole), **_rows(whole), **_functions())


def write(report: Report, folder: Path) -> None:
    """Write report.json and report.html into `folder`; whatever fails, the files that were there before stay whole.

    Raises:
        ValueError: when a number is NaN or infinite.
    """
    write_all(folder, {"report.json": as_json(report), "report.html": render(report)})


def signed(report: Report, key_file: str | Path) -> dict[str, Any]:
    """The report with its own signature and the signature of its page.

    Raises:
        InputError: when the key cannot be used, or the package cryptography is not installed.
    """
    # The page shows the report's signature, so the report is signed first, the page is rendered with it, and is signed then.
    whole = {**report, "signature": sign(report, key_file)}
    return {**whole, "signature": {**whole["signature"], PAGE: sign_page(whole, render(whole).encode(), key_file)}}


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    said = _said(report)
    # Without an artifact the sentence has said so already, and a passed artifact was handed over.
    if report["compressed"] is None or report["verdict"] == "pass":
        return f"{said}."
    return f"{said}; no artifact was handed over."


def sentence(report: Report) -> str:
    """The verdict in one sentence, with the first of its reasons."""
    return f"{_said(report)}{': ' + report['reasons'][0].rstrip('.') if report['reasons'] else ''}."


def _said(report: Report) -> str:
    reached = original.figure(report)
    name = f"{report['model']['name']} (the original: {reached})" if reached else report["model"]["name"]
    runtime = RUNTIMES.get(report["target"], report["target"])
    # Before the check for an artifact: this run has none that was measured, but the reason is another.
    if report.get("unverified"):
        return f"{name} was compiled for {runtime}, which does not run on this machine, so nothing could be judged"
    if report["compressed"] is None:
        return f"{name} was not compiled for {runtime}; the run ended before there was an artifact to judge"
    subject = f"{name}, compiled for {runtime}{' at ' + report['precision'] if report['precision'] else ''},"
    return {
        "pass": f"{subject} holds every limit that was fixed before the run",
        "fail": f"{subject} does not hold the limits that were fixed before the run",
        "inconclusive": f"{subject} could neither be accepted nor rejected on these measurements",
    }[report["verdict"]]


def _words(report: Report) -> Mapping[str, Any]:
    runtime = str(RUNTIMES.get(report["target"], report["target"]))
    signature, confidence = report["signature"], looks.confidence(report)
    return {
        "outcome": OUTCOMES[report["verdict"]],
        "qualifier": speed.qualifier(report),
        "original": original.original_sentence(report),
        "unreliable": speed.UNRELIABLE,
        "sentence": sentence(report),
        "runtime": runtime,
        "terms": terms(report),
        "confidence": f"{wording.plain(confidence * 100)} %" if confidence else "",
        "looks": looks.sentence(report),
        "earlier_looks": looks.earlier(report),
        "use_of_test": looks.use_of_test(report),
        "machine": _machine(report["machine"] or {}),
        "limitations": limitations(report, runtime),
        "intended": change_control.intended(report, runtime),
        "fixed": change_control.fixed(report),
        "protocol": change_control.protocol(report),
        # Without an artifact there is no measurement that could be evidence.
        "evidence": list(change_control.evidence(report)) if report["compressed"] else [],
        "fingerprint": change_control.fingerprint(signature["public_key"]) if signature else None,
        "kinds": answers.KINDS,
        "time_sentence": time_spent.sentence(report),
    }


def _rows(report: Report) -> Mapping[str, Any]:
    tried = frontier(report)
    pictures = {"forest": plots.forest(report), "latency": plots.latency(report), "trials": plots.trials(report, tried)}
    return {
        "rails": rails.rails(report),
        "plan_rails": acceptance_plan.tightest(report),
        "criteria": rails.criteria(report),
        "families": rails.families(report),
        "max_rails": plots.MAX_RAILS,
        "per_class": rows.per_class(report),
        "per_group": rows.per_group(report),
        "class_names": rows.class_names(report),
        "matrices": answers.matrices(report),
        "mistakes": answers.mistakes(report),
        "reliability": answers.reliability(report),
        "flip_columns": answers.columns_of_flips(report),
        "originals": rows.originals(report),
        "timed": rows.batches(report),
        "marked": any(speed.reasons(report, batch) for batch in rows.batches(report)),
        "strongest": rows.strongest(report),
        "artifact_name": rows.artifact_name(report),
        "layers": rows.layers(report),
        "ran_in": rows.ran_in(report),
        "unmatched": rows.unmatched(report),
        "frontier": tried,
        "time_rows": time_spent.longest(report),
        "charts": pictures | {"reliability": plots.reliability(report)},
        "drawn_by": charts.available(),
    }


def _functions() -> Mapping[str, Any]:
    own = (rails.bars, rails.bounds, rails.decides, rails.level, rails.limit, rails.tally, rails.written, rails.tiles)
    # Templates call these by their own names, so a name that is searched for is found in both places.
    return {function.__name__: function for function in (*own, rows.find, rows.contenders, speed.doubts, speed.reasons, wording.change)}


def _machine(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    # The facts that decide speed stand first, all others by name; facts of later versions are shown without a change here.
    ordered = [key for key in _MACHINE_FIRST if key in machine] + sorted(set(machine) - set(_MACHINE_FIRST))
    return [(wording.label(key), wording.fact(key, machine[key])) for key in ordered]


def read(folder: Path) -> dict[str, Any]:
    """The report in a run's folder.

    Raises:
        InputError: when there is no readable report of this format, or it was altered after it was signed.
    """
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "name the --out folder of a run"
        # A ledger without a report is a run that was stopped, which can be finished.
        if (folder / "ledger.jsonl").exists():
            remedy = "its run was interrupted: finish it with --resume"
        raise InputError(f"`run` (={folder}) holds no report.json: {remedy}.") from None
    except (OSError, ValueError):
        raise InputError(f"`run` (={folder}) has a report.json that cannot be read: take the file that the run wrote.") from None
    # A page made from another format would show wrong figures or none, without a word about it.
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        writer = (report.get("versions") or {}).get("optimize") if isinstance(report, dict) else None
        by = f" and was written by optimize {writer}" if writer else ""
        actual = f"of format {report.get('format')!r}" if isinstance(report, dict) else "no report"
        raise InputError(f"{path} is {actual}{by}, not of format {FORMAT}: render it with the version that wrote it.")
    # An altered report must not be rendered: the new page would look as trustworthy as the one that was signed.
    if (signed := check(report)).state == "altered":
        raise InputError(f"{path} is not to be relied on. {signed.reason} Take the file that the run wrote.")
    return report


def rerender(folder: Path) -> Path:
    """Write report.html again from the report.json in `folder`, and return its path.

    Raises:
        InputError: when there is no readable report of this format, or the folder cannot be written.
    """
    report = read(folder)
    try:
        # The JSON stays as it is: a signature is over its content, and a page is made from it, never the other way.
        write_all(folder, {"report.html": render(report)})
    except OSError as problem:
        raise InputError(f"`run` (={folder}) cannot be written ({problem.strerror}): copy it to where you may write.") from None
    return folder / "report.html"
