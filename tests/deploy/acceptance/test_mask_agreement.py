"""Agreement of masks without labels: the harm by brute force over masks, and the judgement on made-up ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimize.deploy.acceptance.judgement import Judgement
from optimize.deploy.acceptance.mask_agreement import harm, judge_mask_agreement
from optimize.guard.limits import Limits, Relative
from tests.deploy.acceptance.made import marking, mask_use, unlabelled

LIMITS = Limits(max_drop=0.05, max_class_drop=0.1)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    whole = one.sum() + other.sum()
    return 1.0 if not whole else float(2 * (one & other).sum() / whole)


def judged(before: np.ndarray, after: np.ndarray, limits: Limits = LIMITS, **arrays: Any) -> Judgement:
    of = mask_use()
    return judge_mask_agreement(limits, unlabelled(len(before), of, **arrays), of, marking(before), marking(after))


def squares(count: int) -> np.ndarray:
    masks = np.zeros((count, 4, 4))
    masks[:, 1:3, :] = 1
    return masks


def test_no_truth_makes_a_loss_larger_than_the_harm() -> None:
    """All 64 masks of the truth on six pixels, for random pairs of masks."""
    draw = np.random.default_rng(2)
    truths = (np.arange(64)[:, None] >> np.arange(6)) & 1 == 1
    for _ in range(200):
        before, after = draw.random((2, 6)) < draw.random()
        worst = max(dice(before, truth) - dice(after, truth) for truth in truths)
        assert worst <= harm(np.array([1 - dice(before, after)]))[0] + 1e-12


def test_the_harm_is_reached() -> None:
    """The original's mask holds the true one and more, the artifact's lacks just the true one."""
    before = np.ones(200, bool)
    truth = np.arange(200) < 4
    after = before & ~truth
    disagreement = 1 - dice(before, after)
    assert dice(before, truth) - dice(after, truth) == pytest.approx(harm(np.array([disagreement]))[0])


def test_equal_masks_pass_with_enough_patients_and_say_how_many_are_enough() -> None:
    few = judged(squares(20), squares(20))
    assert few.outcome == "inconclusive"
    overall = few.figures[0]
    assert 50 < overall["needed"] < 100
    many = judged(squares(overall["needed"] + 40), squares(overall["needed"] + 40))
    assert (many.outcome, many.figures[0]["high"] <= 0.05) == ("pass", True)
    assert many.reasons == (f"Dice between the masks of the artifact and of the original is 1.0000 over {overall['needed'] + 40} cases",)


def test_images_of_one_patient_are_one_value() -> None:
    found = judged(squares(100), squares(100), patient=np.repeat(np.arange(25), 4))
    assert (found.figures[0]["seen"], found.figures[0]["unit"], found.outcome) == (25, "patients", "inconclusive")


def test_a_difference_that_need_be_no_loss_is_no_failure_but_a_limit_of_agreement_can_fail() -> None:
    before, after = squares(60), squares(60)
    after[:, 1] = 0  # half of each mask is gone: Dice 2/3
    open_ = judged(before, after)
    assert (open_.outcome, open_.figures[0]["needed"]) == ("inconclusive", None)
    assert "no number of cases without labels" in open_.reasons[1]
    failed = judged(before, after, limits=Limits(max_drop=0.05, min_agreement=0.95))
    assert failed.outcome == "fail"
    assert any("agreement with the original" in reason for reason in failed.reasons)


def test_the_value_is_the_mean_harm() -> None:
    before, after = squares(10), squares(10)
    after[0, 1] = 0
    found = judged(before, after)
    assert found.figures[0]["value"] == pytest.approx(float(harm(np.array([1 / 3]))[0]) / 10)


def test_masks_that_both_leave_empty_say_nothing() -> None:
    found = judged(np.zeros((5, 4, 4)), np.zeros((5, 4, 4)))
    assert found.outcome == "inconclusive"
    assert "neither model marks anything" in found.reasons[1]


def test_subgroups_are_judged_and_a_relative_limit_is_not() -> None:
    found = judged(squares(90), squares(90), site_group=np.array(["x"] * 80 + ["y"] * 10))
    figures = {figure["name"]: figure["outcome"] for figure in found.figures if figure["scope"] == "group"}
    assert figures == {"x": "pass", "y": "inconclusive"}
    relative = judged(squares(90), squares(90), limits=Limits(max_drop=Relative(0.02), max_class_drop=0.1))
    assert relative.not_judged == ("max_drop: a share of the original's figure, which is not known without labels",)


def test_the_bound_is_below_the_true_loss_in_one_of_twenty_samples_at_most() -> None:
    """The worst truth: a mask that loses its truth wholly in 3 % of patients."""
    draw, missed = np.random.default_rng(4), 0
    for _ in range(60):
        before, after = squares(50), squares(50)
        after[draw.random(50) < 0.03] = 0
        missed += judged(before, after).figures[0]["high"] < 0.03
    # of 60 samples with a true rate of 5 %, more than 8 miss with a chance of 1 %
    assert missed <= 8
