"""The study with known rates, in small: the boldest of twenty candidates is accepted about as often as predicted, and never falsely."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.acceptance_counts import SCENARIOS, Scenario, accepts, chance_of, searched
from optimize.guard.acceptance_rule import CAUTION
from optimize.guard.limits import POWER, Limits


@pytest.mark.parametrize("scenario", [SCENARIOS[0], SCENARIOS[11]], ids=lambda scenario: scenario.name)
def test_the_boldest_of_twenty_is_accepted_as_often_as_is_asked(scenario: Scenario) -> None:
    asked = 1 - CAUTION * (1 - POWER)
    drawn = [found for k in range(12) if (found := searched(scenario, asked, np.random.default_rng((0, k)))) is not None]
    assert len(drawn) >= 11
    # of 12 with a chance of 90 %, 9 or more are accepted in 97 of 100 draws
    assert sum(search.accepted for search in drawn) >= 9
    assert not any(search.accepted and search.false for search in drawn)
    assert min(search.chance for search in drawn) >= asked


def test_losses_are_judged_by_class_and_together() -> None:
    scenario = Scenario("made up", (100, 100), (200, 200), Limits(0.03, 0.1), 0.0, 0.1)
    nothing, one_class = np.zeros(2, np.int64), np.array([20, 0])
    assert accepts(scenario, nothing, nothing)
    assert not accepts(scenario, one_class, nothing)
    assert chance_of(scenario, nothing, nothing) > 0.85 > chance_of(scenario, np.array([5, 0]), nothing)
