"""A measurement ends when its medians are known well enough, and not before."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from optimize.measure.latency import interleave
from optimize.measure.median_precision import MIN_SAMPLES, half_width, precise
from tests.measure.test_latency import Clock


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_the_interval_covers_the_median_as_often_as_it_says(n: int) -> None:
    """The places are those of the binomial distribution, whose coverage scipy knows: of 1 … n the values are their places."""
    width = half_width(np.random.default_rng(0).permutation(n) + 1.0)
    low = round((n + 1) / 2 * (1 - width))
    assert 0.94 < binom.cdf(n - low, n, 0.5) - binom.cdf(low - 1, n, 0.5) < 0.97


def test_few_samples_are_never_enough() -> None:
    assert math.isinf(half_width([1.0] * (MIN_SAMPLES - 1)))
    assert half_width([1.0] * MIN_SAMPLES) == 0


def test_every_contender_must_be_known_and_steady() -> None:
    still, drifting = [2.0] * 100, [*[2.0] * 50, *[2.2] * 50]
    assert precise(0.01)({"a": still})
    assert not precise(0.01)({"a": still, "b": still[:5]})
    assert precise(0.01, 100)({"a": still})
    assert not precise(0.01, 101)({"a": still})
    # the interval of the median is from 2.0 to 2.2 ms here; a wide one would do, and the drift would still be seen
    assert not precise(1.0)({"a": drifting})


@pytest.mark.parametrize(("enough", "rounds"), [(lambda _: True, 4), (lambda samples: len(samples["a"]) >= 7, 8), (lambda _: False, 16)])
def test_it_ends_at_the_first_look_that_finds_enough(enough: Callable[[object], bool], rounds: int) -> None:
    """Rounds of a second, 16 s at most: looks come every two seconds, the first after four."""
    clock = Clock()
    call = clock.takes(*[1.0] * 20)
    assert interleave({"a": call}, seconds=16, min_rounds=2, warmup=0, settle_s=0, enough=enough, timer=clock)["a"].n == rounds


def test_the_fewest_rounds_are_taken_in_any_case() -> None:
    clock = Clock()
    call = clock.takes(*[1.0] * 20)
    assert interleave({"a": call}, seconds=16, min_rounds=9, warmup=0, settle_s=0, enough=lambda _: True, timer=clock)["a"].n == 9
