"""The same verdicts on masks: figures are means over patients, and patients are few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from optimize.guard.dice import Dice, overlap
from optimize.guard.limits import Limits
from optimize.guard.score import score
from optimize.guard.verdict import admit, judge, worst_class
from optimize.masks import perfect

CLASSES = ("core", "rim")


def of(*dice: Sequence[float], classes: tuple[str, ...] = CLASSES) -> Dice:
    """Per patient the Dice of each class, reached by moving a true mask of 100 pixels; None: neither true nor predicted."""
    masks, outputs = (np.zeros((len(dice), len(classes), 200), dtype=bool) for _ in range(2))
    for patient, row in enumerate(dice):
        for k, value in enumerate(row):
            if value is not None:
                masks[patient, k, :100] = True
                outputs[patient, k, round(100 * (1 - value)) :][:100] = True
    return overlap([(perfect(outputs, len(classes)), masks)], classes)


def one(*dice: float) -> Dice:
    return of(*([each] for each in dice), classes=("core",))


def test_the_figures_of_these_tests_are_what_they_say() -> None:
    np.testing.assert_allclose(of([0.9, 0.4], [1.0, None]).per_patient, [[0.9, 0.4], [1.0, np.nan]])


@pytest.mark.parametrize(("lost", "outcome"), [(0.01, "pass"), (0.02, "pass"), (0.03, "fail")])
def test_overall_at_the_limit_passes_and_just_over_it_fails(lost: float, outcome: str) -> None:
    before, after = of([0.9, 0.8], [0.8, 0.7]), of([0.9 - lost, 0.8 - lost], [0.8 - lost, 0.7 - lost])
    verdict = judge(Limits(0.02, 1.0), before, after)
    assert verdict.outcome == outcome
    if outcome == "fail":
        assert verdict.reasons == ("overall Dice fell by 3 pp on 2 patients; the limit is 2 pp",)
    else:
        assert verdict.reasons[0].startswith(f"overall Dice {100 * (0.8 - lost):.2f} % against 80.00 %, limit 2 pp; worst class ")


def test_a_class_may_fall_where_the_whole_does_not() -> None:
    before, after = of([0.9, 0.5], [0.9, 0.5]), of([0.8, 0.6], [0.8, 0.6])
    verdict = judge(Limits(0.02, 0.06), before, after)
    assert verdict.reasons == ("Dice of core fell by 10 pp on 2 patients; the limit is 6 pp",)
    assert worst_class(before, after) == ("core", pytest.approx(0.1))
    assert judge(Limits(0.02, 0.1), before, after)


def test_a_class_of_one_patient_is_inconclusive() -> None:
    before = of([0.9, 0.5], [0.9, None])
    verdict = judge(Limits(), before, before)
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons == ("Dice of rim has 1 patient; at least 2 are needed to tell a drop of 6 pp",)
    assert admit(Limits(), before, before)


def test_a_class_that_nobody_has_is_never_the_worst() -> None:
    assert worst_class(of([0.9, None], [0.9, None]), of([0.9, None], [0.95, None])) == ("core", pytest.approx(-0.025))
    assert worst_class(of([None, None]), of([None, None])) == ("core", 0.0)


def test_a_mask_given_to_a_healthy_patient_is_a_loss() -> None:
    masks = np.zeros((3, 1, 10), dtype=bool)
    masks[:2, 0, :5] = True
    before, wrong = masks.copy(), masks.copy()
    wrong[2, 0, 0] = True
    scores = [overlap([(perfect(said, 1), masks)], ("core",)) for said in (before, wrong)]
    verdict = judge(Limits(0.3, 0.3), scores[0], scores[1])
    assert verdict.reasons[0] == "overall Dice fell by 33.33 pp on 3 patients; the limit is 30 pp"
    assert judge(Limits(0.34, 0.34), scores[0], scores[1])
    assert judge(Limits(0.0, 0.0), scores[1], scores[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_search_allows_for_chance(seed: int) -> None:
    """Its threshold lies between two limits a hair above and below the end of Student's interval of the paired differences."""
    draw = np.random.default_rng(seed)
    old, new = draw.integers(75, 99, 9) / 100, draw.integers(50, 90, 9) / 100
    bound = stats.t.interval(0.8, 8, loc=(old - new).mean(), scale=stats.sem(old - new))[1]
    before, after = one(*old), one(*new)
    assert admit(Limits(bound + 1e-6, 1.0), before, after)
    refused = admit(Limits(bound - 1e-6, 1.0), before, after)
    assert refused.outcome == "fail"
    assert f"chance alone may add {100 * (bound - (old - new).mean()):.4g} pp" in refused.reasons[0]
    assert judge(Limits(bound - 1e-6, 1.0), before, after)


def test_where_nothing_was_lost_the_search_goes_on_however_few_the_patients() -> None:
    assert admit(Limits(0.0, 0.0), one(0.8), one(0.8))
    assert admit(Limits(0.0, 0.0), one(0.8, 0.5), one(0.5, 0.9))
    assert not admit(Limits(0.5, 0.5), one(0.8), one(0.79))


@pytest.mark.parametrize("decide", [judge, admit])
def test_every_class_must_reach_its_dice(decide) -> None:
    before, after = of([0.9, 0.8], [0.9, 0.8]), of([0.9, 0.79], [0.9, 0.79])
    assert decide(Limits(0.02, 0.06, 0.79), before, after)
    verdict = decide(Limits(0.02, 0.06, 0.8), before, after)
    assert (verdict.outcome, verdict.reasons) == ("fail", ("Dice of rim is 79.00 %; the limit is 80.00 %",))


@pytest.mark.parametrize("decide", [judge, admit])
def test_masks_must_agree_with_the_originals_where_that_is_asked(decide) -> None:
    masks, left, right = np.zeros((3, 2, 1, 20), dtype=bool)
    masks[..., 5:15], left[..., 0:10], right[..., 10:20] = True, True, True
    before, after = (overlap([(perfect(said, 1), masks)], ("core",)) for said in (left, right))
    assert before.overall == after.overall == 0.5
    assert decide(Limits(), before, after)
    verdict = decide(Limits(min_agreement=0.9), before, after)
    assert (verdict.outcome, verdict.reasons) == ("fail", ("agreement with the original’s masks is 0.00 %; the limit is 90.00 %",))
    assert decide(Limits(min_agreement=0.9), before, before)


def test_outputs_that_are_not_numbers_fail() -> None:
    masks = np.random.default_rng(0).integers(3, size=(6, 8, 8))
    before, after = (score("segmentation", [(outputs, masks)], CLASSES) for outputs in (perfect(masks, 2), np.full((6, 3, 8, 8), np.nan)))
    assert judge(Limits(), before, after).outcome == "fail"
    assert admit(Limits(), before, after).outcome == "fail"
