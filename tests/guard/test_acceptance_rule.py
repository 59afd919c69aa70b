"""The rule of a search: by the chance of acceptance, less where the guard is too small, and by bounds where nothing can be accepted."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.guard.acceptance_rule import CAUTION, NEARLY, AcceptanceRule
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.guard.verdict import accept_proposal
from tests.guard.made import said
from tests.guard.test_acceptance_chance import sides

LIMITS = Limits(0.03, 0.1)


def rule(guard: tuple[int, ...], test: tuple[int, ...], power: float = 0.9, limits: Limits = LIMITS) -> AcceptanceRule:
    baseline, _ = pair((0,) * len(guard), guard)
    labels = np.repeat(np.arange(len(test)), test)
    perfect = answers(said(labels, len(test)), labels, baseline.classes)
    return AcceptanceRule.planned(limits, baseline, judged_rails(limits, perfect, perfect), sum(guard), power)


def pair(lost: tuple[int, ...], guard: tuple[int, ...]) -> tuple[ClassificationScore, ClassificationScore]:
    return sides(lost, (0,) * len(guard), guard)


def test_what_will_probably_pass_is_kept_and_the_chance_is_told() -> None:
    asked, guard = rule((150, 150), (400, 400)), (150, 150)
    kept = asked(*pair((0, 1), guard))
    assert kept
    assert kept.chance is not None
    assert kept.chance >= asked.asked_chance == pytest.approx(1 - CAUTION * 0.1)
    assert "; chance of acceptance 9" in kept.reasons[0]
    assert (asked.note, asked.required_guard) == (None, None)


def test_what_may_well_fail_is_refused_with_the_weakest_rails() -> None:
    asked, guard = rule((150, 150), (400, 400)), (150, 150)
    refused = asked(*pair((1, 3), guard))
    assert not refused
    assert refused.chance is not None
    assert refused.chance < 0.94
    assert "%, 94 % is asked for" in refused.reasons[0]
    assert any("and passes with" in reason for reason in refused.reasons)
    assert rule((150, 150), (400, 400), 0.5)(*pair((1, 2), guard)), "a bolder search keeps more"


def test_a_class_that_lost_nothing_is_no_longer_let_through_on_luck() -> None:
    guard, limits = (500, 40), Limits(0.03, 0.06)
    both = pair((4, 0), guard)
    assert accept_proposal(limits, *both)
    assert not rule(guard, (1000, 60), limits=limits)(*both)


def test_a_measured_loss_beyond_the_limit_refuses_whatever_the_chance() -> None:
    guard = (3, 900)
    refused = rule(guard, (2000, 2000), 0.5)(*pair((1, 0), guard))
    assert not refused
    assert refused.reasons[0].startswith("recall of a fell by 33.33 pp")


def test_a_small_guard_asks_for_nearly_its_best_and_says_how_many_would_do() -> None:
    guard = (20, 20)
    asked = rule(guard, (150, 150))
    assert asked.best_chance < 0.9
    assert asked.asked_chance == pytest.approx(NEARLY * asked.best_chance)
    assert asked(*pair((0, 0), guard)), "what changes nothing is never refused"
    assert not asked(*pair((2, 0), guard))
    assert asked.note is not None
    assert asked.required_guard is not None
    assert asked.required_guard > 40
    assert f"with about {asked.required_guard} guard cases it could ask for that" in asked.note
    each = asked.required_guard // 2 + 1
    assert rule((each, each), (150, 150)).best_chance > 0.9


def test_a_test_split_that_can_accept_nothing_leaves_the_bounds() -> None:
    guard = (300, 300)
    asked = rule(guard, (300, 5))
    both = pair((1, 1), guard)
    assert asked.best_chance == 0
    assert asked(*both).reasons == accept_proposal(LIMITS, *both, confidence=asked.confidence).reasons
    assert asked(*both).chance is None
    assert asked.note == "the test split can accept nothing, so the search asked the guard split alone"


def test_two_rules_that_decide_alike_have_one_identity() -> None:
    one, same, other = rule((50, 50), (100, 100)), rule((50, 50), (100, 100)), rule((50, 50), (100, 101))
    assert one.identity == same.identity != other.identity
    assert set(one.as_dict()) == {"power", "asked", "unchanged", "required_guard"}
