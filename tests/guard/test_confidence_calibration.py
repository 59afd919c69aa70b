"""Calibration error and operating points, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.guard.confidence_calibration import BINS, expected_calibration_error, operating_point, reliability


def test_by_hand() -> None:
    """Two bins: 0.9 with three of four right, 0.55 with one of two."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.55, 0.55])
    right = np.array([1, 1, 1, 0, 1, 0], dtype=bool)
    assert expected_calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.05)
    whole = reliability(confidence, right)
    filled = [each for each in whole["bins"] if each["cases"]]
    assert len(whole["bins"]) == BINS
    assert [(each["cases"], each["accuracy"]) for each in filled] == [(2, 0.5), (4, 0.75)]
    assert all(each["low"] < each["confidence"] <= each["high"] for each in filled)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_like_a_loop_over_the_bins(cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(cases), rng.random(cases) < 0.6
    total = 0.0
    for low in range(BINS):
        inside = (confidence > low / BINS) & (confidence <= (low + 1) / BINS)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(total, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_restoring_threshold_is_the_largest_that_finds_as_many(positive: int, others: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.arange(positive + others) < positive
    before, after = (np.round(rng.beta(2 + 2 * true, 2), 2) for _ in range(2))
    point = operating_point(before, after, true, 0.6)
    found = (before[true] >= 0.6).sum()
    assert point.sensitivity_before == found / positive
    assert point.specificity_before == (before[~true] < 0.6).mean()
    assert point.restoring_threshold is not None
    assert (after[true] >= point.restoring_threshold).sum() >= found
    assert (after[true] >= np.nextafter(point.restoring_threshold, 2)).sum() < max(found, 1)
    assert point.specificity_restored == (after[~true] < point.restoring_threshold).mean()


def test_without_a_positive_case_nothing_is_claimed() -> None:
    point = operating_point(np.array([0.2, 0.8]), np.array([0.1, 0.9]), np.zeros(2, dtype=bool))
    assert (point.sensitivity_before, point.restoring_threshold, point.specificity_restored) == (None, None, None)
    assert point.specificity_after == 0.5
