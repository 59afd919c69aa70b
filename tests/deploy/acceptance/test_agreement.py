"""Agreement without labels: the bound by scipy's beta distribution, the inequalities by counting, and the error rate by simulation."""

from __future__ import annotations

from math import ceil, log
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

from optimize.deploy.acceptance.agreement import judge_agreement, required_n
from optimize.deploy.acceptance.judgement import Judgement
from optimize.guard.intervals import share_of
from optimize.guard.limits import Limits, Relative
from optimize.run.verification.site import replayed
from tests.deploy.acceptance.made import answering, unlabelled, use

LIMITS = Limits(max_drop=0.02, max_class_drop=0.06)


def judged(before: np.ndarray, after: np.ndarray, limits: Limits = LIMITS, **arrays: Any) -> Judgement:
    return judge_agreement(limits, unlabelled(len(before), **arrays), use(), answering(before), answering(after))


def with_changes(count: int, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of two models that differ on the first cases."""
    before = np.arange(count) % 3
    after = before.copy()
    after[:changed] = (after[:changed] + 1) % 3
    return before, after


@pytest.mark.parametrize(("count", "changed"), [(600, 3), (600, 0), (50, 2)])
def test_the_bound_is_that_of_clopper_and_pearson(count: int, changed: int) -> None:
    found = judged(*with_changes(count, changed))
    (figure,) = found.figures
    assert figure["high"] == pytest.approx(beta.ppf(0.95, changed + 1, count - changed), abs=1e-9)
    assert (figure["value"], figure["seen"]) == (pytest.approx(changed / count), count)
    assert found.disagreements == tuple(range(changed))
    assert found.outcome == ("pass" if figure["high"] <= 0.02 else "inconclusive")


def test_the_examples_of_the_module() -> None:
    assert beta.ppf(0.95, 4, 597) == pytest.approx(0.0129, abs=5e-5)
    assert beta.ppf(0.95, 2, 599) == pytest.approx(0.0079, abs=5e-5)
    assert beta.ppf(0.95, 2, 599) / 0.06 == pytest.approx(0.131, abs=5e-4)
    assert beta.ppf(0.95, 2, 599) / 0.15 < 0.0526


def test_so_many_agreeing_cases_decide() -> None:
    """0.98^n is at most 5 %."""
    enough = ceil(log(0.05) / log(0.98))
    (figure,) = judged(*with_changes(50, 0)).figures
    assert (figure["needed"], enough) == (149, 149)
    assert judged(*with_changes(enough, 0)).outcome == "pass"
    assert judged(*with_changes(enough - 1, 0)).outcome == "inconclusive"


def test_the_number_of_cases_decides_with_the_power_that_is_said() -> None:
    """By the binomial distribution: the largest count that passes, and its chance."""
    estimate = share_of(np.arange(200) < 2, 0.95)
    needed = required_n(estimate, 0.02)
    assert needed is not None

    def power(n: int) -> float:
        passing = [k for k in range(n // 10) if beta.ppf(0.95, k + 1, n - k) <= 0.02]
        return float(binom.cdf(max(passing, default=-1), n, 0.01))

    assert power(needed) >= 0.8 > power(needed - 1)


def test_a_large_disagreement_is_not_a_failure_and_asks_for_labels() -> None:
    found = judged(*with_changes(300, 120))
    assert found.outcome == "inconclusive"
    assert found.figures[0]["needed"] is None
    assert "label the 120 cases on which they disagree" in found.reasons[1]


def test_no_truth_makes_a_loss_larger_than_what_is_counted() -> None:
    """Random truths: the drop of accuracy is at most the share of disagreements, that of recall at most P(O = c, A != c) / P(Y = c)."""
    draw = np.random.default_rng(1)
    for _ in range(300):
        truth, before, after = draw.integers(0, 3, (3, 40))
        assert np.mean(before == truth) - np.mean(after == truth) <= np.mean(before != after) + 1e-12
        for k in range(3):
            of_class = truth == k
            if of_class.any():
                drop = np.mean(before[of_class] == k) - np.mean(after[of_class] == k)
                assert drop <= np.mean((before == k) & (after != k)) / of_class.mean() + 1e-12


def test_the_bound_is_below_the_true_drop_in_one_of_twenty_samples_at_most() -> None:
    """The worst truth: the original is always right, so every disagreement is a loss."""
    draw, missed = np.random.default_rng(5), 0
    for _ in range(300):
        before = draw.integers(0, 3, 150)
        after = np.where(draw.random(150) < 0.04, (before + 1) % 3, before)
        missed += judged(before, after).figures[0]["high"] < 0.04
    # of 300 samples with a true rate of 5 %, more than 24 miss with a chance of 1 %
    assert missed <= 24


def test_a_class_needs_its_share_and_is_judged_where_the_site_states_it() -> None:
    before, after = with_changes(600, 1)  # the first case goes from a to b
    without = judged(before, after)
    high = beta.ppf(0.95, 2, 599)
    assert [(row["name"], row["answers"], row["left"]) for row in without.per_class] == [("a", 200, 1), ("b", 200, 0), ("c", 200, 0)]
    assert without.per_class[0]["needed_share"] == pytest.approx(high / 0.06)
    assert any(line.startswith("max_class_drop") for line in without.not_judged)
    assert without.outcome == "pass"
    stated = judged(before, after, class_shares=np.array([0.15, 0.3, 0.5]))
    of_class = {figure["name"]: figure for figure in stated.figures if figure["scope"] == "class"}
    assert of_class["a"]["high"] == pytest.approx(high / 0.15)
    assert (of_class["a"]["outcome"], stated.outcome, stated.not_judged) == ("pass", "pass", ())
    rare = judged(before, after, class_shares=np.array([0.05, 0.3, 0.5]))
    assert rare.outcome == "inconclusive"
    needed = next(figure["needed"] for figure in rare.figures if figure["name"] == "a")
    assert needed > 600


def test_cases_of_one_patient_count_less() -> None:
    before, after = with_changes(600, 3)
    alone = judged(before, after).figures[0]["high"]
    together = judged(before, after, patient=np.repeat(np.arange(60), 10)).figures[0]["high"]
    assert together > 1.5 * alone


def test_each_subgroup_is_bounded() -> None:
    before, after = with_changes(600, 0)
    found = judged(before, after, site_group=np.array(["x"] * 570 + ["y"] * 30))
    figures = {figure["name"]: figure for figure in found.figures if figure["scope"] == "group"}
    assert figures["y"]["high"] == pytest.approx(1 - 0.05 ** (1 / 30))
    assert (figures["x"]["outcome"], figures["y"]["outcome"], found.outcome) == ("pass", "inconclusive", "inconclusive")


def test_outputs_that_are_no_numbers_agree_with_nothing() -> None:
    before = np.zeros(40, dtype=int)
    broken = np.eye(3, dtype=np.float32)[before]
    broken[7] = np.nan
    cases = unlabelled(40)
    found = judge_agreement(LIMITS, cases, use(), answering(before), replayed(broken))
    assert found.disagreements == (7,)


@pytest.mark.parametrize(
    ("limits", "named", "outcome"),
    [
        (Limits(max_drop=Relative(0.02)), "max_drop: a share of the original", "inconclusive"),
        (Limits(metric="auc"), "max_drop: a limit of auc", "inconclusive"),
        (Limits(class_metric="f1"), "max_class_drop: a limit of f1", "pass"),
        (Limits(max_ece_rise=0.02), "max_ece_rise: needs labels", "pass"),
        (Limits(min_class_recall=0.8), "min_class_recall: needs labels", "pass"),
    ],
)
def test_what_needs_labels_is_named(limits: Limits, named: str, outcome: str) -> None:
    found = judged(*with_changes(600, 0), limits=limits)
    assert any(line.startswith(named) for line in found.not_judged), found.not_judged
    assert found.outcome == outcome


def test_a_verdict_by_points_compares_the_share_itself() -> None:
    found = judged(*with_changes(100, 1), limits=Limits(max_drop=0.02, verdict="point"))
    assert (found.outcome, found.figures[0]["high"]) == ("pass", None)


def test_the_share_of_regressed_cases_is_bounded_too() -> None:
    found = judged(*with_changes(100, 2), limits=Limits(max_drop=0.1, max_regressed=0.05))
    by_limit = {figure["limit"]: figure["outcome"] for figure in found.figures}
    assert by_limit == {0.1: "pass", 0.05: "inconclusive"}
