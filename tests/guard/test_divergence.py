"""Divergence against scipy's relative entropy, and numbers worked out by hand."""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, softmax
from scipy.stats import entropy

from optimize.guard.divergence import divergence, log_shares

Floats = npt.NDArray[np.float32]


def drawn(seed: int, *shape: int) -> Floats:
    return (2 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def moved(original: Floats, model: Floats) -> float:
    return divergence([(log_shares(original), log_shares(model))])


def balanced(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """By scipy, from shares: (rows, classes)."""
    said = p.argmax(1)
    return float(np.mean([entropy(p[said == k].T, q[said == k].T).mean() for k in np.unique(said)]))


def test_classes_agree_with_scipy() -> None:
    original, model = drawn(0, 200, 5), drawn(1, 200, 5)
    p, q = (softmax(each.astype(np.float64), axis=1) for each in (original, model))
    assert moved(original, model) == pytest.approx(balanced(p, q), rel=1e-5)


def test_one_output_is_a_sigmoid() -> None:
    original, model = drawn(2, 100, 1), drawn(3, 100, 1)
    p, q = (np.column_stack([1 - expit(each), expit(each)]).astype(np.float64) for each in (original, model))
    assert moved(original, model) == pytest.approx(balanced(p, q), rel=1e-4)


@pytest.mark.parametrize("spatial", [(6, 7), (3, 4, 5)])
def test_every_pixel_of_a_mask_is_a_row(spatial: tuple[int, ...]) -> None:
    original, model = drawn(4, 3, 4, *spatial), drawn(5, 3, 4, *spatial)
    rows = [np.stack([each[:, k].ravel() for k in range(4)], axis=1).astype(np.float64) for each in (original, model)]
    p, q = (softmax(each, axis=1) for each in rows)
    assert log_shares(original).shape == (3 * np.prod(spatial), 4)
    np.testing.assert_allclose(np.exp(log_shares(original)), p, rtol=1e-5)
    assert moved(original, model) == pytest.approx(balanced(p, q), rel=1e-5)


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    """Nine cases of the first class stay where they are; the one of the second goes from 3/4 to 1/2."""
    original = np.log(np.array([[3, 1]] * 9 + [[1, 3]], dtype=np.float32))
    model = np.log(np.array([[3, 1]] * 9 + [[1, 1]], dtype=np.float32))
    one = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert moved(original, model) == pytest.approx(one / 2, rel=1e-5)


def test_classes_are_those_that_the_original_says() -> None:
    """KL is not symmetric, and neither is who decides the class."""
    original, model = np.log(np.array([[3, 1], [3, 1]], np.float32)), np.log(np.array([[1, 3], [3, 1]], np.float32))
    assert moved(original, model) == pytest.approx((0.75 - 0.25) * log(3) / 2, rel=1e-5)


def test_batches_do_not_matter() -> None:
    original, model = log_shares(drawn(6, 50, 3)), log_shares(drawn(7, 50, 3))
    parts = [(original[some], model[some]) for some in (slice(0, 7), slice(7, 30), slice(30, 50))]
    assert divergence(parts) == pytest.approx(divergence([(original, model)]), rel=1e-12)


def test_nothing_moved_and_nothing_seen_are_no_harm() -> None:
    original = drawn(8, 20, 4)
    assert moved(original, original.copy()) == 0.0
    assert moved(original, original + 3) == pytest.approx(0.0, abs=1e-6)
    assert divergence([]) == 0.0


def test_outputs_that_are_no_numbers_are_harm_and_no_accident() -> None:
    """A broken network must not look unharmed, nor make the sum over groups NaN."""
    original = np.array([[5, 0], [0, 5]], np.float32)
    broken = np.full((2, 2), np.nan, np.float32)
    q = softmax(np.zeros((2, 2)), axis=1)
    assert moved(original, broken) == pytest.approx(balanced(softmax(original.astype(np.float64), axis=1), q), rel=1e-5)
    endless = np.array([[np.inf, 0], [-np.inf, 0]], np.float32)
    assert np.isfinite(log_shares(endless[:1])[0, 0])
    assert np.isfinite(moved(original, broken))
