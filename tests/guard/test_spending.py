"""What looks at one test split may spend, against exact probabilities of every order in which models can come."""

from __future__ import annotations

import itertools

import pytest

from optimize.guard.limits import Limits
from optimize.guard.spending import FIRST_SHARE, at_share, spent_by


def chance_of_a_bad_pass(order: tuple[bool, ...], good_passes: float, alpha: float) -> float:
    """Exactly: the chance that some bad model passes.

    Args:
        order: for each look whether its model breaks a limit; one that does passes with the level that it is judged at.
        good_passes: the chance that another one passes.
        alpha: the error permitted for all looks together.
    """

    def after(look: int, unpassed: int) -> float:
        if look == len(order):
            return 0.0
        if order[look]:
            level = alpha * spent_by(unpassed + 1)
            return level + (1 - level) * after(look + 1, unpassed + 1)
        return good_passes * after(look + 1, unpassed) + (1 - good_passes) * after(look + 1, unpassed + 1)

    return after(0, 0)


def test_all_parts_together_are_the_whole() -> None:
    """1 / (n (n - 1)) = 1 / (n - 1) - 1 / n: what N parts leave is a fifth of 1 / N."""
    for many in (1, 2, 3, 10, 1000):
        left = 1 - sum(spent_by(part) for part in range(1, many + 1))
        assert left == pytest.approx(0.2 / many)


@pytest.mark.parametrize("good_passes", [0.0, 0.5, 1.0])
def test_whatever_the_order_a_bad_model_passes_in_no_more_than_the_permitted_error(good_passes: float) -> None:
    chances = [chance_of_a_bad_pass(order, good_passes, 0.05) for order in itertools.product((True, False), repeat=10)]
    assert max(chances) <= 0.05
    assert max(chances) > 0.04, "and the bound is not idle"


def test_ten_looks_together_pass_a_bad_model_about_as_often_as_one() -> None:
    """Ten looks at 5 % each, had at independent models: 1 - 0.95^10 is 40 %."""
    assert chance_of_a_bad_pass((True,) * 10, 0.0, 0.05) == pytest.approx(0.049, abs=0.0015)


def test_the_confidence_of_a_look() -> None:
    assert at_share(Limits(), FIRST_SHARE).confidence == 0.96
    assert at_share(Limits(), 1.0).confidence == 0.95
    assert at_share(Limits(), spent_by(2)).confidence == 0.995
    assert at_share(Limits(confidence=0.9), spent_by(3)).confidence == pytest.approx(1 - 0.1 * 0.2 / 6)
    point = Limits(verdict="point")
    assert at_share(point, 0.1) == point
