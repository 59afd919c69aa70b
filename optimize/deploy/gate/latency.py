"""Decide whether a candidate is slower than a baseline, in fresh pairs of processes, with known error rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from optimize.deploy.gate.sequential import ALPHA, Decision, Outcome, decide
from optimize.errors import InputError
from optimize.measure.duet import SECONDS, Mode, PairSample, Timed, choose_mode, measure_pair

MAX_SECONDS = 300.0
"""Seconds after which a comparison that has not decided ends as inconclusive; most decide in half a minute."""
TakePair = Callable[[int], PairSample]
"""Position of a pair -> its sample."""


@dataclass(frozen=True)
class LatencyComparison:
    """The latency of a candidate beside that of a baseline, decided.

    Args:
        outcome: "pass", "fail" (slower than allowed) or "inconclusive" (out of time).
        ratio: median over the pairs of candidate / baseline; above 1 when the candidate is slower.
        low: lower bound of the ratio, wrong at most with `alpha` however long was measured; 0 where there is none.
        high: upper bound of the ratio; infinite where there is none.
        pairs: number of pairs of fresh processes.
        seconds: seconds that the comparison took.
        reason: why it ends so, one sentence.
        max_slowdown: the limit.
        alpha: chance of each bound to be wrong.
        batch: number of inputs in one call.
        threads: number of threads; None for the runtime's own choice.
        mode: how the two were timed, "interleaved" or "duet".
        baseline_ms: median over the pairs of the baseline's milliseconds for each call.
        candidate_ms: median over the pairs of the candidate's milliseconds for each call.
        samples: every pair.
    """

    outcome: Outcome
    ratio: float
    low: float
    high: float
    pairs: int
    seconds: float
    reason: str
    max_slowdown: float
    alpha: float
    batch: int
    threads: int | None
    mode: Mode
    baseline_ms: float
    candidate_ms: float
    samples: tuple[PairSample, ...]

    @property
    def processes(self) -> int:
        """Number of processes that were opened."""
        return 2 * self.pairs

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows; a bound that is not there is None, since JSON knows no infinity."""
        figures = {name: value for name, value in vars(self).items() if name != "samples"}
        missing = {"low": self.low or None, "high": self.high if math.isfinite(self.high) else None}
        return {**figures, **missing, "processes": self.processes, "samples": [sample.as_dict() for sample in self.samples]}


def compare_latency(
    baseline: Timed,
    candidate: Timed,
    *,
    max_slowdown: float = 0.05,
    batch: int = 1,
    threads: int | None = 1,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
    slowdown: float = 0.0,
    mode: Mode | None = None,
    pair_seconds: float = SECONDS,
) -> LatencyComparison:
    """Open pairs of fresh processes until it is decided whether the candidate is slower than allowed.

    Args:
        baseline: model that is compared with.
        candidate: model that is compared.
        max_slowdown: largest share by which the candidate may be slower: 0.05 for 5 %.
        batch: number of inputs in one call.
        threads: number of threads, as in `build`. With more than one, a process that wants a single core delays every call of both
            models by much more than the limit, and nothing is decided; so one thread is the default.
        max_seconds: seconds after which no further pair is opened.
        seed: seed of the inputs, and of the order within each pair.
        slowdown: share by which the candidate is made slower, to test that it is caught.
        mode: "interleaved" or "duet"; None for the one with less spread in a pair that is opened first, and not counted.
        pair_seconds: seconds of rounds in each pair, opening not counted.

    Raises:
        InputError: when a setting is out of its range.
        OptimizeError: when a model cannot be opened or run.
    """
    if not max_seconds >= 0:
        raise InputError(f"`max_seconds` (={max_seconds}) must be 0 or more: leave it out for {MAX_SECONDS:g}.")
    if batch < 1:
        raise InputError(f"`batch` (={batch}) must be 1 or more: leave it out for 1.")
    decide([], max_slowdown=max_slowdown)  # refuses a limit that is out of range
    started = time.perf_counter()
    take = partial(measure_pair, baseline, candidate, batch=batch, threads=threads, seconds=pair_seconds, slowdown=slowdown)
    if mode is None:
        mode = choose_mode(baseline, candidate, batch=batch, threads=threads, seconds=pair_seconds, seed=seed, slowdown=slowdown)
    return compare(
        lambda position: take(mode=mode, seed=seed + 1 + position),
        max_slowdown=max_slowdown,
        max_seconds=max_seconds,
        batch=batch,
        threads=threads,
        started=started,
    )


def compare(
    take: TakePair,
    *,
    max_slowdown: float,
    max_seconds: float,
    batch: int = 1,
    threads: int | None = None,
    started: float | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> LatencyComparison:
    """Take pairs until they decide or the time is over; the part of `compare_latency` that opens no process.

    Args:
        take: returns the sample of a new pair, from its position.
        max_slowdown: largest share by which the candidate may be slower.
        max_seconds: seconds from `started` on after which no further pair is taken; there is one at least.
        batch: number of inputs in one call, for the result.
        threads: number of threads, for the result.
        started: when the comparison began, by `timer`; None for now.
        timer: function that returns seconds, rising; only a test gives another one.
    """
    decision = decide([], max_slowdown=max_slowdown)
    samples: list[PairSample] = []
    start = timer() if started is None else started
    while not samples or (decision.outcome == "inconclusive" and timer() - start < max_seconds):
        samples.append(take(len(samples)))
        decision = decide([sample.log_ratio for sample in samples], max_slowdown=max_slowdown)
    spent = timer() - start
    return LatencyComparison(
        outcome=decision.outcome,
        ratio=decision.ratio,
        low=decision.low,
        high=decision.high,
        pairs=len(samples),
        seconds=spent,
        reason=_reason(decision, max_slowdown, spent),
        max_slowdown=max_slowdown,
        alpha=ALPHA,
        batch=batch,
        threads=threads,
        mode=samples[0].mode,
        baseline_ms=median(sample.baseline_ms for sample in samples),
        candidate_ms=median(sample.candidate_ms for sample in samples),
        samples=tuple(samples),
    )


def _reason(decision: Decision, max_slowdown: float, seconds: float) -> str:
    limit, half = f"{100 * max_slowdown:g} %", f"{50 * max_slowdown:g} %"
    measured = f"the candidate takes {decision.ratio:.3f} times as long as the baseline, at {decision.n} pairs of processes"
    if decision.outcome == "pass":
        return f"{measured}; at most {decision.high:.3f} times, less than the {limit} allowed."
    if decision.outcome == "fail":
        return f"{measured}; at least {decision.low:.3f} times, more than half of the {limit} allowed ({half})."
    known = f"{decision.low:.3f} to {decision.high:.3f} times" if decision.low and math.isfinite(decision.high) else "no bound yet"
    if known == "no bound yet":
        pairs = "1 pair" if decision.n == 1 else f"{decision.n} pairs"
        advice = "allow more time with --max-seconds, measure with one thread, or on a quieter machine"
        return f"{pairs} of processes in {seconds:.0f} s gives no bound yet: {advice}."
    return f"{measured}; {known} after {seconds:.0f} s decides neither: allow more time, measure with one thread, or on a quieter machine."
