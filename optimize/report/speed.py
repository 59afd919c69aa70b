"""Whether an artifact is faster and smaller than its original, in words that a headline may use.

The honest rival is the fastest that the original was measured to be: not torch eager, which a runtime without any compression often halves.
The artifact is faster when the whole 95 % interval of the ratio lies above 1. Where the figures behind that are not to be relied on, no
number stands in a headline: `UNRELIABLE` stands in its place. The tables and report.json keep the figures, marked.
"""

from __future__ import annotations

from typing import Literal

from optimize.report.rows import batches, contenders, find, originals, strongest, unsure
from optimize.report.wording import Report

FASTER, NOT_FASTER = "faster", "not faster"
UNRELIABLE = "not measured reliably"
ARTIFACT = "artifact"
"""The compiled model's name in `latency_reliability`."""
BUSY_PERCENT = 20.0
"""As in `measure.machine`, for a report that has the load and nothing else."""
WIDE = 1.5
"""Ends of a ratio's interval that are further apart than this factor say too little for a headline."""

Answer = Literal["faster", "not faster", "not measured reliably"]


def doubts(report: Report, batch: str, baseline: str | None = None) -> list[str]:
    """Why a latency is not to be relied on; none where it is, or the report does not say.

    Args:
        report: of a run.
        batch: batch size.
        baseline: what the artifact is compared with, whose doubts count too, as does a wide interval; None for the artifact's median alone.
    """
    names = (ARTIFACT,) if baseline is None else (ARTIFACT, baseline)
    reasons = [reason for name in names for reason in find(report, "latency_reliability", batch, name, "reasons") or []]
    busy = find(report, "load_percent", f"batch {batch}")
    if not reasons and busy is not None and busy > BUSY_PERCENT:
        reasons.append(f"other processes used {busy:.0f} % of this machine while batch {batch} was timed")
    ratio = None if baseline is None else find(report, "speedup", batch, baseline)
    if ratio and ratio["high"] > WIDE * ratio["low"]:
        ends = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        reasons.append(f"the interval of the ratio to {baseline}, {ends}, is wider than a factor of {WIDE}")
    return list(dict.fromkeys(reasons))


def reasons(report: Report, batch: str) -> list[str]:
    """Why any figure of one batch size is not to be relied on, each once."""
    baselines = [row.name for row in contenders(report, batch) if not row.ours]
    return list(dict.fromkeys([*unsure(report, batch), *(reason for name in baselines for reason in doubts(report, batch, name))]))


def speed(report: Report) -> Answer | None:
    """Whether the artifact is faster than the original's fastest baseline at the smallest batch; None where that was not measured."""
    rival = strongest(report)
    if rival is None or rival.ratio is None:
        return None
    if doubts(report, batches(report)[0], rival.name):
        return "not measured reliably"
    return "faster" if rival.ratio["low"] > 1 else "not faster"


def smaller(report: Report) -> bool | None:
    """Whether the artifact's files are smaller than the original's in every form that was measured; None where there is no artifact."""
    ours = find(report, "compressed", "size_bytes")
    sizes = [entry["size_bytes"] for entry in originals(report).values() if entry.get("size_bytes") is not None]
    return None if ours is None or not sizes else bool(ours < min(sizes))


def qualifier(report: Report) -> str:
    """What stands behind "accepted" unless the artifact is both smaller and faster: "smaller, not faster"; empty otherwise."""
    answer, less = speed(report), smaller(report)
    if report["verdict"] != "pass" or answer is None or less is None:
        return ""
    if answer == UNRELIABLE:
        return f"speed {UNRELIABLE}" if less else f"not smaller, speed {UNRELIABLE}"
    if answer == NOT_FASTER:
        return "smaller, not faster" if less else "neither smaller nor faster"
    return "" if less else "faster, not smaller"
