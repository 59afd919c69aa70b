"""Areas against scikit-learn's, their spread against fresh samples and a jackknife."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from optimize.guard.roc import auc_drop, macro_auc, placements


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_placements_are_shares_of_the_other_kind(positive: int, others: int, seed: int) -> None:
    true = np.arange(positive + others) < positive
    scores = np.random.default_rng(seed).integers(0, 6, len(true)) / 10
    found = placements(scores, true)
    by_hand = [
        np.mean([(score > other) + (score == other) / 2 for other in scores[~true]])
        if own
        else np.mean([(score < other) + (score == other) / 2 for other in scores[true]])
        for score, own in zip(scores, true, strict=True)
    ]
    np.testing.assert_allclose(found, by_hand)
    assert found[true].mean() == pytest.approx(found[~true].mean()) == pytest.approx(roc_auc_score(true, scores))


def sides(cases: int, seed: int, gap: float = 1.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of two correlated models, three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(cases) % 3)
    logits = gap * np.eye(3)[labels] + rng.standard_normal((cases, 3))
    other = logits + 0.5 * rng.standard_normal((cases, 3))
    return *(np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (logits, other)), labels


def test_the_bound_is_that_of_a_jackknife() -> None:
    before, after, labels = sides(240, 0)
    found, old, new = auc_drop(before, after, labels, 0.95)
    area = [np.mean([roc_auc_score(labels == k, each[:, k]) for k in range(3)]) for each in (before, after)]
    assert (old, new, found.value) == pytest.approx((area[0], area[1], area[0] - area[1]))
    without = []
    for case in range(240):
        left = np.arange(240) != case
        without.append(macro_auc(before[left], labels[left]) - macro_auc(after[left], labels[left]))
    error = np.sqrt(239 / 240 * ((np.array(without) - np.mean(without)) ** 2).sum())
    usual = found.for_search
    narrower, wider = sorted((usual.high - found.value, found.value - usual.low))  # skewed: one side is wider
    assert (found.low, found.high > usual.high) == (usual.low, True)
    assert narrower == pytest.approx(stats.t.ppf(0.95, 239) * error, rel=0.03)
    assert narrower <= wider < 1.1 * narrower


def test_the_cases_of_a_patient_are_added_up() -> None:
    """Every case three times, under one patient: nothing more is known than from each once."""
    before, after, labels = sides(90, 1)
    rows = np.repeat(np.arange(90), 3)
    once, _, _ = auc_drop(before, after, labels, 0.95)
    thrice, _, _ = auc_drop(before[rows], after[rows], labels[rows], 0.95, rows)
    alone, _, _ = auc_drop(before[rows], after[rows], labels[rows], 0.95)
    assert (thrice.high, thrice.usual) == (pytest.approx(once.high, abs=1e-6), pytest.approx(once.usual, abs=1e-6))
    assert alone.usual[1] < once.usual[1]
    assert alone.high < once.high
    assert (thrice.n, thrice.unit) == (90, "patients")


def test_a_share_of_the_originals_area() -> None:
    before, after, labels = sides(240, 2)
    found, old, new = auc_drop(before, after, labels, 0.95, share=0.1)
    without = []
    for case in range(240):
        left = np.arange(240) != case
        without.append(0.9 * macro_auc(before[left], labels[left]) - macro_auc(after[left], labels[left]))
    error = np.sqrt(239 / 240 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert found.value == pytest.approx(old - new)
    found = found.for_search
    assert min(found.high - found.value, found.value - found.low) == pytest.approx(stats.t.ppf(0.95, 239) * error, rel=0.03)


@pytest.mark.parametrize(("cases", "decided"), [(12, False), (90, False), (130, True)])
def test_a_dozen_told_apart_without_a_mistake_are_not_beyond_doubt(cases: int, decided: bool) -> None:
    labels = np.repeat([0, 1], [cases, 500])
    shares = np.eye(2)[labels]
    found, old, new = auc_drop(shares, shares, labels, 0.95)
    assert old == new == 1.0
    hidden = stats.binomtest(0, cases).proportion_ci(0.9, method="exact").high
    assert found.high == pytest.approx(hidden, rel=0.2)  # one of them may lie behind all others
    assert found.high > hidden
    assert (found.high < 0.03) == decided


def test_without_two_kinds_of_cases_there_is_no_area() -> None:
    shares, labels = np.eye(2)[[0, 0, 0]], np.zeros(3, dtype=np.int64)
    assert macro_auc(shares, labels) is None
    found, _, _ = auc_drop(shares, shares, labels, 0.95)
    assert (found.n, found.odds) == (0, None)
