"""Measure latency in turns, A B A B …, so that a disturbance of the machine meets every contender alike.

What ran before leaves the caches full of its own weights, and its threads may still be spinning: a small model behind a large one looks
twice as slow as it is. So each contender runs untimed for a moment before its timed call, as in a loop that serves one model.

Percentiles are linear interpolations between order statistics. A ratio compares medians; its interval is a paired bootstrap: whole rounds
are drawn with replacement, so that what a round shares (a foreign process, a clock change) stays shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimize.backends.session import gc_paused
from optimize.errors import InputError

_RESAMPLES = 2000
LOOKS, FIRST_LOOK = 8, 2
"""Parts of a measurement after which it may end early, and the first of them: a quarter of the time is always measured."""


@dataclass(frozen=True)
class Latency:
    """The samples of one contender, in the order they were taken, milliseconds for each call."""

    samples_ms: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """Return the `share` percentile in milliseconds, 0 to 100."""
        return float(np.percentile(self.samples_ms, share))

    @property
    def p50(self) -> float:
        """Median, ms."""
        return self.percentile(50)

    @property
    def p90(self) -> float:
        """90th percentile, ms."""
        return self.percentile(90)

    @property
    def p95(self) -> float:
        """95th percentile, ms."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """99th percentile, ms."""
        return self.percentile(99)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.samples_ms)

    @property
    def min(self) -> float:
        """Fastest call, ms: what the machine can do when nothing disturbs it."""
        return min(self.samples_ms)

    @property
    def mean(self) -> float:
        """Mean, ms."""
        return float(np.mean(self.samples_ms))

    def as_dict(self) -> dict[str, float]:
        """Return the summary that a report shows, milliseconds (and `n`)."""
        return {name: getattr(self, name) for name in ("p50", "p90", "p95", "p99", "n", "min", "mean")}


@dataclass(frozen=True)
class Ratio:
    """A speed-up, with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the form that a report shows."""
        return {"value": self.value, "low": self.low, "high": self.high}


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    min_rounds: int = 30,
    warmup: int = 5,
    settle_s: float = 0.002,
    enough: Callable[[Mapping[str, Sequence[float]]], bool] | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Time each contender once per round, in the order given, until both `seconds` and `min_rounds` are reached.

    Args:
        contenders: name -> a call that does the work and returns when it is done.
        seconds: shortest time to measure for, warm-up not counted; with `enough` the longest.
        min_rounds: fewest rounds, however slow they are.
        warmup: rounds that are run but not counted.
        settle_s: seconds of untimed calls before each timed one, rounded up to whole calls; 0 for none.
        enough: function of the samples so far that says whether they are enough (`measure/median_precision.py`); it is asked after every
            eighth of `seconds`, from the second on. None measures for `seconds` in any case.
        timer: function that returns seconds, rising; only a test gives another one.
    """
    if min_rounds < 1:
        raise InputError(f"`min_rounds` (={min_rounds}) must be at least 1.")
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    with gc_paused():
        for _ in range(warmup):
            for call in contenders.values():
                call()
        begin, rounds, looks = timer(), 0, FIRST_LOOK
        # one call of each contender in a round: A B A B, so that a slow second falls on all of them
        while rounds < min_rounds or (passed := timer() - begin) < seconds:
            if enough is not None and rounds >= min_rounds and passed >= looks * seconds / LOOKS:
                if enough(samples):
                    break
                looks += 1
            for name, call in contenders.items():
                # untimed calls of the same contender: its own weights are in the caches again, as in a loop that serves one model
                _settle(call, settle_s, timer)
                start = timer()
                call()
                samples[name].append((timer() - start) * 1e3)
            rounds += 1
    return {name: Latency(tuple(taken)) for name, taken in samples.items()}


def _settle(call: Callable[[], object], seconds: float, timer: Callable[[], float]) -> None:
    start = timer()
    while timer() - start < seconds:
        call()


def ratio(slow: Latency, fast: Latency, *, seed: int = 0) -> Ratio:
    """Return the median of `slow` over that of `fast`, from the same rounds; above 1 when `fast` is the faster one.

    Raises:
        InputError: when the two do not come from the same rounds.
    """
    # samples of different runs have nothing to pair: their k-th calls met different disturbances
    if slow.n != fast.n or not slow.n:
        raise InputError(f"`slow` ({slow.n} samples) and `fast` ({fast.n} samples) must come from the same rounds of one interleaved run.")
    pair = np.array([slow.samples_ms, fast.samples_ms])
    rng = np.random.default_rng(seed)
    # The same rounds are drawn for both contenders, so that what a round shares cancels in the quotient.
    medians = np.array([np.median(pair[:, rng.integers(slow.n, size=slow.n)], axis=1) for _ in range(_RESAMPLES)])
    low, high = np.percentile(medians[:, 0] / medians[:, 1], [2.5, 97.5])
    return Ratio(slow.p50 / fast.p50, float(low), float(high))
