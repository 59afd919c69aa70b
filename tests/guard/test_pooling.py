"""Classes that borrow from one another in the search: counts by hand, what is left alone, and what it is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.studies.admission import Kind, asked, kinds
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.intervals import drop_of_share
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.guard.pooling import POOLED, pooled
from optimize.guard.rail import Rail
from optimize.guard.verdict import accept_proposal, judge
from tests.guard.made import said

Z = float(stats.norm.ppf(0.9))
POINT = Limits(1.0, 1.0, verdict="point", confidence=0.9)


def lost_of(
    lost: tuple[int, ...], gained: tuple[int, ...], cases: int = 25, column: list[str] | None = None, patients: np.ndarray | None = None
) -> tuple[ClassificationScore, ClassificationScore]:
    """As many classes of so many cases each, with what each lost and gained."""
    count = len(lost)
    labels = np.repeat(np.arange(count), cases)
    place = np.tile(np.arange(cases), count)
    fell, rose = (np.repeat(each, cases) for each in (lost, gained))
    sides = [~((place >= fell) & (place < fell + rose)), ~(place < fell)]
    groups = {} if column is None else {"device": np.array(column)}
    names = tuple("abcdefgh"[:count])
    decided = (np.where(right, labels, (labels + 1) % count) for right in sides)
    before, after = (answers(said(each, count), labels, names, patients, groups) for each in decided)
    return before, after


def of_class(rails: tuple[Rail, ...], name: str) -> Rail:
    return next(rail for rail in rails if rail.scope == "class" and rail.name == name)


def wilson(lost: float, cases: float) -> float:
    share = lost / cases
    middle, spread = share + Z**2 / (2 * cases), Z * math.sqrt(share * (1 - share) / cases + Z**2 / (4 * cases**2))
    return (middle + spread) / (1 + Z**2 / cases)


@pytest.mark.parametrize(("lost", "worst"), [((1, 0, 0, 0), 1), ((1, 1, 1, 0), 1), ((2, 1, 0, 1), 2)])
def test_without_gains_it_is_wilsons_bound_of_one_loss_more(lost: tuple[int, ...], worst: int) -> None:
    """Of all 100 cases `sum(lost)` were lost: one of them comes with 100 / sum(lost) cases."""
    before, after = lost_of(lost, (0, 0, 0, 0))
    rail = of_class(accept_proposal(POINT, before, after).rails, "a")
    assert rail.estimate.high == pytest.approx(max(worst / 25, wilson(worst + 1, 25 + 100 / sum(lost))))
    assert rail.estimate.method.endswith(POOLED)
    assert rail.value == worst / 25


def test_with_gains_the_bound_solves_the_score_equation() -> None:
    """3 of 100 lost and 6 gained: class a's 1 and 0 of 25 become 2 and 2 of 58 1/3, and the bound is a root of Tango's equation."""
    before, after = lost_of((1, 1, 1, 0), (0, 2, 2, 2))
    high = of_class(accept_proposal(POINT, before, after).rails, "a").estimate.high
    b, c, n = 2.0, 2.0, 25 + 100 / 3
    linear = (2 * n - b + c) * high - b - c
    likeliest = (math.sqrt(linear**2 + 8 * n * c * high * (1 - high)) - linear) / (4 * n)
    assert n * high - (b - c) == pytest.approx(Z * math.sqrt(n * (2 * likeliest + high * (1 - high))), rel=1e-6)


def test_what_was_measured_is_never_talked_down() -> None:
    """Two of 25 lost in one class and none elsewhere: with what it borrows 5 % at most, measured 8 %."""
    before, after = lost_of((2, 0, 0, 0, 0, 0, 0, 0), (0,) * 8)
    assert wilson(3, 25 + 100) < 0.06 < 0.08
    refused = accept_proposal(replace(POINT, max_class_drop=0.06), before, after)
    assert refused.reasons == ("recall of a fell by 8 pp on 25 cases; the limit is 6 pp",)
    assert accept_proposal(replace(POINT, max_class_drop=0.08), before, after)


def test_one_lost_case_of_a_small_class_is_no_refusal_where_the_others_lost_nothing() -> None:
    before, after = lost_of((1, 0, 0, 0, 0, 0, 0, 0), (0,) * 8)
    limits = replace(POINT, max_class_drop=0.06)
    assert drop_of_share(before.correct[:25], after.correct[:25], 0.9).high > 0.06, "by itself it is one"
    assert accept_proposal(limits, before, after)
    assert not accept_proposal(limits, *lost_of((1,) * 8, (0,) * 8)), "and where all lost as much it is one"


def test_a_verdict_with_statistics_asks_each_class_by_itself() -> None:
    before, after = lost_of((1, 0, 0, 0), (0,) * 4)
    statistical = replace(POINT, verdict="statistical")
    own = drop_of_share(before.correct[:25], after.correct[:25], 0.9)
    assert own.usual is not None
    assert of_class(accept_proposal(statistical, before, after).rails, "a").estimate.high == pytest.approx(own.usual[1])
    assert of_class(judge(replace(POINT, confidence=0.9), before, after).rails, "a").estimate.high == pytest.approx(own.high)


def test_cases_of_the_same_patient_and_floors_keep_their_bounds() -> None:
    before, after = lost_of((1, 0), (0, 0), patients=np.arange(50) // 2)
    rails = tuple(judged_rails(replace(POINT, min_class_recall=0.5), before, after))
    assert pooled(rails, 0.9) == rails
    before, after = lost_of((1, 0), (0, 0))
    rails = tuple(judged_rails(replace(POINT, min_class_recall=0.5), before, after))
    changed = [rail.rule + " " + rail.scope for rail, new in zip(rails, pooled(rails, 0.9), strict=True) if rail is not new]
    assert changed == ["drop class", "drop class"]


def test_subgroups_borrow_within_their_column() -> None:
    """Of 50 cases two were lost: one with 25, so device x's one of 20 is two of 45."""
    column = ["x"] * 10 + ["y"] * 15 + ["x"] * 10 + ["y"] * 15
    before, after = lost_of((1, 0), (0, 0), column=column)
    rails = {rail.name: rail for rail in accept_proposal(POINT, before, after).rails if rail.scope == "group"}
    assert rails["x"].estimate.high == pytest.approx(wilson(2, 20 + 50))
    assert rails["y"].estimate.high == pytest.approx(wilson(1, 30 + 50))


@pytest.mark.parametrize("kind", [kinds()[0], kinds()[-1]], ids=["alike", "one class alone"])
def test_it_lets_more_pass_and_what_passes_holds_as_often(kind: Kind) -> None:
    found = asked(kind, repeats=400, seed=0)
    assert found["with"]["admitted"] > 1.5 * found["alone"]["admitted"]
    assert found["with"]["passed_of_admitted"] >= found["alone"]["passed_of_admitted"] - 0.1
