"""The same verdicts on masks: figures are means over patients, and patients are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from optimize.data.masks import perfect
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits, Relative
from optimize.guard.score import score
from optimize.guard.segmentation_score import SegmentationScore, score_masks
from optimize.guard.verdict import accept_proposal, judge, worst_class

CLASSES = ("core", "rim")


def of(*dice: Sequence[float], classes: tuple[str, ...] = CLASSES) -> SegmentationScore:
    """Per patient the Dice of each class, reached by moving a true mask of 100 pixels; None: neither true nor predicted."""
    masks, outputs = (np.zeros((len(dice), len(classes), 200), dtype=bool) for _ in range(2))
    for patient, row in enumerate(dice):
        for k, value in enumerate(row):
            if value is not None:
                masks[patient, k, :100] = True
                outputs[patient, k, round(100 * (1 - value)) :][:100] = True
    return score_masks([(perfect(outputs, len(classes)), masks)], classes)


def one(*dice: float) -> SegmentationScore:
    return of(*([each] for each in dice), classes=("core",))


def even(steps: np.ndarray, *, around: int) -> np.ndarray:
    """Hundredths that lie evenly on both sides, so that Student's interval is theirs, too."""
    return np.concatenate([around + steps, around - steps]) / 100


def test_the_figures_of_these_tests_are_what_they_say() -> None:
    np.testing.assert_allclose(of([0.9, 0.4], [1.0, None]).per_patient, [[0.9, 0.4], [1.0, np.nan]])


@pytest.mark.parametrize(("lost", "outcome"), [(0.01, "pass"), (0.02, "pass"), (0.03, "fail")])
def test_by_points_the_limit_itself_passes_and_just_over_it_fails(lost: float, outcome: str) -> None:
    before, after = of([0.9, 0.8], [0.8, 0.7]), of([0.9 - lost, 0.8 - lost], [0.8 - lost, 0.7 - lost])
    verdict = judge(Limits(0.02, 1.0, verdict="point"), before, after)
    assert verdict.outcome == outcome
    if outcome == "fail":
        assert verdict.reasons == ("overall Dice fell by 3 pp on 2 patients; the limit is 2 pp",)
    else:
        overall = f"overall Dice {100 * (0.8 - lost):.2f} % against 80.00 %, limit 2 pp"
        assert verdict.reasons[0].startswith(f"{overall}; Dice of the worst class ")


@pytest.mark.parametrize("seed", range(6))
def test_the_verdict_asks_students_interval_over_the_patients(seed: int) -> None:
    draw = np.random.default_rng(seed)
    old = draw.integers(75, 95, 10) / 100
    new = old - even(draw.integers(0, 5, 5), around=2)
    low = stats.t.interval(0.9, 9, loc=(old - new).mean(), scale=stats.sem(old - new))[0]
    # the bound with a worst case, drawn: the patients and one more who lost half, with exponential weights
    weights = np.random.default_rng(0).exponential(size=(100_000, 11))
    high = float(np.quantile(weights @ np.append(old - new, 0.5) / weights.sum(1), 0.95))
    for limit, outcome in ((high * 1.03, "pass"), (high * 0.97, "inconclusive"), (low + 1e-6, "inconclusive"), (low - 1e-6, "fail")):
        if limit > 0:
            verdict = judge(Limits(limit, 1.0), one(*old), one(*new))
            assert verdict.outcome == outcome
            assert (outcome == "inconclusive") == any("would" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("patients", "limit", "enough"), [(73, 0.02, False), (75, 0.02, True), (23, 0.06, False), (25, 0.06, True)])
def test_patients_without_a_loss_pass_only_where_half_a_dice_lost_by_one_in_three_over_n_is_within_the_limit(
    patients: int, limit: float, enough: bool
) -> None:
    assert bool(0.5 * (1 - 0.05 ** (1 / patients)) <= limit) == enough
    verdict = judge(Limits(limit, 1.0), one(*[0.8] * patients), one(*[0.8] * patients))
    assert (verdict.outcome == "pass") == enough
    if not enough:
        assert f"{patients} patients are too few; about" in verdict.reasons[0]


def test_a_relative_limit_is_of_the_originals_dice() -> None:
    """Of each patient (1 - r) times the Dice before is compared with that after; Student's interval is scipy's."""
    draw, share = np.random.default_rng(1), 0.1
    old = 0.8 + even(draw.integers(-9, 9, 6), around=0)
    new = old - even(draw.integers(0, 5, 6), around=4)
    contrast = (1 - share) * old - new
    assert abs(stats.skew(contrast)) < 1e-6
    high = stats.t.interval(0.9, 11, loc=contrast.mean(), scale=stats.sem(contrast))[1]
    rail = judged_rails(Limits(Relative(share), 1.0), one(*old), one(*new))[0]
    assert rail.limit == pytest.approx(share * old.mean())
    assert rail.estimate.for_search.high == pytest.approx(high + share * old.mean())
    assert rail.estimate.high > rail.estimate.for_search.high


def test_a_class_may_fall_where_the_whole_does_not() -> None:
    before, after = of(*[[0.9, 0.5]] * 6), of(*[[0.8, 0.6]] * 6)
    for mode in ("point", "statistical"):
        verdict = judge(Limits(0.02, 0.06, verdict=mode), before, after)
        assert verdict.outcome == "fail"
        assert verdict.reasons[0].startswith("Dice of core fell by 10 pp on 6 patients")
    assert worst_class(before, after) == ("core", pytest.approx(0.1))
    assert judge(Limits(0.02, 0.1, verdict="point"), before, after)


def test_a_class_of_one_patient_is_inconclusive() -> None:
    before = of([0.9, 0.5], *[[0.9, None]] * 5)
    verdict = judge(Limits(), before, before)
    assert verdict.outcome == "inconclusive"
    (reason,) = verdict.reasons[-1:]
    assert reason == (
        "Dice of rim did not change on 1 patient; the limit is 6 pp; 1 patient does not decide this; at least 5 patients are needed"
    )
    assert accept_proposal(Limits(), before, before)


def test_a_subgroup_of_patients_is_judged_by_itself() -> None:
    old, new = [0.9] * 86, [0.9] * 80 + [0.5, 0.6, 0.55, 0.58, 0.52, 0.56]
    site = {"site": np.array(["north"] * 80 + ["south"] * 6)}
    before, after = (replace(one(*each), groups=site) for each in (old, new))
    verdict = judge(Limits(0.06, 0.9, max_group_drop=0.06), before, after)
    assert [rail.title for rail in verdict.rails if rail.outcome == "fail"] == ["Dice where site is south"]
    assert after.as_dict(before)["per_group"]["site"]["north"] == {"patients": 80, "dice": pytest.approx(0.9)}


def test_a_class_that_nobody_has_is_never_the_worst() -> None:
    assert worst_class(of([0.9, None], [0.9, None]), of([0.9, None], [0.95, None])) == ("core", pytest.approx(-0.025))
    assert worst_class(of([None, None]), of([None, None])) == ("core", 0.0)


def test_a_mask_given_to_a_healthy_patient_is_a_loss() -> None:
    masks = np.zeros((3, 1, 10), dtype=bool)
    masks[:2, 0, :5] = True
    before, wrong = masks.copy(), masks.copy()
    wrong[2, 0, 0] = True
    scores = [score_masks([(perfect(said, 1), masks)], ("core",)) for said in (before, wrong)]
    verdict = judge(Limits(0.3, 0.3, verdict="point"), scores[0], scores[1])
    assert verdict.reasons[0] == "overall Dice fell by 33.33 pp on 3 patients; the limit is 30 pp"
    assert judge(Limits(0.34, 0.34, verdict="point"), scores[0], scores[1])
    assert judge(Limits(0.0, 0.0, verdict="point"), scores[1], scores[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_search_allows_for_chance(seed: int) -> None:
    """Its threshold lies between two limits a hair above and below the end of Student's interval of the paired differences."""
    draw = np.random.default_rng(seed)
    old = draw.integers(75, 99, 10) / 100
    new = old - even(draw.integers(0, 20, 5), around=20)
    bound = stats.t.interval(0.8, 9, loc=(old - new).mean(), scale=stats.sem(old - new))[1]
    before, after = one(*old), one(*new)
    assert accept_proposal(Limits(bound + 1e-6, 1.0), before, after)
    refused = accept_proposal(Limits(bound - 1e-6, 1.0), before, after)
    assert refused.outcome == "fail"
    assert f"the true loss may be {100 * (bound - (old - new).mean()):.4g} pp larger by chance" in refused.reasons[0]
    assert judge(Limits(bound - 1e-6, 1.0, verdict="point"), before, after)


def test_where_nothing_was_lost_the_search_goes_on_however_few_the_patients() -> None:
    assert accept_proposal(Limits(0.0, 0.0, verdict="point"), one(0.8), one(0.8))
    assert accept_proposal(Limits(0.0, 0.0, verdict="point"), one(0.8, 0.5), one(0.5, 0.9))
    assert not accept_proposal(Limits(0.5, 0.5), one(0.8), one(0.79))


@pytest.mark.parametrize("decide", [judge, accept_proposal])
def test_every_class_must_reach_its_dice(decide) -> None:
    before, after = of(*[[0.9, 0.8]] * 80), of(*[[0.9, 0.79]] * 80)
    assert decide(Limits(0.03, 0.06, 0.77), before, after)
    before, after = of(*[[0.9, 0.8]] * 6), of(*[[0.9, 0.79]] * 6)
    verdict = decide(Limits(0.02, 0.06, 0.8), before, after)
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("Dice of rim is 79.00 % on 6 patients")


@pytest.mark.parametrize("decide", [judge, accept_proposal])
def test_masks_must_agree_with_the_originals_where_that_is_asked(decide) -> None:
    masks, left, right = np.zeros((3, 6, 1, 20), dtype=bool)
    masks[..., 5:15], left[..., 0:10], right[..., 10:20] = True, True, True
    before, after = (score_masks([(perfect(said, 1), masks)], ("core",)) for said in (left, right))
    assert before.overall == after.overall == 0.5
    assert decide(Limits(0.3, 0.3), before, after)
    verdict = decide(Limits(min_agreement=0.9), before, after)
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("agreement with the original’s masks is 0.00 % on 6 patients")
    assert decide(Limits(0.3, 0.3, min_agreement=0.7), before, before)


def test_outputs_that_are_not_numbers_fail() -> None:
    masks = np.random.default_rng(0).integers(3, size=(6, 8, 8))
    before, after = (score("segmentation", [(outputs, masks)], CLASSES) for outputs in (perfect(masks, 2), np.full((6, 3, 8, 8), np.nan)))
    assert judge(Limits(), before, after).outcome == "fail"
    assert accept_proposal(Limits(), before, after).outcome == "fail"


def test_a_class_that_few_patients_have_weighs_more_in_the_overall_figure() -> None:
    """Of 40 patients six have the second class; its mean moves the figure by a sixth of each of theirs."""
    draw = np.random.default_rng(5)
    falls = draw.normal(0.0, 0.1, 6).round(2)
    before = of(*[[0.9, 0.8]] * 6, *[[0.9, None]] * 34)
    after = of(*[[0.9, 0.8 - fall] for fall in falls], *[[0.9, None]] * 34)
    rail = judged_rails(Limits(0.5, 1.0), before, after)[0]
    spread = np.concatenate([(falls - falls.mean()) * 40 / 6 / 2, np.zeros(34)])
    chance = stats.t.ppf(0.95, 39) * spread.std(ddof=1) / 40**0.5
    assert rail.value == pytest.approx(falls.mean() / 2)
    assert rail.estimate.high >= rail.value + chance - 1e-9
    naive = stats.t.ppf(0.95, 39) * np.concatenate([falls / 2, np.zeros(34)]).std(ddof=1) / 40**0.5
    assert rail.estimate.high > rail.value + 2 * naive
