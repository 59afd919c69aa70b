"""Bounds against scipy's intervals, against likelihoods maximized by hand, and the design effect against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from optimize.guard.design_effect import design_effect
from optimize.guard.intervals import drop_of_share, mcnemar, mean_of, share_of
from optimize.guard.score_intervals import tang, tango

Z = float(stats.norm.ppf(0.95))


def hits(lost: int, gained: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [lost, gained, both, neither]
    return np.repeat([True, False, True, False], counts), np.repeat([False, True, True, False], counts)


@pytest.mark.parametrize(("lost", "cases"), [(0, 12), (1, 7), (3, 100), (50, 200), (9, 9)])
def test_a_share_has_the_exact_bounds_and_wilsons_for_the_search(lost: int, cases: int) -> None:
    found = share_of(np.arange(cases) < lost, 0.95)
    for method, ends in (("exact", (found.low, found.high)), ("wilson", found.usual)):
        expected = stats.binomtest(lost, cases).proportion_ci(0.9, method=method)
        assert ends == (pytest.approx(expected.low, abs=1e-8), pytest.approx(expected.high, abs=1e-8))
    assert (found.for_search.low, found.for_search.high) == found.usual
    assert found.value == lost / cases


@pytest.mark.parametrize(
    ("lost", "gained", "cases"), [(9, 4, 143), (20, 6, 1712), (3, 1, 12), (30, 29, 60), (1, 0, 5), (0, 4, 50), (2, 2, 40)]
)
def test_at_a_bound_of_the_difference_the_score_is_z(lost: int, gained: int, cases: int) -> None:
    """The share of the gained is found by maximizing the likelihood under that difference."""
    for drop in tango(lost, gained, cases, Z):

        def loss(share: float, drop: float = drop) -> float:
            return -float(xlogy(lost, share + drop) + xlogy(gained, share) + xlogy(cases - lost - gained, 1 - 2 * share - drop))

        share = minimize_scalar(loss, bounds=(max(0.0, -drop), (1 - drop) / 2), method="bounded", options={"xatol": 1e-12}).x
        spread = np.sqrt(cases * (2 * share + drop * (1 - drop)))
        assert abs(cases * drop - (lost - gained)) / spread == pytest.approx(Z, rel=2e-3)


@pytest.mark.parametrize(("both", "lost", "gained", "cases"), [(80, 6, 2, 100), (30, 5, 0, 40), (50, 3, 9, 100), (500, 20, 21, 600)])
def test_at_a_bound_of_the_ratio_the_score_is_z(both: int, lost: int, gained: int, cases: int) -> None:
    """At a ratio r the likeliest shares are found along the one line that r leaves; the spread is that of the contrast under them."""
    for ratio in tang(both, lost, gained, cases, Z):

        def shares(before: float, ratio: float = ratio) -> tuple[float, ...]:
            low, high = max(0.0, before + ratio * before - 1), min(before, ratio * before)

            def loss(shared: float) -> float:
                parts = [shared, before - shared, ratio * before - shared, 1 - before - ratio * before + shared]
                return -float(xlogy([both, lost, gained, cases - both - lost - gained], np.maximum(parts, 1e-300)).sum())

            best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13})
            return best.fun, best.x, before - best.x, ratio * before - best.x

        top = min(1.0, 1 / ratio)
        before = minimize_scalar(lambda each: shares(each)[0], bounds=(1e-6, top - 1e-9), method="bounded", options={"xatol": 1e-13}).x
        _, together, only_before, only_after = shares(before)
        spread = np.sqrt(cases * ((1 - ratio) ** 2 * together + ratio**2 * only_before + only_after))
        assert abs(both + gained - ratio * (both + lost)) / spread == pytest.approx(Z, rel=5e-3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.integers(0, 50))
def test_bounds_lie_on_either_side_and_mirror_each_other(lost: int, gained: int, both: int, neither: int) -> None:
    if not lost + gained + both + neither:
        return
    before, after = hits(lost, gained, both, neither)
    found, turned = drop_of_share(before, after, 0.95), drop_of_share(after, before, 0.95)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (turned.low, turned.high) == (pytest.approx(-found.high, abs=1e-7), pytest.approx(-found.low, abs=1e-7))
    wider = drop_of_share(before, after, 0.99)
    assert wider.low <= found.low + 1e-9
    assert wider.high >= found.high - 1e-9
    relative = drop_of_share(before, after, 0.95, relative=True)
    assert relative.low - 1e-6 <= relative.value <= relative.high + 1e-6


def test_what_never_happened_leaves_a_doubt_that_shrinks_with_the_cases() -> None:
    for cases in (12, 100, 1712):
        found = drop_of_share(*hits(0, 0, cases, 0), 0.95)
        assert found.usual == (pytest.approx(-(Z**2) / (cases + Z**2), rel=1e-6), pytest.approx(Z**2 / (cases + Z**2), rel=1e-6))
        assert 1 - 0.05 ** (1 / cases) <= found.high <= 1 - 0.0488 ** (1 / cases)
        assert found.odds(1.0, found.high + 1e-4) == (1.0, 0.0)
        assert found.odds(1.0, found.high - 1e-4) == (0.0, 0.0)


def test_no_case_at_all_says_nothing() -> None:
    empty = np.zeros(0, dtype=bool)
    found = drop_of_share(empty, empty, 0.95)
    assert (found.low, found.high, found.n) == (-1.0, 1.0, 0)
    assert drop_of_share(empty, empty, 0.95, np.zeros(0, dtype=np.int64)).high == 1.0


def test_mcnemar_is_a_binomial_test() -> None:
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0
    assert mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)
    assert drop_of_share(*hits(8, 1, 90, 1), 0.95).p_value == mcnemar(8, 1)


def test_patients_whose_cases_move_together_count_once() -> None:
    """Forty patients of five cases each; four patients lost all of theirs."""
    before, after = np.ones(200, dtype=bool), np.repeat(np.arange(40) >= 4, 5)
    patients = np.repeat(np.arange(40), 5)
    alone, together = drop_of_share(before, after, 0.95), drop_of_share(before, after, 0.95, patients)
    as_one = drop_of_share(before[::5], after[::5], 0.95)
    assert alone.value == together.value == as_one.value
    assert alone.high < as_one.high <= together.high  # Student's distribution has the wider tail
    assert together.high == pytest.approx(as_one.high, abs=0.015)  # fractions of cases err on the careful side
    single = drop_of_share(before, after, 0.95, np.arange(200))
    assert single.high == pytest.approx(alone.high, abs=2e-3)


def test_without_anything_to_go_by_a_patients_cases_are_alike() -> None:
    clusters = np.repeat(np.arange(3), [1, 2, 5])
    assert design_effect(np.zeros(8), clusters) == pytest.approx((1 + 4 + 25) / 8)
    assert design_effect(np.zeros(8), np.arange(8)) == 1.0


def test_with_much_to_go_by_the_design_effect_is_that_of_the_sums() -> None:
    draw = np.random.default_rng(0)
    clusters = np.repeat(np.arange(400), 4)
    moves = draw.choice([-1, 0, 1], 400, p=[0.2, 0.6, 0.2]).repeat(4) * (draw.random(1600) < 0.8)
    sums = moves.reshape(400, 4).sum(1)
    assert design_effect(moves.astype(float), clusters) == pytest.approx(sums.var(ddof=1) * 400 / (moves.var() * 1600), rel=0.02)


@pytest.mark.parametrize("count", [3, 5, 40])
def test_a_mean_is_bounded_by_students_interval(count: int) -> None:
    half = np.random.default_rng(count).normal(0.0, 0.05, count)
    differences = np.concatenate([0.02 + half, 0.02 - half])  # not skewed
    expected = stats.t.interval(0.9, 2 * count - 1, loc=differences.mean(), scale=stats.sem(differences))
    found = mean_of(differences, 0.95, 0.5)
    assert found.usual == (pytest.approx(expected[0], abs=1e-4), pytest.approx(expected[1], abs=1e-4))
    assert found.low == found.usual[0]
    assert found.high > found.usual[1]


def test_a_few_patients_who_lost_much_widen_the_side_they_stand_on() -> None:
    """At Hall's bound the transformed score is Student's point."""
    differences = np.where(np.arange(40) < 2, 0.5, 0.0) + np.random.default_rng(0).normal(0, 0.01, 40)
    low, high = stats.t.interval(0.9, 39, loc=differences.mean(), scale=stats.sem(differences))
    found, turned = mean_of(differences, 0.95, 0.5).for_search, mean_of(-differences, 0.95, -0.5).for_search
    assert (found.low, found.high > high + 0.01) == (pytest.approx(low), True)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    skew, score = stats.skew(differences), (differences.mean() - found.high) / differences.std(ddof=1)
    transformed = score + skew * score**2 / 3 + skew**2 * score**3 / 27 + skew / (6 * 40)
    assert transformed * 40**0.5 == pytest.approx(-stats.t.ppf(0.95, 39))


@pytest.mark.parametrize("count", [6, 40, 200])
def test_patients_who_all_lost_the_same_leave_a_doubt_about_those_who_were_not_seen(count: int) -> None:
    """One in so many may lose half: the share that none of them shows is bounded as by Clopper and Pearson."""
    found = mean_of(np.full(count, 0.02), 0.95, 0.5)
    hidden = stats.binomtest(0, count).proportion_ci(0.9, method="exact").high
    assert found.usual == (pytest.approx(0.02), pytest.approx(0.02))
    assert (found.low, found.high) == (pytest.approx(0.02), pytest.approx(0.02 + 0.48 * hidden, rel=0.01))
    turned = mean_of(np.full(count, -0.02), 0.95, -0.5)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("count", range(5))
def test_fewer_than_five_patients_tell_nothing(count: int) -> None:
    found = mean_of(np.full(count, 0.01), 0.95, 0.5)
    assert (found.low, found.high, found.n, found.min_n, found.odds) == (-1.0, 1.0, count, 5, None)
    assert mean_of(np.full(count, 0.9), 0.95, 0.4, ends=(0.0, 1.0)).low == 0.0


def test_no_bound_lies_beyond_what_there_can_be() -> None:
    values = np.array([0.99, 1.0, 1.0, 1.0, 0.2])
    found = mean_of(values, 0.99, 0.3, ends=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.51, 0.9, 0.9977, 0.9999]), st.booleans())
def test_every_confidence_and_every_cluster_has_its_bounds(seed: int, confidence: float, relative: bool) -> None:
    rng = np.random.default_rng(seed)
    cases = int(rng.integers(1, 30))
    before, after = rng.random((2, cases)) < rng.random()
    patients = rng.integers(0, rng.integers(1, 4), cases)
    found = drop_of_share(before, after, confidence, patients, relative=relative)
    assert -1 <= found.low <= found.value + 1e-6
    assert found.value - 1e-6 <= found.high <= 1
    assert found.p_value is None
    if found.odds is not None:
        for limit in (0.05, 0.3):
            assert all(0 <= chance <= 1 for chance in found.odds(4.0, limit))
