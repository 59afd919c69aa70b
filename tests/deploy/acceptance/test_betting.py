"""The bound of a mean: a closed formula, the expectation of the wealth by enumeration, and coverage by simulation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import exp

import numpy as np
import pytest
from scipy.optimize import brentq

from optimize.deploy.acceptance.betting import BETS, WEIGHTS, log_wealth, mean_upper_bound


def test_the_weights_are_one_player_s_first_wealth() -> None:
    assert sum(WEIGHTS) == pytest.approx(1.0)
    assert len(WEIGHTS) == len(BETS)


@pytest.mark.parametrize("n", [5, 60, 200])
def test_of_zeros_the_bound_is_the_root_of_a_polynomial(n: int) -> None:
    """Every factor of a player is 1 + g m / (1 - m)."""
    expected = brentq(lambda m: sum(w * (1 + g * m / (1 - m)) ** n for w, g in zip(WEIGHTS, BETS, strict=True)) - 20, 1e-9, 0.6)
    assert mean_upper_bound(np.zeros(n), 0.05) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("mean", [0.02, 0.3])
def test_the_expected_wealth_at_the_true_mean_is_one(mean: float) -> None:
    """All outcomes of four values that are 0 or 1: a fair game, so that a wealth of 20 has a chance of 5 % at most."""
    expected = 0.0
    for outcome in product((0.0, 1.0), repeat=4):
        chance = float(np.prod([mean if value else 1 - mean for value in outcome]))
        expected += chance * exp(log_wealth(np.array(outcome), mean))
    assert expected == pytest.approx(1.0)


def test_more_of_the_same_values_narrow_the_bound_and_no_values_leave_it_open() -> None:
    values = np.array([0.0, 0.01, 0.02, 0.3])
    bounds = [mean_upper_bound(values, 0.05, times) for times in (1, 10, 100, 1000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] > values.mean()
    assert mean_upper_bound(np.tile(values, 10), 0.05) == pytest.approx(bounds[1], abs=1e-7)
    assert mean_upper_bound(np.zeros(0), 0.05) == 1.0
    assert mean_upper_bound(np.ones(50), 0.05) == pytest.approx(1.0, abs=1e-6)
    assert log_wealth(values, 1.0) == float("inf")


Sampled = Callable[[np.random.Generator], np.ndarray]


@pytest.mark.parametrize(
    ("sampled", "mean"),
    [
        (lambda draw: draw.beta(0.3, 10, (400, 60)), 0.3 / 10.3),
        (lambda draw: (draw.random((400, 60)) < 0.03).astype(float), 0.03),
        (lambda draw: np.where(draw.random((400, 60)) < 0.02, 0.8, 0.005), 0.02 * 0.8 + 0.98 * 0.005),
    ],
    ids=["skewed", "all or nothing", "rare large"],
)
def test_the_bound_misses_in_one_of_twenty_samples_at_most(sampled: Sampled, mean: float) -> None:
    missed = np.mean([mean_upper_bound(row, 0.05) < mean for row in sampled(np.random.default_rng(7))])
    # of 400 samples with a true rate of 5 %, more than 7.75 % miss with a chance of 1 %
    assert missed <= 0.0775
