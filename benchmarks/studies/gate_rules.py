"""Rules that say whether a candidate became slower, on the same recorded samples: the gate's own, and three that teams use.

Every rule takes pairs of processes that were drawn for one decision, and says whether it reports a regression.

| rule | what it looks at |
|---|---|
| gate | log ratios of pairs, one after the other, until `sequential.decide` has an answer or the time is over |
| pytest-benchmark | `--benchmark-compare-fail=mean:5%`: mean of the rounds of one process now, against one stored earlier |
| t-test | the same two processes: Welch's test on their rounds, one-sided, p < 0.05 |
| medians | as pyperf: medians of 20 processes of each model, more than the limit (or half of it) apart |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimize.deploy.gate.latency import MAX_SECONDS
from optimize.deploy.gate.sequential import decide
from optimize.measure.duet import PairSample

Draw = np.random.Generator
Rule = Callable[[Sequence[PairSample], Draw, float], bool]
PROCESSES = 20
"""Processes of each model that pyperf starts by default."""
STRETCH = 3
"""Pairs that are drawn together, in the order they were recorded: what lasts longer than a pair stays in the samples."""


@dataclass(frozen=True)
class GateAnswer:
    """One resampled decision of the gate: its outcome, the number of pairs and the seconds they took."""

    outcome: str
    pairs: int
    seconds: float


def slower(samples: Sequence[PairSample], slowdown: float) -> list[PairSample]:
    """Return the samples as they were if every block of the candidate had taken that share longer."""
    return [replace(pair, candidate_ns=tuple(round(ns * (1 + slowdown)) for ns in pair.candidate_ns)) for pair in samples]


def draw_positions(n: int, draw: Draw, count: int) -> list[int]:
    """Return the positions of `count` of n pairs: stretches of neighbouring pairs, each from a start that is drawn."""
    starts = draw.integers(n, size=math.ceil(count / STRETCH))
    return [int((start + step) % n) for start in starts for step in range(STRETCH)][:count]


def gate(samples: Sequence[PairSample], draw: Draw, limit: float, *, max_seconds: float = MAX_SECONDS) -> GateAnswer:
    """Decide as `compare_latency` does, on pairs that are drawn from the samples instead of measured."""
    log_ratios: list[float] = []
    spent, outcome = 0.0, "inconclusive"
    log_ratio = [pair.log_ratio for pair in samples]
    while outcome == "inconclusive" and spent < max_seconds:
        for position in draw_positions(len(samples), draw, STRETCH):
            if outcome == "inconclusive" and spent < max_seconds:
                log_ratios.append(log_ratio[position])
                spent += samples[position].seconds
                outcome = decide(log_ratios, max_slowdown=limit).outcome
    return GateAnswer(outcome, len(log_ratios), spent)


def mean_rule(samples: Sequence[PairSample], draw: Draw, limit: float) -> bool:
    """Compare the means of the rounds of a stored run with those of a later one."""
    stored, later = _two_runs(samples, draw)
    return float(np.mean(later)) > (1 + limit) * float(np.mean(stored))


def t_test_rule(samples: Sequence[PairSample], draw: Draw, limit: float) -> bool:
    """Ask whether the later run's mean is significantly larger; the limit plays no part, as it does not in practice."""
    from scipy.stats import ttest_ind

    stored, later = _two_runs(samples, draw)
    return float(ttest_ind(later, stored, equal_var=False, alternative="greater").pvalue) < 0.05


def medians_rule(samples: Sequence[PairSample], draw: Draw, limit: float, *, share: float = 1.0, processes: int = PROCESSES) -> bool:
    """Compare medians over processes, each its own median.

    Args:
        samples: pairs to draw processes from.
        draw: generator.
        limit: largest slow-down.
        share: part of the limit that the medians must be apart.
        processes: number of processes of each model.
    """
    stored, later = (draw_positions(len(samples), draw, processes) for _ in range(2))
    baseline = np.median([samples[position].baseline_ms for position in stored])
    candidate = np.median([samples[position].candidate_ms for position in later])
    return bool(candidate > (1 + share * limit) * baseline)


def _two_runs(samples: Sequence[PairSample], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds for each call of a baseline process and of a candidate process of another moment."""
    first, second = draw.choice(len(samples), 2, replace=False)
    stored, later = samples[first], samples[second]
    return np.divide(stored.baseline_ns, stored.calls * 1e6), np.divide(later.candidate_ns, later.calls * 1e6)
