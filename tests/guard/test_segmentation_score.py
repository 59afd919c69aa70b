"""Dice against scikit-learn's F1 of one patient's pixels, and by hand where a patient has nothing to show."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from optimize.data.masks import perfect, predicted
from optimize.guard.limits import Limits
from optimize.guard.segmentation_score import ClassDice, SegmentationScore, score_masks
from optimize.guard.verdict import accept_proposal, judge

A, B = ("a",), ("a", "b")


def batches(outputs: np.ndarray, masks: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((outputs[start : start + size], masks[start : start + size]) for start in range(0, len(masks), size))


def rows(*marked: str) -> np.ndarray:
    """One image per text, one mask of one row each: 'x' is marked; bool (N, 1, pixels)."""
    return np.array([[[pixel == "x" for pixel in each]] for each in marked])


def said(masks: np.ndarray) -> np.ndarray:
    return np.where(masks, 3.0, -2.0).astype(np.float32)


def of_rows(predicted: tuple[str, ...], true: tuple[str, ...], patients: list[str] | None = None) -> SegmentationScore:
    return score_masks([(said(rows(*predicted)), rows(*true))], A, None if patients is None else np.array(patients))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 9), st.booleans(), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_like_sklearn_on_the_pixels_of_each_patient(classes: int, images: int, indices: bool, size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    names, patients = "abcd"[:classes], draw.integers(3, size=images)
    outputs = draw.standard_normal((images, classes + indices, 3, 5)).astype(np.float32)
    masks = draw.integers(classes + 1, size=(images, 3, 5)) if indices else draw.random((images, classes, 3, 5)) < 0.4
    found = score_masks(batches(outputs, masks, size), names, patients)
    expected = np.full((len(np.unique(patients)), classes), np.nan)
    for row, patient in enumerate(np.unique(patients)):
        mine = patients == patient
        for k in range(classes):
            true = (masks[mine] == k + 1 if indices else masks[mine][:, k]).ravel()
            guess = (outputs[mine].argmax(1) == k + 1 if indices else outputs[mine][:, k] > 0).ravel()
            if true.any() or guess.any():
                expected[row, k] = f1_score(true, guess, zero_division=0.0)
    np.testing.assert_allclose(found.per_patient, expected)
    means = [float(np.mean(column[~np.isnan(column)])) for column in expected.T if not np.isnan(column).all()]
    assert list(found.figures.values()) == pytest.approx(means)
    assert found.overall == pytest.approx(np.mean(means) if means else 0.0)


def test_by_hand() -> None:
    found = of_rows(("xx..", "x...", ".xxx"), ("xxx.", "....", "..xx"), ["p", "p", "q"])
    # p: 2 of 3 + 3 pixels in both masks; q: 2 of 3 + 2
    np.testing.assert_allclose(found.per_patient, [[2 * 2 / (3 + 3)], [2 * 2 / (3 + 2)]])
    assert found.per_class == {"a": ClassDice(2, pytest.approx((2 / 3 + 4 / 5) / 2))}
    assert found.overall == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_without_patients_each_image_is_its_own() -> None:
    found = of_rows(("xx..", "x..."), ("xx..", "xx.."))
    np.testing.assert_allclose(found.per_patient, [[1], [2 / 3]])


def test_a_healthy_patient_left_alone_says_nothing_and_one_given_something_counts_0() -> None:
    true = ("xx..", "....", "....")
    left_alone, given_one = of_rows(("xx..", "....", "...."), true), of_rows(("xx..", "x...", "...."), true)
    assert left_alone.per_class == {"a": ClassDice(1, 1.0)}
    assert given_one.per_class == {"a": ClassDice(2, 0.5)}
    assert of_rows(("....",), ("xx..",)).per_class == {"a": ClassDice(1, 0.0)}


def test_where_no_patient_says_anything_there_is_no_figure_and_no_nan() -> None:
    nothing = of_rows(("....", "...."), ("....", "...."))
    whole, rest = nothing.as_dict(nothing), {"per_group": {}, "confusion": None}
    assert whole == {"overall": {"dice": 0.0, "agreement": 1.0}, "per_class": {"a": {"patients": 0, "dice": None}}, **rest}
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("indices", [True, False])
def test_an_image_that_is_not_finite_counts_as_if_every_pixel_were_wrong(broken: float, indices: bool) -> None:
    draw = np.random.default_rng(0)
    masks = draw.integers(3, size=(4, 6, 6)) if indices else draw.random((4, 2, 6, 6)) < 0.3
    outputs = perfect(masks, 2)
    outputs[1, 0, 2, 2] = broken
    found = score_masks(batches(outputs, masks, 3), B, np.array([0, 0, 1, 1]))
    for k in range(2):
        truth = masks == k + 1 if indices else masks[:, k]
        right, wrong = truth[0].sum(), 36 - truth[1].sum()
        assert found.per_patient[0, k] == pytest.approx(2 * right / (truth[:2].sum() + right + wrong))
        assert found.per_patient[1, k] == 1.0


def test_agreement_is_dice_with_the_originals_masks_for_true_ones() -> None:
    draw = np.random.default_rng(3)
    for masks, outputs in (
        (draw.random((7, 2, 5, 5)) < 0.4, draw.standard_normal((2, 7, 2, 5, 5)).astype(np.float32)),
        (draw.integers(3, size=(7, 5, 5)), draw.standard_normal((2, 7, 3, 5, 5)).astype(np.float32)),
    ):
        patients = np.array([0, 0, 1, 1, 1, 2, 2])
        before, after = (score_masks(batches(each, masks, 2), B, patients) for each in outputs)
        expected = score_masks([(outputs[1], predicted(outputs[0], masks))], B, patients) if masks.dtype == bool else None
        if expected is None:
            marked = predicted(outputs[0], masks)
            expected = score_masks([(outputs[1], marked[:, 0] + 2 * marked[:, 1])], B, patients)
        assert after.agreement(before) == pytest.approx(expected.overall)
        assert before.agreement(before) == 1.0
        assert after.as_dict(before)["overall"]["agreement"] == after.agreement(before)
        assert after.as_dict()["overall"]["agreement"] == 1.0


def test_what_is_not_finite_agrees_with_nothing() -> None:
    broken = np.full((2, 1, 4), np.nan, dtype=np.float32)
    before, after = of_rows(("xx..", "...."), ("..xx", "....")), score_masks([(broken, rows("..xx", "...."))], A)
    assert after.agreement(before) == 0.0
    assert after.overall == 0.0


def test_nothing_of_the_outputs_is_kept_but_a_bit_for_each_pixel() -> None:
    masks = np.random.default_rng(0).random((3, 2, 8, 8)) < 0.5
    found = score_masks(batches(said(masks), masks, 2), B)
    assert found.masks.nbytes == masks.size // 8
    assert np.array_equal(np.unpackbits(found.masks, axis=-1).reshape(masks.shape), masks)


def test_the_search_asks_for_an_agreement_that_chance_does_not_explain() -> None:
    """Six patients who agree by one, by five sixths and by two thirds; Student's interval is scipy's."""
    true, patients = ("xx......", "xxxxxx..", "xx......") * 2, list("pqrstu")
    before, after = of_rows(true, true, patients), of_rows(("xx......", "xxxxx..x", "x.......") * 2, true, patients)
    each = [1.0, 5 / 6, 2 / 3] * 2
    low = stats.t.interval(0.8, 5, np.mean(each), stats.sem(each))[0]
    assert accept_proposal(Limits(1.0, 1.0, min_agreement=low - 1e-6), before, after)
    stricter = Limits(1.0, 1.0, min_agreement=low + 1e-6, verdict="point")
    refused = accept_proposal(stricter, before, after)
    assert refused.outcome == "fail"
    assert refused.reasons[0].endswith(f"; the true value may be {100 * (np.mean(each) - low):.4g} pp lower by chance")
    assert judge(stricter, before, after)
    assert not accept_proposal(Limits(1.0, 1.0, min_agreement=0.9), before, after)
    assert "chance" not in accept_proposal(Limits(1.0, 1.0, min_agreement=0.9), before, after).reasons[0]
