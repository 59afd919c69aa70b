"""The rank that bounds a percentile, against scipy's binomial and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from optimize.errors import InputError
from optimize.measure.quantiles import SHARES, bounded, samples_needed, upper_rank


@pytest.mark.parametrize("share", [*SHARES.values(), 0.1, 0.999])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_rank_is_the_binomial_quantile(share: float, confidence: float) -> None:
    for n in (1, 2, 5, 17, 30, 58, 59, 60, 299, 300, 1000, 20_000):
        below = int(stats.binom.ppf(confidence, n, share))
        assert upper_rank(n, share, confidence) == (below + 1 if below < n else None), n


def test_the_first_sizes_with_a_bound_are_the_known_ones() -> None:
    """Wilks: 59 samples for the 95th percentile, 299 for the 99th."""
    assert [samples_needed(share) for share in SHARES.values()] == [5, 29, 59, 299]
    for share in SHARES.values():
        fewest = samples_needed(share)
        assert upper_rank(fewest - 1, share) is None
        assert upper_rank(fewest, share) == fewest
        assert 1 - share**fewest >= 0.95 > 1 - share ** (fewest - 1)


def test_the_bound_holds_as_often_as_it_says() -> None:
    """4000 draws of 100 samples of a skewed distribution; three standard errors are 1 %."""
    rng = np.random.default_rng(0)
    samples = np.sort(rng.lognormal(size=(4000, 100)), axis=1)
    for share in (0.5, 0.9, 0.95):
        rank = upper_rank(100, share)
        assert rank is not None
        held = np.mean(samples[:, rank - 1] >= stats.lognorm.ppf(share, 1))
        assert held == pytest.approx(stats.binom.cdf(rank - 1, 100, share), abs=0.012)
        assert held > 0.94


def test_figures_of_a_hundred_known_samples() -> None:
    found = bounded([float(value) for value in np.random.default_rng(1).permutation(100) + 1])
    assert found["p50"] == {"value": 50.5, "at_most": stats.binom.ppf(0.95, 100, 0.5) + 1, "samples_needed": 5}
    assert found["p95"] == {"value": pytest.approx(95.05), "at_most": stats.binom.ppf(0.95, 100, 0.95) + 1, "samples_needed": 59}
    assert found["p99"] == {"value": pytest.approx(99.01), "at_most": None, "samples_needed": 299}


def test_equal_samples_bound_themselves() -> None:
    assert bounded([2.0] * 300)["p99"] == {"value": 2.0, "at_most": 2.0, "samples_needed": 299}


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, math.nan])
def test_shares_lie_between_0_and_1(share: float) -> None:
    with pytest.raises(InputError, match=r"`share` \(=.*\) must lie between 0 and 1"):
        upper_rank(10, share)
    with pytest.raises(InputError, match=r"`confidence` \(=.*\) must lie between 0 and 1"):
        samples_needed(0.5, share)
