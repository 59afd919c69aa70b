"""What outputs mean, by their values; the softmax and the sigmoid themselves are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from optimize.data.masks import predicted
from optimize.data.output_meaning import logits, meaning
from optimize.guard.divergence import log_shares

DRAW = np.random.default_rng(0)
CLASSES = DRAW.normal(0, 3, (20, 5)).astype(np.float32)
MASKS = DRAW.normal(0, 3, (4, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (CLASSES, "logits"),
        (softmax(CLASSES, axis=1), "probabilities"),
        (expit(CLASSES), "logits"),  # classes that are judged one by one do not sum to 1
        (MASKS, "logits"),
        (expit(MASKS), "probabilities"),
        (softmax(MASKS, axis=1), "probabilities"),
        (np.tanh(MASKS), "logits"),
        (np.full((2, 1, 3, 3), np.nan, np.float32), "logits"),
        (np.where(MASKS > 4, np.nan, expit(MASKS)), "probabilities"),
    ],
)
def test_values_show_the_meaning(outputs: np.ndarray, expected: str) -> None:
    assert meaning(np.asarray(outputs, dtype=np.float32)) == expected


def test_logits_of_probabilities_give_the_probabilities_back() -> None:
    shares = torch.from_numpy(softmax(CLASSES, axis=1))
    assert torch.allclose(torch.softmax(logits(shares, "probabilities", exclusive=True), 1), shares, atol=1e-6)
    single = torch.from_numpy(expit(MASKS))
    assert torch.allclose(logits(single, "probabilities", exclusive=False).sigmoid(), single, atol=1e-6)
    assert logits(shares, "logits", exclusive=True) is shares


def test_certain_probabilities_stay_finite() -> None:
    assert logits(torch.tensor([[0.0, 1.0]]), "probabilities", exclusive=True).isfinite().all()
    assert logits(torch.tensor([[[0.0, 1.0]]]), "probabilities", exclusive=False).isfinite().all()


def test_a_mask_is_cut_where_its_logit_would_be() -> None:
    form = np.zeros((4, 2, 6, 6), dtype=bool)
    assert np.array_equal(predicted(expit(MASKS), form, "probabilities"), predicted(MASKS, form))
    assert predicted(expit(MASKS), form).all(), "cut at 0, everything would be foreground"


def test_the_divergence_is_of_the_answers_whatever_form_they_have() -> None:
    assert np.allclose(log_shares(softmax(CLASSES, axis=1), "probabilities"), log_shares(CLASSES), atol=1e-4)
    assert np.allclose(log_shares(expit(MASKS[:, :1]), "probabilities"), log_shares(MASKS[:, :1]), atol=1e-4)
