"""Exact bounds against enumeration of every result: how often they let a loss of exactly the limit pass."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from optimize.guard.exact import NUISANCE, clopper_pearson, hits_chance, paired, paired_high, pass_chance
from optimize.guard.score_intervals import tango_high

Z = float(stats.norm.ppf(0.95))


def borders(cases: int, limit: float, most: int) -> list[int]:
    """The most lost cases that pass, for each number of gained ones."""
    found, lost = [], -1
    for gained in range(most + 1):
        while lost + 1 + gained <= cases and paired_high(lost + 1, gained, cases, 0.05) <= limit:
            lost += 1
        found.append(lost)
    return found


def passing(cases: int, found: list[int], lost: float, gained: float) -> float:
    """Chance of the results that pass, by the multinomial distribution written out."""
    counts = np.arange(len(found))
    given = np.where(np.array(found) >= 0, stats.binom.cdf(found, cases - counts, min(1.0, lost / (1 - gained))), 0.0)
    return float((stats.binom.pmf(counts, cases, gained) * given).sum())


@pytest.mark.parametrize(("cases", "limit"), [(20, 0.1), (59, 0.05), (93, 0.05), (137, 0.02), (200, 0.06), (310, 0.01), (700, 0.02)])
def test_a_loss_of_exactly_the_limit_passes_one_in_twenty_times_at_most(cases: int, limit: float) -> None:
    gains = [0.0, 0.002, 0.01, 0.03, 0.08]
    found = borders(cases, limit, int(stats.binom.ppf(1 - 1e-7, cases, max(gains))) + 1)
    sizes = [passing(cases, found, limit + gained, gained) for gained in gains]
    assert max(sizes) <= 0.05
    if cases * limit > 3.2:  # else nothing passes at all
        assert max(sizes) > 0.015


def test_the_score_interval_promises_more_than_it_holds() -> None:
    """What the exact bound is for: of 60 to 200 cases with a limit of 5 pp, Tango's lets more than 6 % pass at some."""
    sizes = []
    for cases in range(60, 200):
        most = max(lost for lost in range(cases) if lost == 0 or tango_high(lost, 0, cases, Z) <= 0.05)
        sizes.append(stats.binom.cdf(most, cases, 0.05) if tango_high(most, 0, cases, Z) <= 0.05 else 0.0)
    assert max(sizes) > 0.06


@pytest.mark.parametrize(("lost", "gained", "cases"), [(0, 0, 12), (4, 0, 122), (4, 2, 122), (20, 18, 500), (0, 20, 500), (11, 0, 12)])
def test_bounds_lie_near_the_score_interval_and_fractions_are_never_to_the_favour(lost: int, gained: int, cases: int) -> None:
    low, high = paired(lost, gained, cases, 0.05)
    assert low <= (lost - gained) / cases <= high
    assert high == pytest.approx(tango_high(lost, gained, cases, Z), abs=2.6 / cases)
    if not gained:
        alone = stats.binomtest(lost, cases).proportion_ci(0.9, method="exact").high
        assert alone - 1e-6 <= high <= alone * 1.01
    assert paired_high(lost * 0.999999, gained, cases, 0.05) >= high - 1e-4


def test_without_cases_nothing_is_bounded() -> None:
    assert paired(0, 0, 0, 0.05) == (-1.0, 1.0)
    assert clopper_pearson(0, 0, 0.05) == (0.0, 1.0)
    assert paired(5, 0, 5, 0.05)[1] == paired_high(12, 0, 12, 0.05) == 1.0


@pytest.mark.parametrize(("lost", "gained", "cases", "limit"), [(0.03, 0.0, 122, 0.06), (0.02, 0.02, 300, 0.05), (0.01, 0.003, 150, 0.06)])
def test_the_chance_to_pass_is_that_of_the_results_that_pass(lost: float, gained: float, cases: int, limit: float) -> None:
    found = borders(cases, limit, int(stats.binom.ppf(1 - 1e-7, cases, gained)) + 1)
    assert pass_chance(lost, gained, cases, 0.05, limit) == pytest.approx(passing(cases, found, lost, gained), abs=0.03)


@pytest.mark.parametrize(("share", "cases", "limit"), [(0.0, 58, 0.05), (0.0, 59, 0.05), (0.02, 200, 0.05), (0.03, 90, 0.05)])
def test_the_chance_of_a_share_to_pass_is_that_of_the_hits_that_pass(share: float, cases: int, limit: float) -> None:
    hits = np.arange(cases + 1)
    passes = np.array([clopper_pearson(float(each), cases, 0.05)[1] <= limit for each in hits])
    assert hits_chance(share, cases, 0.05, limit) == pytest.approx(float((stats.binom.pmf(hits, cases, share) * passes).sum()), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01, 0.002])
def test_of_one_case_that_was_gained_the_bound_is_known(alpha: float) -> None:
    """It is gained with a chance of (1 - d) / 2 at the most, if the true drop is d."""
    assert paired_high(0.0, 1.0, 1.0, alpha) == pytest.approx(1 - 2 * alpha * (1 - NUISANCE), abs=1e-4)


@pytest.mark.parametrize(("lost", "gained", "cases"), [(0, 1, 1), (1, 2, 4), (0, 3, 12), (2, 0, 25), (5, 5, 29), (3, 1, 40), (0, 9, 60)])
def test_more_confidence_never_gives_a_nearer_bound(lost: int, gained: int, cases: int) -> None:
    found = [paired_high(float(lost), float(gained), float(cases), alpha) for alpha in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)]
    assert all(near <= far + 1e-6 for near, far in pairwise(found))
