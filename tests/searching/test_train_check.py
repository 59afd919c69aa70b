"""The check on training images: its verdict on a proposal, by cases counted by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optimize.candidate import Candidate, Floats, Labelled, Reference
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, accept_proposal
from optimize.searching import train_check as module
from optimize.searching.train_check import TrainCheck
from optimize.searching.walk import Search
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from tests import runs

PASSED = Verdict("pass", ("the guard has nothing against it",))
REFUSED = Verdict("fail", ("the guard's own",))
LIMITS = Limits(0.05, 0.5, verdict="point")
TRAIN = runs.split("train")
GUARD, TEST = 40, 100


def called(original: Candidate, limits: Limits = LIMITS, *, seed: int = 0) -> TrainCheck:
    found = TrainCheck.from_train(original, TRAIN, GUARD, TEST, runs.CLASSES, limits, seed)
    assert found is not None
    return found


def spoilt(original: Candidate, every: int) -> Callable[[Floats], Floats]:
    """Answers of the original, one in so many turned round; it gets all of train right."""
    asked = 0

    def predict(inputs: Floats) -> Floats:
        nonlocal asked
        answers = original.predict(inputs).copy()
        answers[(asked + np.arange(len(answers))) % every == 0] *= -1
        asked += len(answers)
        return answers

    return predict


def never(inputs: Floats) -> Floats:
    raise AssertionError


def of_few(original: Candidate, lost: int, limits: Limits = LIMITS, groups: Mapping[str, Any] | None = None) -> Verdict:
    """The guard's verdict by twenty cases of which so many were lost."""
    few = replace(TRAIN, groups=groups or {}).take(np.arange(0, len(TRAIN), 8))
    scores: list[Score] = []
    for every in (len(few) + 1, len(few) // lost):
        answers = original.predict if not scores else spoilt(original, every)
        scores.append(score_split(answers, few, runs.CLASSES, "few"))
    return accept_proposal(limits, scores[0], scores[1])


def test_what_loses_nothing_on_train_is_left_to_the_guard(original: Candidate) -> None:
    assert called(original).review(PASSED, original.predict) is PASSED


def test_it_objects_to_what_loses_more_than_the_limit(original: Candidate) -> None:
    found = called(original).review(PASSED, spoilt(original, 5))
    assert found.outcome == "fail"
    assert found.reasons[0].startswith("on training images, overall accuracy fell by 20 pp on 160 cases")
    assert called(original).review(PASSED, spoilt(original, 100)) is PASSED


def test_the_chance_in_what_it_saw_counts(original: Candidate) -> None:
    # one in 20 is the limit itself
    found = called(original).review(PASSED, spoilt(original, 20))
    assert "fell by 5 pp on 160 cases; the limit is 5 pp; the true loss may be" in found.reasons[0]


def test_what_the_guard_refuses_for_another_reason_stays_refused(original: Candidate) -> None:
    assert called(original).review(REFUSED, never) is REFUSED
    for lost in (2, 4):  # a tenth of them may be chance, and is more than one in twenty all the same
        lossy = of_few(original, lost)
        assert called(original).review(lossy, never) is lossy


def test_chance_that_the_guard_cannot_exclude_is_settled(original: Candidate) -> None:
    unsure = of_few(original, 1)
    assert not unsure
    assert "larger by chance" in unsure.reasons[0]
    found = called(original).review(unsure, original.predict)
    assert found.outcome == "pass"
    assert found.reasons == (
        "overall accuracy 95.00 % against 100.00 %, limit 5 pp; recall of the worst class bar −20.00 pp, limit 50 pp; "
        "training images exclude a larger loss, for which the guard split is too small",
    )
    unsettled = called(original).review(unsure, spoilt(original, 5))
    assert unsettled.reasons[: len(unsure.reasons)] == unsure.reasons
    assert unsettled.reasons[len(unsure.reasons)].startswith("on training images, overall accuracy fell by 20 pp")
    assert (unsettled.outcome, unsettled.rails) == ("fail", unsure.rails)


def test_a_figure_to_be_reached_is_not_settled(original: Candidate) -> None:
    unsure = of_few(original, 1, replace(LIMITS, min_class_recall=0.75))  # four of five, and chance could hide less
    assert not unsure
    assert called(original).review(unsure, never) is unsure


def test_a_subgroup_is_not_settled(original: Candidate) -> None:
    sites = {"site": np.array(["north", "south"])[np.arange(len(TRAIN)) % 2]}
    unsure = of_few(original, 1, replace(LIMITS, max_group_drop=0.11), sites)
    assert [rail.column for rail in unsure.rails if not (rail.lossless or rail.surely_held)] == [None, "site"]
    assert called(original).review(unsure, never) is unsure


def test_chance_is_not_settled_where_the_verdict_asks_for_a_bound(original: Candidate) -> None:
    strict = replace(LIMITS, verdict="statistical")
    unsure = of_few(original, 1, strict)
    assert called(original, strict).review(unsure, never) is unsure


def test_a_network_that_was_trained_on_them_may_be_objected_to_alone(original: Candidate) -> None:
    reference = Reference(original, TRAIN.inputs(), train=Labelled(TRAIN.inputs, TRAIN.labels, None))
    trained = Finetune(1)(original, reference)
    about = called(original).for_candidate(trained)
    unsure = of_few(original, 1)
    assert about.review(unsure, never) is unsure
    assert not about.review(PASSED, spoilt(original, 5))
    assert called(original).for_candidate(Prune(0.001)(original, reference)).review(unsure, original.predict)


@pytest.mark.parametrize("reached", [{"min_class_f1": 1.0}, {"min_class_recall": 1.0}, {"max_ece_rise": 1e-6}], ids=str)
def test_figures_to_be_reached_are_the_guards_business(original: Candidate, reached: dict[str, Any]) -> None:
    assert called(original, replace(LIMITS, **reached)).review(PASSED, spoilt(original, 100)) is PASSED


def test_a_heavy_network_is_asked_about_fewer_images(original: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(called(original).split) == len(TRAIN)
    monkeypatch.setattr(module, "MAC_BUDGET", 1)
    monkeypatch.setattr(module, "MIN_TRAIN_CHECK_CASES", GUARD + 1)
    few, same, other = (called(original, seed=seed).split for seed in (0, 0, 1))
    assert len(few) == GUARD + 1
    assert few.ids.tolist() == same.ids.tolist() != other.ids.tolist()


def test_where_train_is_no_larger_than_the_guard_nobody_is_asked(original: Candidate) -> None:
    assert TrainCheck.from_train(original, TRAIN, len(TRAIN), TEST, runs.CLASSES, LIMITS, 0) is None


def test_a_walk_goes_back_where_it_objects(search: Search, original: Candidate) -> None:
    loose = replace(search, limits=Limits(0.1, 0.5, verdict="point"), strategy=lambda walk: None)
    lossy = Prune(0.3)  # two of 160 on train, and not many more on the guard
    for check, kept in ((None, True), (called(original), True), (called(original, Limits(0.005, 0.5, verdict="point")), False)):
        walk = replace(loose, train_check=check).walk()
        trial = walk.propose(lossy, walk.original)
        assert bool(trial) == (walk.best is not walk.original) == kept
        assert trial.verdict.reasons[0].startswith("on training images") != kept
