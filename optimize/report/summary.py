"""The report in a few lines of text, for a terminal: the verdict first."""

from __future__ import annotations

from collections.abc import Iterator

from optimize.report import looks
from optimize.report.render import headline
from optimize.report.wording import Report

_WORDS = {"pass": "ACCEPTED", "fail": "REJECTED", "inconclusive": "INCONCLUSIVE"}


def summary(report: Report) -> Iterator[str]:
    """Lines for the terminal."""
    yield f"{_WORDS[report['verdict']]}: {headline(report)}"
    yield from (f"  {reason}" for reason in report["reasons"])
    if (report.get("looks") or {}).get("number", 1) > 1:
        yield f"  {looks.sentence(report)}"
    before, after = report["baseline"], report["compressed"]
    if after is None:
        return
    yield f"  parameters {before['parameters']:,} -> {after['parameters']:,} ({_less(before['parameters'], after['parameters'])})"
    yield f"  MACs       {before['macs']:,} -> {after['macs']:,} ({_less(before['macs'], after['macs'])})"
    yield f"  size       {before['size_bytes']:,} -> {after['size_bytes']:,} bytes"
    for batch, gains in report["speedup"].items():
        words = {name: "over" if gain["value"] >= 1 else "the speed of" for name, gain in gains.items()}
        ratios = ", ".join(f"{gain['value']:.2f}x {words[name]} {name}" for name, gain in gains.items())
        yield f"  batch {batch}: {after['latency_ms'][batch]['p50']:.3f} ms; {ratios}"
    yield from (f"  note: {each}" for each in report["notes"] if "timings are not to be relied on" in each)


def _less(before: int, after: int) -> str:
    return f"{100 * (1 - after / before):.1f} % less" if before else "none"
