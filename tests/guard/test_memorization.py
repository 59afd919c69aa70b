"""Whether a guard split was learned by heart: against the binomial distribution, and figures made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.memorization import ALPHA, memorization_warning
from optimize.guard.segmentation_score import SegmentationScore
from tests.guard.made import said, two


def of(right: int, cases: int, patients: int | None = None) -> ClassificationScore:
    labels = np.arange(cases) % 2
    decided = np.where(np.arange(cases) < right, labels, 1 - labels)
    return answers(said(decided, 2), labels, "ab", None if patients is None else np.arange(cases) * patients // cases)


def dice(shares: np.ndarray) -> SegmentationScore:
    """Patients with a hundred true pixels each, of which a share is found."""
    both = np.round(100 * shares)[:, None].astype(np.int64)
    count = len(shares)
    whole = np.full((count, 1), 100)
    masks = np.zeros((count, 1, 25), dtype=np.uint8)
    return SegmentationScore(both, whole, whole, masks, np.ones(count, dtype=bool), np.arange(count), ("tumour",))


def test_it_speaks_where_two_shares_differ_by_more_than_chance() -> None:
    told = memorization_warning(of(1713, 2000), of(2430, 3000))
    assert told is not None
    assert told.startswith("the original reaches 85.65 % on the guard split and 81.00 % on the test split: it may have been trained")


@pytest.mark.parametrize("right", [1620, 1650, 1660, 1670, 1680])
def test_the_bound_is_that_of_two_shares(right: int) -> None:
    one, other = right / 2000, 0.81
    z = (one - other) / np.sqrt(one * (1 - one) / 1999 + other * (1 - other) / 2999)
    assert (memorization_warning(of(right, 2000), of(2430, 3000)) is not None) == (norm.sf(z) < ALPHA)


def test_better_on_test_is_no_reason_to_speak() -> None:
    assert memorization_warning(of(2430, 3000), of(1713, 2000)) is None


def test_alike_cases_of_few_patients_prove_little() -> None:
    assert memorization_warning(of(190, 200), of(160, 200)) is not None
    assert memorization_warning(of(190, 200, patients=10), of(160, 200, patients=10)) is None


def test_masks_are_compared_by_patient() -> None:
    spread = np.linspace(-0.05, 0.05, 12)
    assert memorization_warning(dice(0.9 + spread), dice(0.75 + spread)) is not None
    assert memorization_warning(dice(0.9 + spread), dice(0.88 + spread)) is None


def test_too_few_or_all_alike_say_nothing() -> None:
    assert memorization_warning(dice(np.full(4, 0.9)), dice(np.full(40, 0.1))) is None
    assert memorization_warning(two((100, 100)), two((100, 100))) is None


def test_a_guard_on_which_all_is_right_is_compared_too() -> None:
    assert memorization_warning(two((100, 100)), two((80, 80))) is not None
    assert memorization_warning(two((100, 100)), two((99, 99))) is None
