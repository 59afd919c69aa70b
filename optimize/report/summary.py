"""The report in a few lines of text, for a terminal. The verdict comes first, and an unreliable latency is shown without its figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from optimize.report import looks
from optimize.report.original import original_sentence
from optimize.report.render import headline
from optimize.report.speed import UNRELIABLE, doubts, qualifier
from optimize.report.wording import Report

_WORDS = {"pass": "ACCEPTED", "fail": "REJECTED", "inconclusive": "INCONCLUSIVE"}


def summary(report: Report) -> Iterator[str]:
    """Lines for the terminal."""
    qualified = qualifier(report)
    yield f"{_WORDS[report['verdict']]}{f' ({qualified})' if qualified else ''}: {headline(report)}"
    if known := original_sentence(report):
        yield f"  {known[:1].lower()}{known[1:]}"
    yield from (f"  {reason}" for reason in report["reasons"])
    if (budget := report.get("time_budget")) and budget["stopped"]:
        yield f"  the search was {budget['sentence']}"
    # A first look needs no line; from the second on, the bounds are wider than the reader expects.
    if (report.get("looks") or {}).get("number", 1) > 1:
        yield f"  {looks.sentence(report)}"
    baseline, candidate = report["baseline"], report["compressed"]
    # Without an artifact there are no figures; the reasons above say why.
    if candidate is None:
        return
    for name, key in (("parameters", "parameters"), ("MACs      ", "macs")):
        yield f"  {name} {baseline[key]:,} -> {candidate[key]:,} ({_less(baseline[key], candidate[key])})"
    yield f"  size       {baseline['size_bytes']:,} -> {candidate['size_bytes']:,} bytes"
    for batch, gains in report["speedup"].items():
        yield f"  batch {batch}: {_timed(report, batch, gains)}"
    yield from (f"  note: {note}" for note in report["notes"] if "timings are not to be relied on" in note)


def _timed(report: Report, batch: str, gains: Mapping[str, Mapping[str, float]]) -> str:
    """The median and every ratio of one batch size; what is not to be relied on is named without its figure."""
    if reasons := doubts(report, batch):
        # The last is the foreign load where there was any, which explains the others.
        return f"latency {UNRELIABLE} ({reasons[-1]}); the report has the figures"
    ratios = []
    for name, gain in gains.items():
        if doubts(report, batch, name):
            ratios.append(f"{name} {UNRELIABLE}")
        # An interval that holds 1 permits faster and slower, so neither word is used.
        elif gain["low"] <= 1 <= gain["high"]:
            ratios.append(f"{gain['value']:.2f}x the speed of {name}, no clear difference")
        else:
            ratios.append(f"{gain['value']:.2f}x {'over' if gain['value'] >= 1 else 'the speed of'} {name}")
    return f"{report['compressed']['latency_ms'][batch]['p50']:.3f} ms; {', '.join(ratios)}"


def _less(baseline: int, candidate: int) -> str:
    return f"{100 * (1 - candidate / baseline):.1f} % less" if baseline else "none"
