"""Warm-up on a scripted clock, and variation against the textbook's formulas."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from optimize.measure.warmup import block_medians, block_variation, variation, warm_up
from tests.measure.test_latency import Clock


def warmed(clock: Clock, **seconds: list[float]) -> tuple[bool, dict[str, list[float]]]:
    """Windows of one round, at most four."""
    calls = {name: clock.takes(*durations) for name, durations in seconds.items()}
    found = warm_up(calls, window_s=0, window_rounds=1, most_windows=4, settle_s=0, timer=clock).as_dict()
    return found["settled"], found["medians_ms"]


def test_it_ends_once_two_windows_agree() -> None:
    # Powers of two keep the clock exact.
    settled, medians = warmed(Clock(), a=[4.0, 2.0, 1.0, 1.015625, 9.0])
    assert settled
    assert medians == {"a": [4000, 2000, 1000, 1015.625]}


def test_it_waits_for_every_contender() -> None:
    settled, medians = warmed(Clock(), a=[1.0] * 9, b=[4.0, 2.0, 2.0])
    assert settled
    assert medians == {"a": [1000] * 3, "b": [4000, 2000, 2000]}


def test_two_percent_is_not_less_than_two_percent() -> None:
    settled, medians = warmed(Clock(), a=[50.0, 51.0, 51.0])
    assert settled
    assert len(medians["a"]) == 3


def test_it_gives_up_and_says_so() -> None:
    settled, medians = warmed(Clock(), a=[1.0, 2.0, 1.0, 2.0, 2.0])
    assert not settled
    assert medians == {"a": [1000, 2000, 1000, 2000]}


def test_a_window_lasts_as_long_as_asked() -> None:
    clock = Clock()
    found = warm_up({"a": clock.takes(*[0.25] * 99)}, window_s=1, window_rounds=2, settle_s=0, timer=clock)
    assert found.settled
    assert clock.now == 2


def test_block_medians_by_hand() -> None:
    """Medians 1, 2 and 3 of three blocks: mean 2, standard deviation 1."""
    assert block_variation([1, 1, 9, 2, 0, 2, 3, 3, 3], 3) == pytest.approx(0.5)
    assert block_variation([5.0] * 40) == 0
    assert block_medians([1, 1, 9, 2, 0, 2, 3, 3, 3], 3) == (1, 2, 3)
    assert (block_medians([4.0]), block_medians([]), block_variation([])) == ((4.0,), (), 0)
    assert block_variation([5.0]) == 0


def test_noise_of_single_calls_hardly_moves_block_medians() -> None:
    noisy = np.random.default_rng(0).lognormal(0, 0.3, 5000)
    drifting = np.linspace(1, 1.2, 5000)
    assert block_variation(list(noisy)) < 0.025 < block_variation(list(drifting))
    assert variation(list(noisy)) > 0.2


def test_variation_is_that_of_the_textbook() -> None:
    samples = [1.0, 2.0, 4.0, 9.0]
    assert variation(samples) == pytest.approx(statistics.stdev(samples) / statistics.mean(samples))
    assert variation([3.0]) == 0


def test_who_had_not_settled_is_named() -> None:
    clock = Clock()
    calls = {"a": clock.takes(*[1.0] * 9), "b": clock.takes(1.0, 2.0, 4.0), "c": clock.takes(*[2.0] * 9)}
    found = warm_up(calls, window_s=0, window_rounds=1, most_windows=3, settle_s=0, timer=clock)
    assert (found.unsettled, found.settled) == (("b",), False)


def test_it_gives_up_after_so_many_seconds_but_not_before_two_windows() -> None:
    clock = Clock()
    found = warm_up({"a": clock.takes(1.0, 2.0, 4.0, 8.0)}, window_s=0, window_rounds=1, most_s=3, settle_s=0, timer=clock)
    assert (found.medians_ms, found.settled) == ({"a": (1000, 2000)}, False)
    found = warm_up({"a": clock.takes(9.0, 9.0, 9.0)}, window_s=0, window_rounds=1, most_s=3, settle_s=0, timer=clock)
    assert (found.medians_ms, found.settled) == ({"a": (9000, 9000)}, True)
