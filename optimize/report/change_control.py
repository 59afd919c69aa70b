"""The record for change control: the intended change, the criteria that were fixed beforehand, and what was measured.

Quality systems for medical devices ask for such a record of every change. Every line quotes the report; nothing is computed anew but
percentages, such as "parameters −87.7 %".
"""

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
    """The criteria that were fixed before the run: (what is limited, the limit in words)."""
    return [(limit.criterion[:1].upper() + limit.criterion[1:], limit.stated) for limit in limit_words(report) if limit.asked]


def intended(report: Report, runtime: str) -> str:
    """The intended change in one sentence, with what becomes smaller."""
    name = report["model"]["name"]
    # An artifact for another machine exists, but was never run here; that is not the same as none having been made.
    if not report["compressed"]:
        end = "It was not run." if report.get("unverified") else "No artifact was made."
        return f"Replace {name} by an artifact compiled for {runtime}. {end}"
    made = f"Replace {name} by an artifact compiled for {runtime}{' at ' + report['precision'] if report['precision'] else ''}"
    baseline, candidate = report["baseline"] or {}, report["compressed"]
    quantities = (("parameters", "parameters"), ("macs", "multiply–accumulates"), ("size_bytes", "size of the files"))
    # A quantity that one side lacks is left out: a change from nothing has no percentage.
    known = [(key, words) for key, words in quantities if baseline.get(key) and candidate.get(key) is not None]
    changes = [f"{words} {change(baseline[key], candidate[key])}" for key, words in known]
    return f"{made}{': ' + ', '.join(changes) if changes else ''}."


def evidence(report: Report) -> Iterator[tuple[str, str]]:
    """What was measured: (what it is, the figures in words). What the report does not hold is left out."""
    for criterion in rails.criteria(report):
        rail = criterion.rail
        # A family (all classes, or all values of a subgroup column) is one line: its worst rail stands for all of them.
        among = f"worst of {len(criterion.family.rails)}: " if criterion.family is not None and len(criterion.family.rails) > 1 else ""
        about = criterion.name if criterion.family is None else f"{criterion.name}, {among}{rail['name']}"
        bounds = f" ({rails.bounds(rail)})" if rails.bounds(rail) != DASH else ""
        result = {"pass": "pass", "fail": "fail", "inconclusive": "inconclusive"}[rail["outcome"]]
        yield about, f"{rails.written(rail, rail['value'])}{bounds}, {rails.limit(rail)}: {result}"
    flips = report["flips"]
    if flips:
        regressed, fixed_again, cases = (count(flips[key]) for key in ("regressed", "fixed", "cases"))
        yield "Decisions that changed", f"{regressed} right, now wrong; {fixed_again} wrong, now right; of {cases}"
    strongest = rows.strongest(report)
    # An unreliable ratio is named without its number, so that nobody copies the number from here into a release note.
    if strongest and strongest.ratio and doubts(report, rows.batches(report)[0], strongest.name):
        yield f"Speed at batch {rows.batches(report)[0]}", UNRELIABLE
    elif strongest and strongest.ratio:
        ratio = strongest.ratio
        against = f"{times(ratio['value'])} ({times(ratio['low'])} to {times(ratio['high'])}) against {strongest.name}"
        batch = rows.batches(report)[0]
        yield f"Speed at batch {batch}", f"{against}; {milliseconds(rows.find(report, 'compressed', 'latency_ms', batch, 'p50'))} ms"
    for key, what in (("size_bytes", "Size of the files"), ("peak_memory_bytes", "Peak memory of the process")):
        baseline, candidate = (rows.find(report, part, key) for part in ("baseline", "compressed"))
        if baseline is not None and candidate is not None:
            yield what, f"{scaled(baseline, 'B')} before, {scaled(candidate, 'B')} after"


def protocol(report: Report) -> str:
    """The protocol of the change in one or two sentences: its file, its hash and its signature; or that none was fixed."""
    record = report.get("protocol")
    if not record:
        return "No protocol was fixed before the run."
    signature = record["signature"]
    signed = f"It was signed with the key {signature['fingerprint']}." if signature else "It was not signed."
    named = f"{record['file']}, dated {record['content'].get('date', DASH)}, SHA-256 {record['sha256']}"
    return f"The run was found to agree with {named}, at {record['checked']}, before any work. {signed}"


def fingerprint(public_key: str) -> str:
    """SHA-256 of a public key's raw bytes, in hex; "not readable" where the text is not base64."""
    try:
        # A page may be made of a report whose signature is damaged, and must then say so instead of failing.
        return hashlib.sha256(base64.b64decode(public_key, validate=True)).hexdigest()
    except (binascii.Error, ValueError):
        return "not readable"
