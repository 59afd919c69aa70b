from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.data.calibration_sampling import LEAST_UNSEEN, MIN_INPUTS, _tally, unlabelled
from optimize.data.dataset import Preprocessing, Split


def the_input_is_the_logits() -> Candidate:
    return Candidate(nn.Flatten().eval(), torch.zeros(1, 3, 1))


def split(logits: np.ndarray) -> Split:
    labels = np.zeros(len(logits), dtype=np.int64)
    return Split("train", logits.astype(np.float32)[:, :, None], labels, Preprocessing())


def picked_classes(logits: np.ndarray) -> np.ndarray:
    chosen = unlabelled(the_input_is_the_logits(), [split(logits)], seed=0).fitted
    return np.bincount(chosen[:, :, 0].argmax(1), minlength=3)


def one_hot(classes: np.ndarray, lead: float = 4.0) -> np.ndarray:
    return lead * np.eye(3)[classes]


def test_few_inputs_are_all_taken_in_order() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 3))
    parts = [split(logits[:25]), split(logits[25:])]
    chosen = unlabelled(the_input_is_the_logits(), parts, seed=0).fitted
    assert np.array_equal(chosen[:, :, 0], logits.astype(np.float32))


def test_rare_classes_are_drawn_more_often_than_they_occur(monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    classes = np.repeat([0, 1, 2], [900, 90, 10])
    counts = picked_classes(one_hot(classes))
    assert counts.sum() == MIN_INPUTS
    # proportional drawing would take about 230, 23 and 3
    assert counts[2] >= 6
    assert counts[1] > 60


def test_uncertain_inputs_are_drawn_more_often(monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    classes = np.arange(1000) % 3
    sure = np.arange(1000) % 2 == 0
    logits = np.where(sure[:, None], one_hot(classes, 20.0), one_hot(classes, 0.5))
    chosen = unlabelled(the_input_is_the_logits(), [split(logits)], seed=0).fitted[:, :, 0]
    assert (chosen.max(1) < 1).mean() > 0.75


def test_nothing_is_taken_twice_and_the_seed_decides(monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    logits = np.random.default_rng(1).normal(size=(900, 3))
    first, again, other = (unlabelled(the_input_is_the_logits(), [split(logits)], seed).fitted for seed in (3, 3, 4))
    assert len(np.unique(first[:, :, 0], axis=0)) == len(first) == MIN_INPUTS
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_outputs_that_are_not_numbers_do_no_harm() -> None:
    logits = np.random.default_rng(2).normal(size=(30, 3))
    logits[3] = np.inf
    assert len(unlabelled(the_input_is_the_logits(), [split(logits)], seed=0).fitted) == 30


def masks_from_logits(classes: int) -> Candidate:
    """The image is the logits."""
    return Candidate(nn.Identity().eval(), torch.zeros(1, classes, 4, 4))


def scans(logits: np.ndarray, masks: np.ndarray) -> Split:
    return Split("train", logits.astype(np.float32), masks, Preprocessing())


@pytest.mark.parametrize("form", ["one mask per output", "class indices"])
def test_images_that_show_the_rare_foreground_are_drawn_more_often(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1000 images 20 show anything; no true mask says which."""
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    shows = np.arange(1000) % 50 == 0
    logits = np.full((1000, 1, 4, 4), -3.0)
    logits[shows, :, 1:3, 1:3] = 3.0
    blank = np.zeros((1000, 1, 4, 4), dtype=bool)
    if form == "class indices":
        logits, blank = np.concatenate([np.zeros_like(logits), logits], axis=1), blank[:, 0].astype(np.uint8)
    chosen = unlabelled(masks_from_logits(logits.shape[1]), [scans(logits, blank)], seed=0).fitted
    assert len(chosen) == MIN_INPUTS
    # drawn in proportion it would be about five
    assert (chosen[:, -1] > 0).any((1, 2)).sum() >= 19


def test_a_chance_is_the_sum_over_the_pixels() -> None:
    draw = np.random.default_rng(0)
    outputs = draw.normal(size=(5, 3, 2, 2)).astype(np.float32)
    counts, weights = _tally(outputs, masks=False)
    for case in range(5):
        for k in range(3):
            mine = outputs[case].argmax(0) == k
            two = np.sort(outputs[case], axis=0)[-2:]
            assert counts[case, k] == mine.sum()
            assert weights[case, k] == pytest.approx((1 / (1 + two[1] - two[0]))[mine].sum())
    # a single logit stands against the background's 0
    counts, weights = _tally(np.array([[[2.0, -1.0, -4.0]]], dtype=np.float32), masks=True)
    assert counts.tolist() == [[2, 1]]
    np.testing.assert_allclose(weights, [[1 / 2 + 1 / 5, 1 / 3]])


def test_the_pool_is_looked_at_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.data.split.PIXELS_AT_ONCE", 16 * 7)
    sizes: list[int] = []
    monkeypatch.setattr(Candidate, "predict", lambda self, inputs: sizes.append(len(inputs)) or inputs)
    logits = np.random.default_rng(0).normal(size=(40, 1, 4, 4))
    unlabelled(masks_from_logits(1), [scans(logits, np.zeros((40, 1, 4, 4), dtype=bool))], seed=0)
    assert sizes == [7, 7, 7, 7, 7, 5]


@pytest.mark.parametrize(("rare", "evaluated"), [(2, 2 * MIN_INPUTS), (25, 4 * MIN_INPUTS)])
def test_no_more_are_evaluated_than_are_needed(rare: int, evaluated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the inputs are of the second class, or one in 25, which is less than its share of those to choose."""
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    predict, seen = Candidate.predict, []
    monkeypatch.setattr(Candidate, "predict", lambda self, inputs: seen.append(len(inputs)) or predict(self, inputs))
    logits = one_hot((np.arange(3000) % rare == 0).astype(int)) + 0.1 * np.random.default_rng(0).random((3000, 3))
    assert len(unlabelled(the_input_is_the_logits(), [split(logits)], seed=0).fitted) == MIN_INPUTS
    assert sum(seen) == evaluated


def test_what_is_left_is_drawn_alike_and_never_fitted_on(monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    classes = np.repeat([0, 1, 2], [900, 90, 10])
    logits = one_hot(classes) + 0.1 * np.random.default_rng(0).random((1000, 3))
    fitted, unseen = unlabelled(the_input_is_the_logits(), [split(logits)], seed=0)
    assert unseen is not None
    assert (len(fitted), len(unseen)) == (MIN_INPUTS, MIN_INPUTS // 4)
    assert len(np.unique(np.concatenate([fitted, unseen])[:, :, 0], axis=0)) == len(fitted) + len(unseen)
    assert (unseen[:, :, 0].argmax(1) != 0).mean() > 0.2  # a tenth of them all


@pytest.mark.parametrize("count", [40, MIN_INPUTS, MIN_INPUTS + LEAST_UNSEEN - 1])
def test_where_little_is_left_nothing_is_held_back(count: int, monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    logits = np.random.default_rng(0).normal(size=(count, 3))
    fitted, unseen = unlabelled(the_input_is_the_logits(), [split(logits)], seed=0)
    assert (len(fitted), unseen) == (min(count, MIN_INPUTS), None)


def test_unseen_inputs_are_of_other_patients(monkeypatch) -> None:
    monkeypatch.setattr("optimize.data.calibration_sampling.MAX_INPUTS", MIN_INPUTS)
    patients = np.arange(600) // 8
    logits = np.random.default_rng(0).normal(size=(600, 3))
    logits[:, 0] = patients  # tells whose it is
    parts = [replace(split(logits[rows]), patients=patients[rows]) for rows in (slice(0, 300), slice(300, 600))]
    fitted, unseen = unlabelled(the_input_is_the_logits(), parts, seed=0)
    assert unseen is not None
    assert len(fitted) == MIN_INPUTS
    assert LEAST_UNSEEN <= len(unseen) <= MIN_INPUTS // 4
    assert len(unseen) % 8 == 0
    assert not set(fitted[:, 0, 0]) & set(unseen[:, 0, 0])
