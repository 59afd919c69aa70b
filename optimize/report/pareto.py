"""Which of many things no other beats both in what it costs and in what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.report.wording import Report


@dataclass(frozen=True)
class Trial:
    """One proposal; `cost` is its latency in milliseconds or its MACs, `best` that no other is both cheaper and better."""

    number: int
    step: str
    settings: Report
    kept: bool
    overall: float
    cost: float
    latency_ms: float | None
    macs: int | None
    parameters: int | None
    best: bool


@dataclass(frozen=True)
class Frontier:
    """All proposals that can be drawn: against latency when every one has it, else against MACs.

    Args:
        trials: in the order tried.
        timed: whether `cost` is latency.
        measured: how many proposals have a latency.
        left_out: how many lack what is drawn.
    """

    trials: tuple[Trial, ...]
    timed: bool
    measured: int
    left_out: int


def best(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Of each pair, that no other costs no more, gives no less, and is better in one of the two."""
    pairs = list(zip(costs, gains, strict=True))
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs) for cost, gain in pairs]


def frontier(report: Report) -> Frontier:
    """Accuracy on the guard split against the cost of each proposal."""
    steps = list(enumerate(report["steps"], start=1))
    measured = sum(step.get("latency_ms") is not None for _, step in steps)
    judged = [(i, step) for i, step in steps if step["overall"] is not None]
    timed = bool(judged) and all(step.get("latency_ms") is not None for _, step in judged)
    key = "latency_ms" if timed else "macs"
    drawn = [(i, step) for i, step in judged if step.get(key) is not None]
    undominated = best([step[key] for _, step in drawn], [step["overall"] for _, step in drawn])
    trials = tuple(
        Trial(
            number,
            step["step"],
            step["settings"],
            step["kept"],
            step["overall"],
            step[key],
            step.get("latency_ms"),
            step["macs"],
            step["parameters"],
            mark,
        )
        for (number, step), mark in zip(drawn, undominated, strict=True)
    )
    return Frontier(trials, timed, measured, len(steps) - len(drawn))
