"""Rates of the classes: shrunk to the common mean, more so where there are few cases; and covered as often as they claim."""

from __future__ import annotations

import numpy as np

from optimize.guard.change_rates import sampled_rates


def draws(changed: list[float], cases: list[float]) -> np.ndarray:
    return sampled_rates(np.array(changed), np.array(cases), 4000, np.random.default_rng(0))


def test_a_class_without_a_change_still_has_a_rate() -> None:
    alone, beside = draws([0.0], [60.0]).mean(), draws([0.0, 9.0], [60.0, 900.0])[:, 0].mean()
    assert 0.002 < alone < 0.02
    assert 0.004 < beside < 0.01


def test_a_small_class_is_shrunk_further_than_a_large_one() -> None:
    rates = draws([2.0, 40.0, 10.0], [20.0, 400.0, 1000.0]).mean(0)
    assert rates[0] < rates[1] < 0.1, "both measured 10 %"
    assert abs(rates[1] - 0.1) < 0.01


def test_a_class_without_a_case_follows_the_others() -> None:
    rates = draws([0.0, 10.0, 11.0], [0.0, 500.0, 500.0])
    assert 0.01 < np.median(rates[:, 0]) < 0.04
    assert rates[:, 0].std() > rates[:, 1].std()


def test_an_interval_holds_the_true_rate_as_often_as_it_claims() -> None:
    """Rates drawn from a gamma distribution, 10 classes each; 90 % intervals."""
    rng, inside = np.random.default_rng(3), []
    for _ in range(60):
        true = 0.02 * rng.gamma(2, 1 / 2, 10)
        cases = rng.integers(40, 200, 10)
        rates = sampled_rates(rng.binomial(cases, true).astype(float), cases.astype(float), 1000, rng)
        inside.append((true > np.quantile(rates, 0.05, 0)) & (true < np.quantile(rates, 0.95, 0)))
    assert 0.86 < np.mean(inside) < 0.95
