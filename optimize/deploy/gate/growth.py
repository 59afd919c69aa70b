"""Intervals of how much a figure grew, from fresh processes of both models, without any assumption on how the figure is distributed.

Pairs. Two processes that run one after the other, one of each model, meet the same machine. Their ratio is one observation. Half of all
such ratios lie below the median ratio, so n of them all lie on one side with probability 2 · (1/2)^n. The interval from the smallest to the
largest therefore holds the median with confidence 1 − (1/2)^(n−1): 99.2 % with eight pairs (the confidence interval of the sign test;
Conover, Practical Nonparametric Statistics, 3rd edition, section 3.4).

    ratios 1.01 1.02 1.00 1.03 1.01 1.02 1.02 1.01      growth 0 to 3 %

No pairs. A stored baseline was measured on another day, so nothing pairs its processes with those of the candidate. The interval of each
model's own median runs from its smallest to its largest figure. The growth then lies between the smallest of the candidate over the largest
of the baseline, and the largest over the smallest: at least 98.4 % with eight processes each, and wider. A `drift` widens it further: a
change of a fixed piece of work, measured on both days, is a change of the machine and not of the model.

    baseline 99 to 101 ms, candidate 102 to 104 ms      growth 1 to 5 %
    the fixed work took 2 % longer than then            growth −1 to 7 %
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from optimize.deploy.gate.judged import Judged, change_in_words, limit_in_words, outcome_of, unknown

PROCESSES = 8
"""Number of fresh processes of each model behind a judged figure: with eight, chance puts all on one side less than once in a hundred."""


@dataclass(frozen=True)
class Growth:
    """How much a figure grew.

    Args:
        value: growth of the median, as a share.
        low: lower end of its interval.
        high: upper end of its interval.
    """

    value: float
    low: float
    high: float


def paired_growth(baseline: Sequence[float], candidate: Sequence[float]) -> Growth:
    """Return the growth from pairs of processes.

    Args:
        baseline: one figure above 0 for each pair, (n,).
        candidate: the other figure of each pair, (n,).

    Example:
        >>> paired_growth([100, 100, 100], [101, 102, 103])
        Growth(value=0.02, low=0.01, high=0.03)
    """
    growths = [round(new / old - 1, 12) for old, new in zip(baseline, candidate, strict=True)]
    return Growth(median(growths), min(growths), max(growths))


def unpaired_growth(baseline: Sequence[float], candidate: Sequence[float], drift: float = 0.0) -> Growth:
    """Return the growth from processes of two days.

    Args:
        baseline: one figure above 0 for each process of the baseline.
        candidate: one figure above 0 for each process of the candidate.
        drift: how much longer a fixed piece of work took on the candidate's day, as a share; negative where it was shorter.

    Example:
        >>> unpaired_growth([100, 100], [110, 110], drift=0.1)
        Growth(value=0.1, low=0.0, high=0.21)
    """
    # In whichever direction the machine changed, the model may have followed it fully, not at all, or the other way round.
    slack = max(1 + drift, 1 / (1 + drift))
    low, high = min(candidate) / max(baseline) / slack, max(candidate) / min(baseline) * slack
    return Growth(*(round(ratio - 1, 12) for ratio in (median(candidate) / median(baseline), low, high)))


def judged_growth(
    criterion: str, name: str, unit: str, sides: tuple[float, float], growth: Growth, limit: float | None, n: int, remedy: str = ""
) -> Judged:
    """Return a judged growth with its sentence.

    Args:
        criterion: name of the limit.
        name: what was measured.
        unit: unit of both values.
        sides: the values of baseline and candidate.
        growth: the growth and its interval.
        limit: the limit; None where none was asked for.
        n: number of repetitions behind each value.
        remedy: what would decide an inconclusive outcome.
    """
    outcome = outcome_of(growth.low, growth.high, limit)
    said = change_in_words(growth.value, "growth")
    # Shown figures have few repetitions, too few for an interval; a growth that was counted has no interval either.
    shown = limit is not None or n >= PROCESSES
    low, high = (growth.low, growth.high) if shown else (None, None)
    if shown and growth.low != growth.high:
        said += f" ({change_in_words(growth.low, 'growth')} to {change_in_words(growth.high, 'growth')})"
    if limit is None:
        reason = f"{said}; no limit was asked for"
    else:
        ending = f": {remedy}" if outcome == "inconclusive" and remedy else ""
        reason = f"{said}; the limit is {limit_in_words(limit, 'growth')}{ending}"
    return Judged(criterion, name, unit, "growth", *sides, growth.value, low, high, limit, outcome, reason, n)


def judged_count(criterion: str, name: str, unit: str, baseline: object, candidate: int | None, limit: float | None) -> Judged:
    """Return a judged growth of a figure that is counted and not measured.

    Args:
        criterion: name of the limit.
        name: what was counted.
        unit: unit of both values.
        baseline: value of the baseline; what is no whole number above 0 is not known.
        candidate: value of the candidate; None where it is not known.
        limit: the limit; None where none was asked for.
    """
    known = isinstance(baseline, int) and not isinstance(baseline, bool) and baseline > 0
    if not known or candidate is None:
        side = "candidate" if known else "baseline"
        why = f"it is not known for the {side}: name the folder of a run with its report, or an .onnx file"
        return unknown(criterion, name, unit, "growth", limit, why, candidate=candidate)
    assert isinstance(baseline, int)
    growth = candidate / baseline - 1
    return judged_growth(criterion, name, unit, (baseline, candidate), Growth(growth, growth, growth), limit, 1)
