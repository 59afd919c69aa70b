"""Grades: kappa by scikit-learn's formula, its bounds by resampling, and limits that fire where accuracy sees nothing."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.guard.ordinal_comparison import OrdinalComparison
from optimize.guard.ordinal_score import OrdinalScore, kappas
from optimize.guard.score import score

GRADES = ("0", "1", "2", "3", "4")


def graded(given: np.ndarray, labels: np.ndarray) -> OrdinalScore:
    found = score("ordinal", [(np.eye(5, dtype=np.float32)[given], labels)], GRADES)
    assert isinstance(found, OrdinalScore)
    return found


def sampled(n: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    made = np.random.default_rng(seed)
    labels = made.integers(0, 5, n)
    off = np.where(made.random(n) < wrong, made.choice((-1, 1), n), 0)
    return labels, np.clip(labels + off, 0, 4)


def test_kappa_is_one_minus_the_weighted_disagreement_over_that_by_chance() -> None:
    labels, given = sampled(500, 0.4)
    found = graded(given, labels)
    # for squared weights kappa is 2 cov / (var + var + difference of means squared), a concordance: Krippendorff 1970
    covariance = ((labels - labels.mean()) * (given - given.mean())).mean()
    expected = 2 * covariance / (labels.var() + given.var() + (labels.mean() - given.mean()) ** 2)
    assert found.kappa == pytest.approx(expected)
    assert found.as_dict()["overall"]["mae"] == pytest.approx(np.abs(labels - given).mean())
    assert kappas(np.diag([3.0, 0, 0])[None])[0] == 1.0


def test_grades_that_are_far_off_break_kappa_and_not_accuracy() -> None:
    labels, near = sampled(1500, 0.2)
    far = np.where(near != labels, np.where(labels > 1, 0, 4), near)
    limits = Limits(max_drop=0.03, max_class_drop=0.2)
    rails = {rail.title: rail.outcome for rail in judged_rails(limits, graded(near, labels), graded(far, labels))}
    assert rails["overall accuracy"] == "pass"
    assert rails["weighted kappa"] == "fail"
    assert rails["mean error of the grades"] == "fail"
    assert {f"recall of {grade}" for grade in GRADES} < set(rails)
    assert set(judged_rails(limits, graded(near, labels), graded(near, labels))[k].outcome for k in range(8)) == {"pass"}


def test_bounds_of_kappa_hold_those_of_a_plain_bootstrap() -> None:
    labels, before = sampled(400, 0.2)
    _, after = sampled(400, 0.3)
    pair = graded(before, labels), graded(after, labels)
    estimate, old, new = OrdinalComparison(Limits(), *pair).kappa_drop(0.03)
    assert estimate.value == pytest.approx(old - new)
    made = np.random.default_rng(1)
    drops = []
    for _ in range(300):
        drawn = made.integers(0, 400, 400)
        drops.append(graded(before[drawn], labels[drawn]).kappa - graded(after[drawn], labels[drawn]).kappa)
    assert estimate.for_search.low == pytest.approx(np.quantile(drops, 0.05), abs=0.006)
    assert estimate.for_search.high == pytest.approx(np.quantile(drops, 0.95), abs=0.006)
    assert estimate.high >= estimate.for_search.high
