"""The chance of acceptance: against draws of whole test splits that the verdict itself judges; and what must raise or lower it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimize.guard.acceptance_chance import RailKey, acceptance_chances, enlarged_guard, rail_key
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail
from optimize.guard.segmentation_score import SegmentationScore
from optimize.guard.verdict import judge
from tests.guard.made import said

LIMITS = Limits(0.03, 0.1)


def sides(
    lost: tuple[int, ...], gained: tuple[int, ...], cases: tuple[int, ...], patients: int | None = None
) -> tuple[ClassificationScore, ClassificationScore]:
    """Before and after of classes with these counts; `patients` cases in a row are of one patient."""
    count, labels, old, new = len(cases), list[int](), list[int](), list[int]()
    for k, (b, c, n) in enumerate(zip(lost, gained, cases, strict=True)):
        wrong = (k + 1) % count
        labels += [k] * n
        old += [k] * b + [wrong] * c + [k] * (n - b - c)
        new += [wrong] * b + [k] * (n - b)
    whose = None if patients is None else np.arange(len(labels)) // patients
    before, after = (answers(said(np.array(side), count), np.array(labels), tuple("abcdef"[:count]), whose) for side in (old, new))
    return before, after


def sizes(rails: list[Rail], times: int = 1) -> dict[RailKey, int]:
    return {rail_key(rail): times * rail.estimate.n for rail in rails}


def joint(lost: tuple[int, ...], gained: tuple[int, ...], cases: tuple[int, ...], times: int = 1, limits: Limits = LIMITS) -> float:
    rails = judged_rails(limits, *sides(lost, gained, cases))
    return acceptance_chances(rails, sizes(rails, times), limits).joint


def test_it_is_the_share_of_test_splits_that_the_verdict_passes() -> None:
    cases, lost, gained = (150, 150, 150, 150), (1, 2, 1, 1), (0, 1, 0, 0)
    rng, passed = np.random.default_rng(1), []
    for _ in range(80):
        # all classes alike: one rate, known from the 600 cases together
        lose, gain = rng.beta(sum(lost) + 1, 600 - sum(lost) + 1), rng.beta(sum(gained) + 1, 600 - sum(gained) + 1)
        drawn = [rng.multinomial(300, (lose, gain, 1 - lose - gain)) for _ in cases]
        test = sides(tuple(int(counts[0]) for counts in drawn), tuple(int(counts[1]) for counts in drawn), (300,) * 4)
        passed.append(bool(judge(LIMITS, *test)))
    assert joint(lost, gained, cases, 2) == pytest.approx(np.mean(passed), abs=0.12)


def test_more_losses_lower_it_and_more_test_cases_raise_it() -> None:
    cases = (100, 100, 100)
    chances = [joint((lost, 0, 0), (0, 0, 0), cases, 2) for lost in range(5)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.85 > chances[3]
    assert joint((1, 1, 0), (0, 0, 0), cases, 6) > joint((1, 1, 0), (0, 0, 0), cases, 2)


def test_all_limits_together_pass_less_often_than_each_alone() -> None:
    rails = judged_rails(LIMITS, *sides((1, 1, 2), (0, 1, 0), (100, 100, 100)))
    chances = acceptance_chances(rails, sizes(rails, 2), LIMITS)
    assert len(chances.rails) == len(rails)
    assert 0 < chances.joint <= min(chance for chance in chances.rails if chance is not None)
    assert chances.joint == acceptance_chances(rails, sizes(rails, 2), LIMITS).joint, "the same draws each time"


def test_by_points_it_is_the_chance_of_the_measured_value() -> None:
    limits = Limits(0.02, 1.0, verdict="point")
    # 1,000 guard cases with 10 lost, 1,000 test cases: at most 20 may be lost; the flat prior adds a case
    assert joint((5, 5), (0, 0), (500, 500), 1, limits) == pytest.approx(stats.betabinom.cdf(20, 1000, 11, 990), abs=0.03)


def test_several_cases_of_a_patient_say_less() -> None:
    alone, clustered = (judged_rails(LIMITS, *sides((2, 0), (0, 0), (200, 200), patients)) for patients in (None, 4))
    assert not clustered[0].estimate.independent
    assert clustered[0].estimate.widening > 1
    chances = [acceptance_chances(rails, sizes(rails, 2), LIMITS).joint for rails in (alone, clustered)]
    assert chances[1] < chances[0]


def test_other_figures_are_judged_by_the_odds_of_their_bounds() -> None:
    limits = Limits(0.03, 0.1, max_regressed=0.05, metric="macro_f1")
    few, many = (judged_rails(limits, *sides((lost, lost), (0, 0), (200, 200))) for lost in (1, 9))
    chances = [acceptance_chances(rails, sizes(rails, 2), limits) for rails in (few, many)]
    assert None not in chances[0].rails
    assert chances[0].joint > 0.8 > 0.5 > chances[1].joint


def masks(drops: np.ndarray) -> tuple[SegmentationScore, SegmentationScore]:
    """One class; each patient's Dice is 0.9, and falls by this much."""
    pixels = np.full((len(drops), 1), 10_000)
    scores = []
    for fall in (np.zeros(len(drops)), drops):
        both = np.round((0.9 - fall)[:, None] * pixels).astype(np.int64)
        flat = np.zeros((len(drops), 1, 1), np.uint8)
        scores.append(SegmentationScore(both, pixels, pixels, flat, np.ones(len(drops), bool), np.arange(len(drops)), ("tumour",)))
    return scores[0], scores[1]


@pytest.mark.parametrize("mode", ["statistical", "point"])
def test_masks_are_judged_by_the_spread_over_patients(mode: str) -> None:
    rng = np.random.default_rng(0)
    limits = Limits(0.03, 0.06, verdict=mode)  # type: ignore[arg-type]
    chances = []
    for fall in (0.0, 0.01, 0.02, 0.04):
        rails = judged_rails(limits, *masks(fall + rng.normal(0, 0.02, 60)))
        chances.append(acceptance_chances(rails, sizes(rails, 2), limits).joint)
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.9
    assert chances[-1] < 0.05


def test_a_rail_that_the_test_split_does_not_have_cannot_pass() -> None:
    rails = judged_rails(LIMITS, *sides((0, 0), (0, 0), (100, 100)))
    assert acceptance_chances(rails, sizes(rails[:-1], 2), LIMITS).joint == 0


def test_a_larger_guard_shows_more() -> None:
    rails = judged_rails(LIMITS, *sides((0, 0), (0, 0), (40, 40)))
    size = sizes(rails, 5)
    factor = enlarged_guard(rails, size, LIMITS, 0.95)
    assert acceptance_chances(rails, size, LIMITS).joint < 0.95
    assert factor is not None
    assert factor > 1
    assert acceptance_chances(rails, size, LIMITS, factor).joint >= 0.95
    assert enlarged_guard(rails, sizes(rails[:-1]), LIMITS, 0.95, 4.0) is None
