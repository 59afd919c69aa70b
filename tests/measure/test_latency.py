from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from optimize.errors import InputError
from optimize.measure.latency import Latency, interleave, ratio


class Clock:
    """Time that passes only when a contender says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *durations: float) -> Callable[[], None]:
        """A contender that takes these durations (seconds), one after the other."""
        remaining = iter(durations)

        def call() -> None:
            self.now += next(remaining)

        return call


def test_percentiles_of_a_hundred_known_samples() -> None:
    clock = Clock()
    shuffled = np.random.default_rng(0).permutation(100) + 1
    measured = interleave({"a": clock.takes(*shuffled / 1024)}, seconds=0, min_rounds=100, warmup=0, settle_s=0, timer=clock)["a"]
    # Of 1 … 100, linear interpolation puts the p-th percentile at 1 + 99 p / 100; powers of two keep the clock exact.
    unit_ms = 1000 / 1024
    known = {"p50": 50.5, "p90": 90.1, "p95": 95.05, "p99": 99.01, "min": 1, "mean": 50.5}
    assert measured.as_dict() == pytest.approx({name: value * unit_ms for name, value in known.items()} | {"n": 100}, rel=1e-12)
    assert measured.samples_ms == tuple(shuffled * unit_ms)


def test_contenders_take_turns_and_warm_up_is_not_counted() -> None:
    order: list[str] = []
    measured = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0, min_rounds=3, warmup=2, settle_s=0)
    assert order == ["a", "b"] * 5
    assert measured["a"].n == measured["b"].n == 3


def test_calls_that_settle_are_not_counted() -> None:
    """A quarter second each: three calls fill 0.625 s, the fourth is the one that counts."""
    clock = Clock()
    call = clock.takes(*[0.25, 0.25, 0.25, 0.125] * 2)
    assert interleave({"a": call}, seconds=0, min_rounds=2, warmup=0, settle_s=0.625, timer=clock)["a"].samples_ms == (125, 125)


@pytest.mark.parametrize(("seconds", "min_rounds", "rounds"), [(0, 7, 7), (8, 1, 4), (8.5, 1, 5), (8, 6, 6)])
def test_runs_until_both_time_and_rounds_are_reached(seconds: float, min_rounds: int, rounds: int) -> None:
    clock = Clock()
    calls = {"a": clock.takes(*[0.5] * 20), "b": clock.takes(*[1.5] * 20)}
    measured = interleave(calls, seconds=seconds, min_rounds=min_rounds, warmup=3, settle_s=0, timer=clock)
    assert {name: latency.n for name, latency in measured.items()} == {"a": rounds, "b": rounds}


def test_no_garbage_collection_while_timing_and_again_afterwards() -> None:
    seen: list[bool] = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, seconds=0, min_rounds=2, warmup=0, settle_s=0)
    assert seen == [False, False]
    assert gc.isenabled()


def test_no_rounds_is_an_error() -> None:
    with pytest.raises(InputError, match=r"`min_rounds` \(=0\) must be at least 1"):
        interleave({}, seconds=0, min_rounds=0)


def test_ratio_is_exact_where_nothing_varies() -> None:
    found = ratio(Latency((6.0,) * 9), Latency((2.0,) * 9))
    assert found.as_dict() == {"value": 3.0, "low": 3.0, "high": 3.0}


def test_ratio_draws_rounds_and_not_samples() -> None:
    """Noise that both contenders share does not widen the interval: unpaired, this one would reach from below 1 to above 4."""
    noise = np.random.default_rng(0).uniform(1, 10, 31)
    found = ratio(Latency(tuple(2 * noise)), Latency(tuple(noise)))
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_ratio_interval_holds_the_truth_and_is_seeded() -> None:
    """Medians 2 and 1 with 10 % spread: the standard error of a median is 1.2533 sigma / sqrt(n)."""
    rng = np.random.default_rng(4)
    slow, fast = Latency(tuple(rng.normal(2, 0.2, 400))), Latency(tuple(rng.normal(1, 0.1, 400)))
    found = ratio(slow, fast)
    assert found.low < 2 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 * 0.1 * 1.2533 * 2**0.5 / 400**0.5, rel=0.35)
    assert found == ratio(slow, fast)
    assert found != ratio(slow, fast, seed=1)


@pytest.mark.parametrize(("slow", "fast"), [((1.0,), (1.0, 2.0)), ((), ())])
def test_ratio_needs_the_same_rounds(slow: tuple[float, ...], fast: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="must come from the same rounds of one interleaved run"):
        ratio(Latency(slow), Latency(fast))
