"""What a test split can accept: by the binomial distribution, without images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimize.guard.classification_score import answers
from optimize.guard.judged_rails import judged_rails
from optimize.guard.largest_loss import GAINED, LargestLoss, largest_losses, loss_of_all, pass_chance_of
from optimize.guard.limits import Limits
from optimize.guard.passing_counts import passing_counts
from tests.guard.made import said


def losses(cases: tuple[int, ...], limits: Limits, power: float = 0.9) -> tuple[LargestLoss, ...]:
    labels = np.repeat(np.arange(len(cases)), cases)
    perfect = answers(said(labels, len(cases)), labels, tuple("abc"[: len(cases)]))
    return largest_losses(judged_rails(limits, perfect, perfect), limits, power)


@pytest.mark.parametrize(("cases", "loss"), [(122, 0.0), (122, 0.01), (400, 0.02)])
def test_the_chance_is_that_of_drawn_test_splits(cases: int, loss: float) -> None:
    drawn = np.random.default_rng(0).multinomial(cases, (loss + GAINED, GAINED, 1 - loss - 2 * GAINED), 20_000)
    passed = passing_counts(cases, 0.06, 0.05, 30).passes(drawn[:, 0], drawn[:, 1])
    assert pass_chance_of(loss, cases, 0.06, 0.05) == pytest.approx(passed.mean(), abs=0.01)


def test_the_largest_loss_passes_with_the_power_and_a_larger_one_does_not() -> None:
    for found in losses((300, 122), Limits(0.03, 0.06)):
        assert found.loss is not None
        estimate = found.rail.estimate
        assert pass_chance_of(found.loss, estimate.n, found.rail.limit, 0.05) >= 0.9
        assert pass_chance_of(found.loss + 0.002, estimate.n, found.rail.limit, 0.05) < 0.9
        assert found.required_n is None
        assert not found.nearly_no_change


def test_a_small_class_passes_only_where_nearly_nothing_changes_and_the_remedy_is_named() -> None:
    found = losses((600, 55), Limits(0.03, 0.06))[2]
    assert found.nearly_no_change
    assert found.most_lost == 0
    assert found.required_n is not None
    assert 55 < found.required_n < 150
    assert pass_chance_of(0.0, found.required_n, 0.06, 0.05) >= 0.9
    assert found.as_dict()["required"] == found.required_n


def test_all_limits_together_allow_less_than_any_alone() -> None:
    limits = Limits(0.03, 0.06)
    found = losses((400, 400, 400), limits)
    together = loss_of_all(found, limits, 0.9)
    assert together is not None
    assert 0 < together < min(rail.loss or 0 for rail in found)
    assert loss_of_all(losses((600, 55), limits), limits, 0.9) is None


def test_by_points_the_measured_drop_counts() -> None:
    found = losses((200, 200), Limits(1.0, 0.1, verdict="point"))[1]
    assert found.most_lost == 20
    assert found.loss is not None
    assert stats.binom.cdf(20, 200, found.loss) > 0.85


def test_figures_that_are_no_share_are_not_known_before() -> None:
    found = losses((200, 200), Limits(0.03, 0.06, metric="macro_f1"))[0]
    assert (found.known, found.loss, found.nearly_no_change) == (False, None, False)
