"""One dict, written as report.json and as report.html.

The page is self-contained: no script, no font, no picture and no style from anywhere else, so it reads the same in ten years and offline.
Whatever comes from a run (class names, file names, reasons) is escaped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from optimize.errors import InputError
from optimize.report import rows, wording
from optimize.report.terms import terms
from optimize.report.wording import Report

FORMAT = 1
_RUNTIMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
_OUTCOMES = {"pass": "Accepted", "fail": "Rejected", "inconclusive": "Inconclusive"}
_MACHINE_FIRST = ("cpu", "gpu", "physical_cores", "logical_cores", "isa", "memory_bytes", "os", "python")
_PARTS = json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))["required"]
_LISTS = ("reasons", "notes", "classes", "precisions_tried", "steps")


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing but itself.

    Args:
        report: a report of format 1 (`schema.json`); a part that is missing or null is said to be so on the page.
    """
    whole = {**dict.fromkeys(_PARTS), **report}
    whole |= {name: whole[name] or [] for name in _LISTS}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(wording.FILTERS)
    names = ("artifact_name", "batches", "class_names", "classes", "confusion", "contenders", "criteria", "find", "layers", "originals")
    environment.globals.update({name: getattr(rows, name) for name in names})
    environment.globals.update(change=wording.change, DASH=wording.DASH)
    return environment.get_template("report.html").render(
        report=whole,
        outcome=_OUTCOMES[whole["verdict"]],
        headline=headline(whole),
        runtime=_RUNTIMES.get(whole["target"], whole["target"]),
        strongest=rows.strongest(whole),
        tally=rows.tally(whole),
        terms=terms(whole),
        unmatched=rows.unmatched(whole),
        machine=_machine(whole["machine"] or {}),
    )


def write(report: Report, folder: Path) -> None:
    """Write report.json and report.html into `folder`; whatever fails, the files that were there before stay whole.

    Raises:
        ValueError: when a number is NaN or infinite, which JSON cannot hold and no reader should have to guess about.
    """
    texts = {
        "report.json": json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n",
        "report.html": render(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # A temporary file beside its target is on the same file system, so the replacement is one atomic rename.
    drafts = {folder / name: folder / f".{name}.{os.getpid()}.tmp" for name in texts}
    try:
        for path, draft in drafts.items():
            draft.write_text(texts[path.name], encoding="utf-8", newline="\n")
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def headline(report: Report) -> str:
    """The verdict in one sentence."""
    name, runtime = report["model"]["name"], _RUNTIMES.get(report["target"], report["target"])
    if report["compressed"] is None:
        return f"{name} was not compiled for {runtime}: the run ended before there was an artifact to judge."
    subject = f"{name}, compiled for {runtime}{' at ' + report['precision'] if report['precision'] else ''},"
    if report["verdict"] == "pass":
        return f"{subject} holds every limit that was fixed before the run."
    if report["verdict"] == "fail":
        return f"{subject} does not hold the limits that were fixed before the run; no artifact was handed over."
    return f"{subject} could neither be accepted nor rejected on these measurements; no artifact was handed over."


def _machine(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    ordered = [key for key in _MACHINE_FIRST if key in machine] + sorted(set(machine) - set(_MACHINE_FIRST))
    return [(wording.label(key), wording.fact(key, machine[key])) for key in ordered]


def rerender(folder: Path) -> Path:
    """Write report.html again from the report.json in `folder`, and return its path.

    Raises:
        InputError: when there is no readable report of this format.
    """
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        name = type(problem).__name__
        raise InputError(f"`run` (={folder}) has no readable report.json ({name}): name the --out folder of a run.") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise InputError(f"{path} is not a report of format {FORMAT}: render it with the version that wrote it.")
    write(report, folder)
    return folder / "report.html"
