"""The report in a few lines of text, for a terminal: the verdict first, and no figure of time that is not to be relied on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from optimize.report import looks
from optimize.report.render import headline
from optimize.report.speed import UNRELIABLE, doubts, qualifier
from optimize.report.standing import original_sentence
from optimize.report.wording import Report

_WORDS = {"pass": "ACCEPTED", "fail": "REJECTED", "inconclusive": "INCONCLUSIVE"}


def summary(report: Report) -> Iterator[str]:
    """Lines for the terminal."""
    qualified = qualifier(report)
    yield f"{_WORDS[report['verdict']]}{f' ({qualified})' if qualified else ''}: {headline(report)}"
    if known := original_sentence(report):
        yield f"  {known[:1].lower()}{known[1:]}"
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
        yield f"  batch {batch}: {_timed(report, batch, gains)}"
    yield from (f"  note: {each}" for each in report["notes"] if "timings are not to be relied on" in each)


def _timed(report: Report, batch: str, gains: Mapping[str, Mapping[str, float]]) -> str:
    """The median and every ratio of one batch size; what is not to be relied on is named without its figure."""
    if reasons := doubts(report, batch):
        # The last is the foreign load where there was any, which explains the others.
        return f"latency {UNRELIABLE} ({reasons[-1]}); the report has the figures"
    ratios = []
    for name, gain in gains.items():
        if doubts(report, batch, name):
            ratios.append(f"{name} {UNRELIABLE}")
        elif gain["low"] <= 1 <= gain["high"]:
            ratios.append(f"{gain['value']:.2f}x the speed of {name}, no clear difference")
        else:
            ratios.append(f"{gain['value']:.2f}x {'over' if gain['value'] >= 1 else 'the speed of'} {name}")
    return f"{report['compressed']['latency_ms'][batch]['p50']:.3f} ms; {', '.join(ratios)}"


def _less(before: int, after: int) -> str:
    return f"{100 * (1 - after / before):.1f} % less" if before else "none"
