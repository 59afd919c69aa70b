"""The Pareto frontier: the proposals that no other proposal beats in both cost and accuracy.

Example: costs 1, 2, 3 ms with accuracies 0.90, 0.95, 0.94. The first two are on the frontier; the third costs more than the second and
reaches less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.report.wording import Report


@dataclass(frozen=True)
class Trial:
    """One proposal. `cost` is its latency in milliseconds or its MACs; `best` says whether it is on the frontier."""

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
    """All proposals that can be plotted: against latency when every proposal has one, else against MACs.

    Args:
        trials: the proposals, in the order in which they were tried.
        timed: whether `cost` is latency.
        measured: number of proposals that have a latency.
        left_out: number of proposals that lack the cost or the accuracy, and so cannot be plotted.
    """

    trials: tuple[Trial, ...]
    timed: bool
    measured: int
    left_out: int


def best(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Whether each pair of cost and gain is on the frontier. Equal pairs are both on it."""
    pairs = list(zip(costs, gains, strict=True))
    # One pair beats another when it is at least as good in both and not equal to it; so equal pairs do not beat each other.
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs) for cost, gain in pairs]


def frontier(report: Report) -> Frontier:
    """The proposals of a run with their accuracy on the guard split and their cost, and which of them are on the frontier."""
    steps = list(enumerate(report["steps"], start=1))
    measured = sum(step.get("latency_ms") is not None for _, step in steps)
    # A proposal that failed before it was measured has no accuracy, and counts among those left out.
    judged = [(i, step) for i, step in steps if step["overall"] is not None]
    # Latencies and MACs cannot share an axis, so one proposal without a latency makes all of them be plotted by MACs.
    timed = bool(judged) and all(step.get("latency_ms") is not None for _, step in judged)
    key = "latency_ms" if timed else "macs"
    plotted = [(i, step) for i, step in judged if step.get(key) is not None]
    undominated = best([step[key] for _, step in plotted], [step["overall"] for _, step in plotted])
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
        for (number, step), mark in zip(plotted, undominated, strict=True)
    )
    return Frontier(trials, timed, measured, len(steps) - len(plotted))
