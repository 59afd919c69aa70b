"""The chance in a drop, against scipy's intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from optimize.guard.drop import Floor, mean_drop, share_drop


@pytest.mark.parametrize(("lost", "cases"), [(1, 7), (3, 100), (50, 200), (9, 9)])
def test_a_share_is_bounded_by_wilsons_interval(lost: int, cases: int) -> None:
    expected = stats.binomtest(lost, cases).proportion_ci(0.8, method="wilson").high
    assert share_drop("x", 0.5, cases, lost).bound == pytest.approx(expected)


@pytest.mark.parametrize(("regressed", "fixed", "cases"), [(9, 4, 143), (20, 6, 1712), (3, 1, 12), (30, 29, 60), (1, 0, 5)])
def test_a_paired_share_is_bounded_by_tangos_interval(regressed: int, fixed: int, cases: int) -> None:
    """At the bound the score statistic is z: the share of the fixed is found by maximizing the likelihood under that difference."""
    drop = share_drop("x", 0.5, cases, regressed - fixed, regressed + fixed).bound

    def loss(share: float) -> float:
        return -float(xlogy(regressed, share + drop) + xlogy(fixed, share) + xlogy(cases - regressed - fixed, 1 - 2 * share - drop))

    share = minimize_scalar(loss, bounds=(0, (1 - drop) / 2), method="bounded", options={"xatol": 1e-12}).x
    spread = np.sqrt(cases * (2 * share + drop * (1 - drop)))
    assert (cases * drop - (regressed - fixed)) / spread == pytest.approx(stats.norm.ppf(0.9), rel=1e-3)


def test_cases_that_moved_both_ways_leave_more_to_chance() -> None:
    bounds = [share_drop("x", 0.5, 500, 5, moved).bound for moved in (5, 15, 45)]
    assert 0.01 < bounds[0] < bounds[1] < bounds[2]


@pytest.mark.parametrize("lost", [0, -3])
def test_where_nothing_was_lost_there_is_no_chance(lost: int) -> None:
    found = share_drop("x", 0.5, 20, lost)
    assert found.fall <= found.bound == 0.0


@pytest.mark.parametrize("count", [2, 5, 40])
def test_a_mean_is_bounded_by_students_interval(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.02, 0.05, count)
    fall = float(differences.mean())
    expected = stats.t.interval(0.8, count - 1, loc=fall, scale=stats.sem(differences))[1]
    assert mean_drop("x", 0.5, fall, differences.tolist()).bound == pytest.approx(expected)


def test_patients_who_all_lost_the_same_leave_no_doubt() -> None:
    found = mean_drop("Dice of a", 0.02, 0.02, [0.02] * 6)
    assert found.bound == pytest.approx(0.02)
    assert found.outcome == "pass"
    assert str(mean_drop("Dice of a", 0.02, 0.03, [0.03] * 6)) == "Dice of a fell by 3 pp on 6 patients; the limit is 2 pp"


@pytest.mark.parametrize(("differences", "seen"), [([], "0 patients"), ([0.01], "1 patient")])
def test_fewer_than_two_patients_tell_nothing(differences: list[float], seen: str) -> None:
    found = mean_drop("Dice of a", 0.5, sum(differences), differences)
    assert (found.outcome, found.bound) == ("inconclusive", 1.0)
    assert found.doubt == f"Dice of a has {seen}; at least 2 are needed to tell a drop of 50 pp"


def test_a_floor_is_held_at_its_limit() -> None:
    assert Floor("Dice of a", 0.85, 0.85).held
    assert not Floor("Dice of a", 0.8499, 0.85).held
    assert Floor("Dice of a", 0.0, 0.0).held
    assert Floor("Dice of a", 0.87, 0.85, 0.02).surely_held
    assert not Floor("Dice of a", 0.87, 0.85, 0.0201).surely_held
    assert str(Floor("Dice of a", 0.8123, 0.85)) == "Dice of a is 81.23 %; the limit is 85.00 %"
