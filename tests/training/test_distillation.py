"""The losses of recovery training, by another route: scipy, scikit-learn, torch's own, and numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss

from optimize.errors import InputError
from optimize.training.distillation import Objective, divergence, objective, probability_distance, soft_dice


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_divergence_is_scipys_relative_entropy() -> None:
    ours, theirs = drawn(7, 5), drawn(7, 5, seed=1)
    expected = entropy(softmax(theirs.numpy() / 3, axis=1), softmax(ours.numpy() / 3, axis=1), axis=1).mean()
    assert divergence(ours, theirs, 3.0).item() == pytest.approx(expected, rel=1e-5)
    assert divergence(ours, ours, 3.0).item() == pytest.approx(0, abs=1e-6)


def test_divergence_by_hand_and_per_position() -> None:
    """Halves against a quarter and three quarters: ln 2 - ln 3 / 2 ... at one of two positions; none at the other."""
    aims = torch.zeros(1, 2, 2)
    ours = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])
    one = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence(ours, aims, 1.0).item() == pytest.approx(one / 2, rel=1e-5)


def test_classes_are_distilled_and_labelled_in_the_shares_asked_for() -> None:
    outputs, aims, labels = drawn(9, 4), drawn(9, 4, seed=1), torch.arange(9) % 4
    near = entropy(softmax(aims.numpy() / 2, axis=1), softmax(outputs.numpy() / 2, axis=1), axis=1).mean()
    fit = log_loss(labels.numpy(), softmax(outputs.numpy().astype(np.float64), axis=1), labels=range(4))
    found = objective((1, 4), labels.numpy(), 2.0, 0.7)(outputs, aims, labels)
    assert found.item() == pytest.approx(0.7 * 4 * near + 0.3 * fit, rel=1e-5)


def test_the_gradient_of_a_hot_distillation_does_not_depend_on_its_temperature() -> None:
    """For T far above all logits it tends to (z - t, each about its mean) / K (Hinton et al., section 2.1)."""
    outputs, aims = drawn(1, 6).requires_grad_(), drawn(1, 6, seed=1)
    centred = (outputs - outputs.mean()) - (aims - aims.mean())
    for temperature in (1e4, 1e5):
        outputs.grad = None
        torch.autograd.backward(Objective(temperature, 1.0, exclusive=True)(outputs.double(), aims.double(), torch.tensor([0])))
        assert outputs.grad is not None
        torch.testing.assert_close(outputs.grad, centred.detach() / 6, rtol=1e-2, atol=1e-3)


def test_dice_by_hand() -> None:
    """Two positions with p = 3/4 and 1/4 of which the first is true: 1 - (2 * 3/4 + 1) / (1 + 1 + 1). Then an empty item, found empty."""
    logit = math.log(3)
    logits = torch.tensor([[[0.0, 0.0], [logit, -logit]], [[0.0, 0.0], [-99.0, -99.0]]])
    labels = torch.tensor([[1, 0], [0, 0]])
    assert soft_dice(logits[:1], labels[:1]).item() == pytest.approx(1 - 2.5 / 3, rel=1e-5)
    assert soft_dice(logits, labels).item() == pytest.approx((1 - 2.5 / 3) / 2, rel=1e-5)


def test_dice_leaves_the_background_out_and_averages_classes() -> None:
    logits, labels = drawn(2, 3, 4, 4), torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 4, 4)))
    p = softmax(logits.numpy(), axis=1)
    each = []
    for item in range(2):
        for number in (1, 2):
            true = labels[item].numpy() == number
            each.append(1 - (2 * p[item, number][true].sum() + 1) / (p[item, number].sum() + true.sum() + 1))
    assert soft_dice(logits, labels).item() == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 2, 4, 4)], ids=["one output", "masks that may overlap"])
def test_outputs_judged_by_themselves_are_sigmoids(shape: tuple[int, ...]) -> None:
    outputs, aims = drawn(*shape), drawn(*shape, seed=1)
    truth = torch.from_numpy(np.random.default_rng(0).integers(0, 2, shape))
    labels = truth[:, 0] if shape[1] == 1 else truth
    p, q = expit(aims.numpy() / 2), expit(outputs.numpy() / 2)
    near = entropy([p, 1 - p], [q, 1 - q], axis=0).mean()
    fit = torch.nn.functional.binary_cross_entropy_with_logits(outputs, truth.float()).item()
    found, true = expit(outputs.numpy()), truth.numpy()
    overlap = (2 * (found * true).sum((2, 3)) + 1) / (found.sum((2, 3)) + true.sum((2, 3)) + 1)
    wanted = expit(aims.numpy())
    far = (np.abs(found - wanted).sum((2, 3)) / (found.sum((2, 3)) + wanted.sum((2, 3)) + 1)).mean()
    loss = objective((1, *shape[1:]), labels.numpy(), 2.0, 0.9)
    assert not loss.exclusive
    assert loss(outputs, aims, labels).item() == pytest.approx(0.9 * (4 * near + far) + 0.1 * (fit + (1 - overlap).mean()), rel=1e-5)


def test_masks_of_classes_are_a_softmax_at_every_position() -> None:
    outputs, aims = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 4, 4)))
    rows, truth = outputs.movedim(1, -1).reshape(-1, 3), labels.flatten()
    near = entropy(softmax(aims.movedim(1, -1).reshape(-1, 3).numpy(), axis=1), softmax(rows.numpy(), axis=1), axis=1).mean()
    fit = torch.nn.functional.cross_entropy(rows, truth).item() + soft_dice(outputs, labels).item()
    found = objective((1, 3, 4, 4), labels.numpy(), 1.0, 0.5)(outputs, aims, labels)
    assert found.item() == pytest.approx(0.5 * (near + probability_distance(outputs, aims).item()) + 0.5 * fit, rel=1e-5)


def test_how_far_apart_masks_are_by_hand() -> None:
    """Foreground of 3/4 and 1/4 against 1/4 and 1/4: 1/2 of 1 + 1/2, and 1; an item that both find empty is no distance at all."""
    logit = math.log(3)
    ours = torch.tensor([[[0.0, 0.0], [logit, -logit]], [[0.0, 0.0], [-99.0, -99.0]]])
    theirs = torch.tensor([[[0.0, 0.0], [-logit, -logit]], [[0.0, 0.0], [-99.0, -99.0]]])
    assert probability_distance(ours[:1], theirs[:1]).item() == pytest.approx(0.5 / 2.5, rel=1e-5)
    assert probability_distance(ours, theirs).item() == pytest.approx(0.5 / 2.5 / 2, rel=1e-5)
    assert probability_distance(theirs, theirs).item() == 0


def test_of_answers_that_are_sure_it_is_what_dice_is_of_labels() -> None:
    logits, labels = drawn(2, 3, 4, 4), torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 4, 4)))
    sure = 200.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    assert probability_distance(logits, sure).item() == pytest.approx(soft_dice(logits, labels).item(), rel=1e-4)


def test_where_little_is_foreground_finding_nothing_is_far_from_the_original() -> None:
    """One position in a hundred: means over positions hardly see it."""
    aims = torch.full((1, 2, 400), 0.0)
    aims[:, 1] = -9.0
    aims[:, 1, :4] = 9.0
    nothing = torch.full((1, 2, 400), 0.0)
    nothing[:, 1] = -9.0
    assert divergence(nothing, aims, 1.0).item() < 0.1
    assert probability_distance(nothing, aims).item() > 0.75


@pytest.mark.parametrize(
    ("shape", "labels", "words"),
    [
        ((1, 4), np.zeros((5, 3), np.int64), r"`labels` of shape \(5, 3\) do not fit .* \(1, 4\): they must be \(N\) or \(N, 4\)\."),
        ((1, 1, 8, 8), np.zeros((5, 4, 8), np.int64), r"they must be \(N, 8, 8\) or \(N, 1, 8, 8\)\."),
        ((1, 4), np.array([0, 4]), r"`labels` are int64 \(0 to 4\): for these outputs they must be whole numbers from 0 to 3\."),
        ((1, 4), np.array([-1, 2]), "from 0 to 3"),
        ((1, 4), np.array([0.5, 2]), "are float64"),
        ((1, 1, 2), np.array([[0, 255]], np.uint8), r"uint8 \(0 to 255\): .* from 0 to 1\."),
        ((1, 2, 2), np.full((1, 2, 2), 2), "from 0 to 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(shape: tuple[int, ...], labels: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        objective(shape, labels, 2.0, 0.9)
