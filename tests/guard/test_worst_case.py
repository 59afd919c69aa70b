"""Bounds of means with a worst case against Clopper and Pearson's, against drawn weights, and against fresh samples at the limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimize.guard.worst_case import mean_high


@pytest.mark.parametrize(("hits", "cases"), [(0, 5), (0, 60), (3, 60), (40, 2000)])
@pytest.mark.parametrize("alpha", [0.3, 0.05, 1e-4])
def test_of_zeros_and_ones_it_is_the_bound_of_clopper_and_pearson(hits: int, cases: int, alpha: float) -> None:
    exact = stats.binomtest(hits, cases).proportion_ci(1 - 2 * alpha, method="exact").high
    found = mean_high((np.arange(cases) < hits).astype(float), 1.0, alpha)
    assert found == pytest.approx(exact, rel=0.01)
    assert found > exact - 1e-4


@pytest.mark.parametrize("times", [1, 4])
def test_it_is_the_quantile_of_a_mean_with_exponential_weights(times: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.01, 0.2, 30)
    points = np.append(np.tile(values, times), 0.9)
    weights = rng.exponential(size=(200_000, len(points)))
    drawn = np.quantile(weights @ points / weights.sum(1), 0.95)
    assert mean_high(values, 0.9, 0.05, times) == pytest.approx(drawn, abs=0.002)


def test_many_values_have_the_normal_bound() -> None:
    values = np.random.default_rng(1).normal(0, 1, 40_000)
    assert mean_high(values, 4.0, 0.05) == pytest.approx(values.mean() + 1.645 * values.std() / 200, abs=2e-4)


def test_a_value_beyond_the_worst_takes_its_place() -> None:
    values = np.array([0.0, 0.0, 0.7])
    assert mean_high(values, 0.5, 0.05) == mean_high(values, 0.7, 0.05)
    assert mean_high(np.full(4, 0.5), 0.5, 0.05) == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [0.5, 0.2])
def test_a_few_who_lose_much_pass_one_in_twenty_times_at_most(loss: float) -> None:
    """The mean lies exactly at the limit of 4 %, with 40 values of which a few lose `loss` and the rest nothing but noise."""
    rng, passed = np.random.default_rng(2), 0
    for _ in range(1000):
        values = loss * (rng.random(40) < 0.04 / loss) + rng.normal(0, 0.01, 40)
        passed += mean_high(values, 0.5, 0.05) <= 0.04
    assert passed <= stats.binom.ppf(0.999, 1000, 0.05)
