"""Whether an artifact is faster and smaller than its original, in words that a headline may use.

A fair comparison is with the fastest runtime that the original was measured in. Torch eager is not fair: another runtime without any
compression often takes half its time. The artifact is faster when the whole 95 % interval of the ratio lies above 1. Example: 1.4 times as
fast, with an interval from 1.3 to 1.5, is faster; an interval from 0.9 to 1.9 is not.

Where these figures are unreliable, a headline shows `UNRELIABLE` in place of a number. The tables and report.json keep the figures, marked.
"""

from __future__ import annotations

from typing import Literal

from optimize.report.rows import batches, contenders, find, originals, strongest, unreliable_reasons
from optimize.report.wording import Report

FASTER, NOT_FASTER = "faster", "not faster"
UNRELIABLE = "not measured reliably"
ARTIFACT = "artifact"
"""The compiled model's name in `latency_reliability`."""
BUSY_PERCENT = 20.0
"""Load by other processes above which a latency is unreliable, the same as in `measure.machine`."""
WIDE = 1.5
"""Largest factor between the ends of a ratio's interval with which the ratio may stand in a headline."""

SpeedAnswer = Literal["faster", "not faster", "not measured reliably"]


def doubts(report: Report, batch: str, baseline: str | None = None) -> list[str]:
    """Why a latency is not to be relied on; none where it is, or the report does not say.

    Args:
        report: the report of a run.
        batch: batch size, as the report's key.
        baseline: name of the runtime that the artifact is compared with. Its own doubts then count too, and so does a wide interval of the
            ratio. None for the artifact's median alone.
    """
    # A ratio is no more reliable than the worse of its two medians.
    names = (ARTIFACT,) if baseline is None else (ARTIFACT, baseline)
    reasons = [reason for name in names for reason in find(report, "latency_reliability", batch, name, "reasons") or []]
    # Reports of earlier versions have no reasons, only the load of the machine.
    busy = find(report, "load_percent", f"batch {batch}")
    if not reasons and busy is not None and busy > BUSY_PERCENT:
        reasons.append(f"other processes used {busy:.0f} % of this machine while batch {batch} was timed")
    ratio = None if baseline is None else find(report, "speedup", batch, baseline)
    # Example: an interval from 0.9 to 1.9 has ends a factor of 2.1 apart, so 1.4 times as fast may not stand in a headline.
    if ratio and ratio["high"] > WIDE * ratio["low"]:
        ends = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        reasons.append(f"the interval of the ratio to {baseline}, {ends}, is wider than a factor of {WIDE}")
    return list(dict.fromkeys(reasons))


def reasons(report: Report, batch: str) -> list[str]:
    """Every reason why a figure of one batch size is unreliable, each reason once."""
    baselines = [row.name for row in contenders(report, batch) if not row.ours]
    of_ratios = [reason for name in baselines for reason in doubts(report, batch, name)]
    return list(dict.fromkeys([*unreliable_reasons(report, batch), *of_ratios]))


def speed(report: Report) -> SpeedAnswer | None:
    """Whether the artifact is faster than the original's fastest baseline at the smallest batch; None where that was not measured."""
    fastest = strongest(report)
    if fastest is None or fastest.ratio is None:
        return None
    # Doubts come before the interval: a busy machine may make even a clear ratio wrong.
    if doubts(report, batches(report)[0], fastest.name):
        return "not measured reliably"
    # "Not faster" also stands for an interval that holds 1: what is not shown is not claimed.
    return "faster" if fastest.ratio["low"] > 1 else "not faster"


def smaller(report: Report) -> bool | None:
    """Whether the artifact's files are smaller than the original's in every form that was measured; None where there is no artifact."""
    ours = find(report, "compressed", "size_bytes")
    sizes = [entry["size_bytes"] for entry in originals(report).values() if entry.get("size_bytes") is not None]
    # Against the smallest form: an artifact that is smaller than a checkpoint, but larger than the ONNX file, saved nothing.
    return None if ours is None or not sizes else bool(ours < min(sizes))


def qualifier(report: Report) -> str:
    """What stands behind "accepted" unless the artifact is both smaller and faster: "smaller, not faster"; empty otherwise."""
    answer, less = speed(report), smaller(report)
    # A rejected artifact needs no qualifier, and nothing is said where a figure is missing.
    if report["verdict"] != "pass" or answer is None or less is None:
        return ""
    if answer == UNRELIABLE:
        return f"speed {UNRELIABLE}" if less else f"not smaller, speed {UNRELIABLE}"
    if answer == NOT_FASTER:
        return "smaller, not faster" if less else "neither smaller nor faster"
    return "" if less else "faster, not smaller"
