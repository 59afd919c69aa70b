"""Each rail is seen to fire just above its number, and not at it."""

from __future__ import annotations

import pytest

from optimize.guard.limits import Limits, Relative
from optimize.searching.published.rails import CELEBA, CIFAR, StudyRails
from optimize.searching.trial import ScoreSummary
from tests.searching.scores import scored

WHOLE = scored(0, 0, 0, 0)


def reading(*wrong: float) -> ScoreSummary:
    return ScoreSummary.of(scored(*wrong))


def test_the_published_numbers() -> None:
    assert (CELEBA.step_overall, CELEBA.step_class, CELEBA.overall, CELEBA.per_class) == (0.01, 0.03, 0.02, 0.06)
    assert (CIFAR.step_overall, CIFAR.step_class, CIFAR.overall, CIFAR.per_class) == (0.015, 0.045, 0.03, 0.09)


def test_within_the_runs_limits() -> None:
    assert StudyRails.within(Limits(0.02, 0.06)) == CELEBA
    assert StudyRails.within(Limits(0.03, 0.09)) == CIFAR


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ((0.01, 0.01, 0.01, 0.01), None),
        ((0.01001, 0.01, 0.01, 0.01001), "overall accuracy fell by 1.001 pp; one step may lose 1 pp"),
        ((0.03, 0, 0, 0), None),
        ((0.0301, 0, 0, 0), "recall of a fell by 3.01 pp; one step may lose 3 pp"),
    ],
)
def test_a_step(wrong: tuple[float, ...], reason: str | None) -> None:
    assert CELEBA.step_problems(reading(0, 0, 0, 0), reading(*wrong)) == (() if reason is None else (reason,))
    # the same drop from lower down
    lower = [0.2 + each for each in wrong]
    assert bool(CELEBA.step_problems(reading(0.2, 0.2, 0.2, 0.2), reading(*lower))) == (reason is not None)


@pytest.mark.parametrize(
    ("standing", "after", "reasons"),
    [
        ((0, 0, 0, 0), (0.009, 0.009, 0.009, 0.009), None),
        ((0.012, 0.012, 0.012, 0.012), (0.019, 0.019, 0.019, 0.019), None),
        ((0.012, 0.012, 0.012, 0.012), (0.021, 0.021, 0.021, 0.021), "overall accuracy fell by 2.1 pp on 400000 cases; the limit is 2 pp"),
        ((0.035, 0, 0, 0), (0.061, 0, 0, 0), "recall of a fell by 6.1 pp on 100000 cases; the limit is 6 pp"),
        # both rails: a step too bold
        ((0, 0, 0, 0), (0.05, 0.05, 0.05, 0.05), "overall accuracy fell by 5 pp; one step may lose 1 pp"),
    ],
)
def test_the_verdict(standing: tuple[float, ...], after: tuple[float, ...], reasons: str | None) -> None:
    verdict = CELEBA.judge(reading(*standing), Limits())(WHOLE, scored(*after))
    assert bool(verdict) == (reasons is None)
    assert reasons is None or verdict.reasons[0].startswith(reasons)


def test_the_cumulative_rail_leaves_room_for_chance() -> None:
    """19 of 1000 and 190 of 10,000 are the same share; only the larger number is surely below 2 %."""
    judge = CELEBA.judge(reading(0.015, 0.015), Limits())
    few, many = (judge(scored(0, 0, cases=cases), scored(0.019, 0.019, cases=cases)) for cases in (500, 50_000))
    assert (bool(few), bool(many)) == (False, True)
    assert "larger by chance" in few.reasons[0]


def test_the_least_f1_is_the_runs() -> None:
    after = scored(0.004, 0.004, 0.004, 0.004)
    assert CELEBA.judge(reading(0, 0, 0, 0), Limits(min_class_f1=0.99))(WHOLE, after)
    assert not CELEBA.judge(reading(0, 0, 0, 0), Limits(min_class_f1=0.999))(WHOLE, after)


@pytest.mark.parametrize(
    ("wrong", "warned"),
    [
        ((0.0169, 0.0169, 0.0169, 0.0169), False),
        ((0.017, 0.017, 0.017, 0.017), True),  # 85 % of 2 pp
        ((0.0509, 0, 0, 0), False),
        ((0.051, 0, 0, 0), True),  # 85 % of 6 pp
    ],
)
def test_the_warning(wrong: tuple[float, ...], warned: bool) -> None:
    assert CELEBA.nearly_used_up(reading(0, 0, 0, 0), reading(*wrong)) is warned


def test_half_of_a_relative_limit_is_half_of_the_share() -> None:
    """2 % of an accuracy of 50 % is 1 pp, so one step may lose half a point, and not one."""
    rails = StudyRails.within(Limits(Relative(0.02), Relative(0.06)))
    assert (str(rails.step_overall), str(rails.step_class)) == ("1.00%", "3.00%")
    assert rails.step_problems(reading(0.5, 0.5), reading(0.5049, 0.5049)) == ()
    (reason,) = rails.step_problems(reading(0.5, 0.5), reading(0.506, 0.506))
    assert reason == "overall accuracy fell by 0.6 pp; one step may lose 1 % of it"
    # 85 % of 2 % of 50 % is 0.85 pp
    assert not rails.nearly_used_up(reading(0.5, 0.5), reading(0.508, 0.508))
    assert rails.nearly_used_up(reading(0.5, 0.5), reading(0.509, 0.509))
