"""The record of the change: what is to change, what was fixed beforehand, what was measured. Every line quotes the report."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

from optimize.report import rails, rows
from optimize.report.speed import UNRELIABLE, doubts
from optimize.report.wording import DASH, Report, change, count, milliseconds, scaled, times

_STATED = (
    ("max_drop", "at most", "drop of {overall}"),
    ("max_class_drop", "at most", "drop of any class’s {class_metric}"),
    ("max_group_drop", "at most", "drop of {metric} in any subgroup"),
    ("min_class_f1", "at least", "{f1} of every class"),
    ("min_class_recall", "at least", "recall of every class"),
    ("min_agreement", "at least", "agreement with the original"),
    ("max_sensitivity_drop", "at most", "drop of sensitivity"),
    ("max_specificity_drop", "at most", "drop of specificity"),
    ("max_ece_rise", "at most", "rise of the calibration error"),
    ("max_regressed", "at most", "share of cases right before and wrong after"),
)
_NAMES = {"macro_f1": "macro F1", "auc": "AUC", "dice": "Dice", "f1": "F1"}
_OVERALL = {"accuracy": "overall ", "dice": "overall "}


def fixed(report: Report) -> list[tuple[str, str]]:
    """The criteria fixed before the run, as (what, limit)."""
    limits = report["limits"]
    masks = report.get("task") == "segmentation"
    metric = limits.get("metric") or ("dice" if masks else "accuracy")
    words = {
        "overall": _OVERALL.get(metric, "") + _named(metric),
        "metric": _named(metric),
        "class_metric": _named(limits.get("class_metric") or ("dice" if masks else "recall")),
        "f1": "Dice" if masks else "F1",
    }
    found = []
    for key, sense, what in _STATED:
        value = limits.get(key)
        if value is None or (sense == "at least" and not value):
            continue
        relative = key in (limits.get("relative") or ())
        if key == "max_regressed":
            found.append((what[:1].upper() + what[1:], f"{sense} {value * 100:.6g} %"))
            continue
        unit = f"{value * 100:.6g} % of the original’s" if relative else f"{value:.6g}" if sense == "at least" else f"{value * 100:.6g} pp"
        text = what.format(**words)
        found.append((text[:1].upper() + text[1:], f"{sense} {unit}"))
    return found


def intended(report: Report, runtime: str) -> str:
    """The change in one sentence."""
    name = report["model"]["name"]
    if not report["compressed"]:
        end = "It was not run." if report.get("unverified") else "No artifact was made."
        return f"Replace {name} by an artifact compiled for {runtime}. {end}"
    made = f"Replace {name} by an artifact compiled for {runtime}{' at ' + report['precision'] if report['precision'] else ''}"
    before, after = report["baseline"] or {}, report["compressed"]
    kinds = (("parameters", "parameters"), ("macs", "multiply–accumulates"), ("size_bytes", "size of the files"))
    told = [f"{words} {change(before.get(key), after.get(key))}" for key, words in kinds if before.get(key) and after.get(key) is not None]
    return f"{made}{': ' + ', '.join(told) if told else ''}."


def evidence(report: Report) -> Iterator[tuple[str, str]]:
    """What was measured, as (what, figures); nothing that the report does not hold."""
    for each in rails.criteria(report):
        rail = each.rail
        among = f"worst of {len(each.of.rails)}: " if each.of is not None and len(each.of.rails) > 1 else ""
        about = each.name if each.of is None else f"{each.name}, {among}{rail['name']}"
        bounds = f" ({rails.bounds(rail)})" if rails.bounds(rail) != DASH else ""
        result = {"pass": "pass", "fail": "fail", "inconclusive": "inconclusive"}[rail["outcome"]]
        yield about, f"{rails.written(rail, rail['value'])}{bounds}, {rails.limit(rail)}: {result}"
    flips = report["flips"]
    if flips:
        regressed, fixed_again, cases = (count(flips[key]) for key in ("regressed", "fixed", "cases"))
        yield "Decisions that changed", f"{regressed} right, now wrong; {fixed_again} wrong, now right; of {cases}"
    strongest = rows.strongest(report)
    if strongest and strongest.ratio and doubts(report, rows.batches(report)[0], strongest.name):
        yield f"Speed at batch {rows.batches(report)[0]}", UNRELIABLE
    elif strongest and strongest.ratio:
        ratio = strongest.ratio
        against = f"{times(ratio['value'])} ({times(ratio['low'])} to {times(ratio['high'])}) against {strongest.name}"
        batch = rows.batches(report)[0]
        yield f"Speed at batch {batch}", f"{against}; {milliseconds(rows.find(report, 'compressed', 'latency_ms', batch, 'p50'))} ms"
    for key, what in (("size_bytes", "Size of the files"), ("peak_memory_bytes", "Peak memory of the process")):
        before, after = (rows.find(report, part, key) for part in ("baseline", "compressed"))
        if before is not None and after is not None:
            yield what, f"{scaled(before, 'B')} before, {scaled(after, 'B')} after"


def fingerprint(public_key: str) -> str:
    """SHA-256 of a public key's raw bytes, in hex; says so where the text is not base64."""
    try:
        return hashlib.sha256(base64.b64decode(public_key, validate=True)).hexdigest()
    except (binascii.Error, ValueError):
        return "not readable"


def _named(key: str) -> str:
    return _NAMES.get(key, key)


