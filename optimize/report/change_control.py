"""The record of the change: what is to change, what was fixed beforehand, what was measured. Every line quotes the report."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

from optimize.report import rails, rows
from optimize.report.limit_words import limit_words
from optimize.report.speed import UNRELIABLE, doubts
from optimize.report.wording import DASH, Report, change, count, milliseconds, scaled, times


def fixed(report: Report) -> list[tuple[str, str]]:
    """The criteria fixed before the run, as (what, limit)."""
    return [(limit.criterion[:1].upper() + limit.criterion[1:], limit.stated) for limit in limit_words(report) if limit.asked]


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
