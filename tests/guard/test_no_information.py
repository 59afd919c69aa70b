"""An original beside a constant answer: made-up answers whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.guard.classification_score import answers
from optimize.guard.limits import Limits
from optimize.guard.no_information import NoInformation, no_information, unexpected
from optimize.guard.segmentation_score import score_masks

POINT = Limits()


def classified(labels: np.ndarray, decided: np.ndarray, classes: int, limits: Limits = POINT) -> NoInformation:
    outputs = np.eye(classes)[decided] * 4 + np.random.default_rng(9).normal(0, 0.1, (len(labels), classes))
    score = answers(outputs, labels, [str(k) for k in range(classes)])
    return no_information(score, labels, limits)


def some_right(labels: np.ndarray, share: float, classes: int) -> np.ndarray:
    """So many of each class right, the rest the next class."""
    right = np.zeros(len(labels), bool)
    for k in range(classes):
        rows = np.flatnonzero(labels == k)
        right[rows[: round(share * len(rows))]] = True
    return np.where(right, labels, (labels + 1) % classes)


BALANCED = np.repeat(np.arange(4), 50)
RARE = np.repeat([0, 1], [190, 10])


def test_the_rate_is_the_share_of_the_most_frequent_class() -> None:
    found = classified(RARE, some_right(RARE, 0.9, 2), 2)
    assert found.constant == pytest.approx(0.95)
    assert found.original == pytest.approx(0.9)
    assert "answering '0' every time reaches 95.00 %" in str(found)


def test_balanced_classes() -> None:
    assert classified(BALANCED, some_right(BALANCED, 0.6, 4), 4)
    assert classified(BALANCED, some_right(BALANCED, 0.4, 4), 4), "weak, and yet better than 25 %"
    assert not classified(BALANCED, some_right(BALANCED, 0.26, 4), 4)
    assert not classified(BALANCED, some_right(BALANCED, 0.1, 4), 4), "worse than constant"


def test_a_rare_class_that_is_found_is_worth_more_than_its_share() -> None:
    """Less accurate than never saying 1, but both classes are mostly found."""
    assert classified(RARE, some_right(RARE, 0.9, 2), 2)
    assert not classified(RARE, np.zeros(200, dtype=int), 2)


def test_answers_that_never_change_are_no_better_whatever_they_reach() -> None:
    labels = np.zeros(60, dtype=np.int64)
    labels[0] = 1
    score = answers(np.tile([1.0, 0.0], (60, 1)), labels, ["a", "b"])
    found = no_information(score, labels, POINT)
    assert not found
    assert found.same


def test_one_that_is_used_by_rank_needs_no_accuracy() -> None:
    """Never above a half for the rare class, yet it ranks its cases first."""
    draw = np.random.default_rng(1)
    share = np.clip(0.2 + 0.2 * RARE + draw.normal(0, 0.05, len(RARE)), 0.01, 0.49)
    score = answers(np.stack([1 - share, share], 1), RARE, ["well", "ill"])
    assert not no_information(score, RARE, POINT)
    assert no_information(score, RARE, Limits(metric="auc"))
    assert no_information(score, RARE, Limits(threshold=0.3))
    shuffled = answers(np.stack([1 - share, share], 1)[draw.permutation(len(RARE))], RARE, ["well", "ill"])
    assert not no_information(shuffled, RARE, Limits(metric="auc"))


def test_random_answers_seldom_pass() -> None:
    draw = np.random.default_rng(2)
    labels = draw.integers(0, 8, 800)
    passed = sum(bool(classified(labels, draw.integers(0, 8, 800), 8)) for _ in range(200))
    assert passed == 0  # each has a chance of 1 % before it must also be a twentieth of the way


def scans(n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A spot that moves, (n, 1, 12, 12), and three images of each patient."""
    draw = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"))
    masks = ((grid - draw.uniform(3, 9, (n, 2, 1, 1))) ** 2).sum(1) < 6
    return masks[:, None], np.arange(n) // 3


def segmented(said: np.ndarray, masks: np.ndarray, patients: np.ndarray) -> NoInformation:
    score = score_masks([(np.where(said, 1.0, -1.0).astype(np.float32), masks)], ["spot"], patients)
    return no_information(score, masks, POINT)


def test_masks_that_follow_the_images_pass() -> None:
    masks, patients = scans()
    found = segmented(np.roll(masks, 1, axis=2), masks, patients)
    assert found
    assert (found.figure, found.n, found.unit) == ("Dice", 8, "patients")


@pytest.mark.parametrize("name", ["nothing", "everything", "usual", "others"])
def test_masks_that_do_not_look_at_the_image_are_refused(name: str) -> None:
    masks, patients = scans()
    said = {
        "nothing": np.zeros_like(masks),
        "everything": np.ones_like(masks),
        "usual": np.broadcast_to(masks.mean(0) > 0.25, masks.shape),
        "others": masks[::-1],  # another image's mask
    }[name]
    assert not segmented(said, masks, patients)


def test_the_best_constant_mask_is_found_by_hand() -> None:
    """All images alike: the constant mask is perfect, and nothing can be better."""
    masks = np.zeros((6, 1, 4, 4), bool)
    masks[:, :, 1:3, 1:3] = True
    found = segmented(masks, masks, np.arange(6))
    assert found.constant == 1.0
    assert not found


def test_what_is_expected() -> None:
    labels = BALANCED
    score = answers(np.eye(4)[some_right(labels, 0.9, 4)], labels, list("abcd"))
    assert not unexpected(score, 0.92, len(labels))
    assert not unexpected(score, 0.5, len(labels)), "better than expected is no fault"
    assert unexpected(score, 0.99, len(labels))
