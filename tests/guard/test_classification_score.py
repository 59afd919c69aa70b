"""Scores against scikit-learn, and by hand where there is nothing to divide by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from optimize.guard.classification_score import ClassScore, answers
from tests.guard.made import said

LETTERS = "abcdef"


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_like_sklearn(count: int, cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # all below zero: a few positive logits that happen to sum to 1 would rightly be taken for shares
    labels, outputs = rng.integers(count, size=cases), (rng.standard_normal((cases, count)) - 10).astype(np.float32)
    decided, order = outputs.argmax(1), np.arange(count)
    found = answers(outputs, labels, LETTERS[:count])
    precision, recall, f1, support = precision_recall_fscore_support(labels, decided, labels=order, zero_division=0)
    each = list(found.per_class.values())
    assert found.confusion.tolist() == confusion_matrix(labels, decided, labels=order).tolist()
    assert found.accuracy == pytest.approx(accuracy_score(labels, decided))
    np.testing.assert_allclose([one.precision for one in each], precision)
    np.testing.assert_allclose([one.recall for one in each], recall)
    np.testing.assert_allclose([one.f1 for one in each], f1)
    assert [one.cases for one in each] == support.tolist()
    assert found.as_dict()["overall"]["macro_f1"] == pytest.approx(np.mean(f1[support > 0]))
    known = [roc_auc_score(labels == k, found.probabilities[:, k]) for k in order if 0 < support[k] < cases]
    assert found.auc == (pytest.approx(np.mean(known)) if known else None)
    np.testing.assert_allclose(found.probabilities, torch.softmax(torch.from_numpy(outputs), 1).numpy(), rtol=1e-4, atol=1e-6)


def test_by_hand() -> None:
    found = answers(said(np.array([0, 0, 1, 1, 1]), 3), np.array([0, 0, 0, 1, 1]), ("a", "b", "c"))
    assert found.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert (len(found), found.correct.sum(), found.accuracy) == (5, 4, 0.8)
    assert found.per_class["a"] == ClassScore(cases=3, recall=2 / 3, precision=1.0, f1=0.8)
    assert found.per_class["b"] == ClassScore(cases=2, recall=1.0, precision=2 / 3, f1=0.8)
    assert found.per_class["c"] == ClassScore(cases=0, recall=0.0, precision=0.0, f1=0.0)
    assert list(found.as_dict()["per_class"]) == ["a", "b", "c"]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong_even_where_it_would_win(broken: float) -> None:
    labels = np.array([0, 1, 2, 0])
    outputs = said(labels, 3)
    outputs[:3] = [[broken, 0, 0], [0, 1, broken], [broken, broken, broken]]
    found = answers(outputs, labels, ("a", "b", "c"))
    assert found.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_the_dict_is_plain_data() -> None:
    whole = answers(said(np.array([0, 1]), 2), np.array([0, 1]), ("a", "b")).as_dict()
    assert type(whole["confusion"][0][0]) is int
    assert type(whole["per_class"]["a"]["cases"]) is int
    assert type(whole["per_class"]["a"]["f1"]) is float


def test_outputs_that_are_shares_are_taken_as_they_are() -> None:
    shares = np.array([[0.7, 0.3], [0.01, 0.99], [1.0, 0.0]], dtype=np.float32)
    labels = np.array([0, 1, 0])
    np.testing.assert_allclose(answers(shares, labels, "ab").probabilities, shares, atol=1e-6)
    np.testing.assert_allclose(answers(shares * 1.02, labels, "ab").probabilities, shares, atol=1e-6)  # rounding by int8
    logits = np.log(np.maximum(shares, 1e-9)) + 3
    np.testing.assert_allclose(answers(logits, labels, "ab").probabilities, shares, atol=1e-6)


def test_subgroups_are_taken_apart() -> None:
    labels, decided = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 1, 0])
    found = answers(said(decided, 2), labels, "ab", np.array(["p", "q", "p", "r", "r"]), {"site": np.array(["y", "x", "y", "x", "x"])})
    assert [name for name, _ in found.parts("site")] == ["x", "y"]
    assert found.as_dict()["per_group"] == {"site": {"x": {"cases": 3, "accuracy": 2 / 3}, "y": {"cases": 2, "accuracy": 0.5}}}
    part = dict(found.parts("site"))["x"]
    assert part.patients is not None
    assert (part.labels.tolist(), part.patients.tolist(), part.confusion.tolist()) == ([1, 1, 1], [0, 1, 1], [[0, 0], [1, 2]])
