"""Verdicts: at the limit, just over it, with too few cases; each reason names what fell, by how much, and the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from optimize.guard.confusion import Confusion, confuse
from optimize.guard.limits import Limits, parse_points
from optimize.guard.verdict import admit, judge, worst_class

CELLS = ("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet")
# Published for eight kinds of blood cell: the original, and the same network cut by stochastic gates.
ORIGINAL = [
    [243, 0, 0, 0, 0, 0, 1, 0],
    [0, 623, 0, 1, 0, 0, 0, 0],
    [0, 0, 303, 3, 2, 3, 0, 0],
    [0, 1, 4, 559, 1, 2, 12, 0],
    [0, 0, 1, 2, 238, 2, 0, 0],
    [1, 0, 0, 5, 1, 276, 1, 0],
    [0, 0, 0, 9, 0, 0, 657, 0],
    [0, 0, 0, 0, 0, 0, 0, 470],
]
GATED = [
    [192, 0, 0, 12, 10, 15, 15, 0],
    [0, 604, 5, 10, 2, 1, 2, 0],
    [4, 2, 297, 3, 2, 3, 0, 0],
    [12, 10, 15, 500, 15, 12, 15, 0],
    [10, 2, 5, 10, 212, 2, 2, 0],
    [15, 1, 2, 15, 10, 239, 2, 0],
    [15, 2, 2, 12, 2, 1, 632, 0],
    [0, 0, 0, 2, 0, 0, 1, 467],
]


def two(right: tuple[int, int], of: tuple[int, int] = (100, 100)) -> Confusion:
    """A score of two classes by how many cases of each are right."""
    return Confusion(np.array([[right[0], of[0] - right[0]], [of[1] - right[1], right[1]]]), ("a", "b"))


def table(rows: Sequence[Sequence[int]], classes: Sequence[str] = CELLS) -> Confusion:
    return Confusion(np.array(rows), tuple(classes))


def test_no_change_passes() -> None:
    verdict = judge(Limits(0.0, 0.0), two((90, 80)), two((90, 80)))
    assert verdict.outcome == "pass"
    assert verdict
    assert verdict.reasons == ("overall accuracy 85.00 % against 85.00 %, limit 0 pp; worst class a +0.00 pp, limit 0 pp",)


@pytest.mark.parametrize(("lost", "outcome"), [(3, "pass"), (4, "pass"), (5, "fail")])
def test_overall_at_the_limit_passes_and_just_over_it_fails(lost: int, outcome: str) -> None:
    verdict = judge(Limits(0.02, 1.0), two((100, 100)), two((100 - lost, 100)))
    assert verdict.outcome == outcome
    assert bool(verdict) == (outcome == "pass")
    if not verdict:
        assert verdict.reasons == ("overall accuracy fell by 2.5 pp on 200 cases; the limit is 2 pp",)


@pytest.mark.parametrize(("lost", "outcome"), [(5, "pass"), (6, "pass"), (7, "fail")])
def test_one_class_at_the_limit_passes_and_just_over_it_fails(lost: int, outcome: str) -> None:
    verdict = judge(Limits(1.0, 0.06), two((100, 100)), two((100, 100 - lost)))
    assert verdict.outcome == outcome
    if not verdict:
        assert verdict.reasons == ("recall of b fell by 7 pp on 100 cases; the limit is 6 pp",)


@pytest.mark.parametrize("tenths", range(1, 100))
def test_exactly_the_limit_passes_whatever_floats_make_of_it(tenths: int) -> None:
    """0.7 / 100 is less than 7 / 1000 in floats."""
    limit = parse_points(f"{tenths / 10}pp")
    for cases in (1000, 3000):
        before, after = two((cases, cases), (cases, cases)), two((cases - tenths * cases // 1000, cases), (cases, cases))
        assert judge(Limits(1.0, limit), before, after).outcome == "pass"


def test_a_reason_never_rounds_the_drop_down_to_its_limit() -> None:
    verdict = judge(Limits(0.02, 1.0), two((30_000, 0), (30_000, 0)), two((29_399, 0), (30_000, 0)))
    assert verdict.reasons[0] == "overall accuracy fell by 2.003 pp on 30000 cases; the limit is 2 pp"


@pytest.mark.parametrize(("f1", "outcome"), [(0.7, "pass"), (0.70001, "fail")])
def test_f1_at_the_limit_passes_and_just_under_it_fails(f1: float, outcome: str) -> None:
    after = table([[7, 3], [3, 87]], "ab")  # of a: 2 * 7 / (10 + 10)
    verdict = judge(Limits(1.0, 1.0, f1), after, after)
    assert verdict.outcome == outcome
    if not verdict:
        assert verdict.reasons == ("F1 of a is 70.00 %; the limit is 70.00 %",)


def test_small_drops_do_not_add_up_unseen() -> None:
    limits, original, once, twice = Limits(0.02, 0.06), two((100, 100)), two((97, 100)), two((94, 100))
    assert judge(limits, original, once)
    assert judge(limits, once, twice)
    assert not judge(limits, original, twice)
    assert not admit(limits, original, twice)


def test_a_class_that_is_lost_fails_although_the_whole_got_better() -> None:
    before, after = two((95, 60), (100, 900)), two((80, 900), (100, 900))
    assert after.accuracy > before.accuracy
    for verdict in (judge(Limits(), before, after), admit(Limits(), before, after)):
        assert verdict.outcome == "fail"
        assert verdict.reasons[0].startswith("recall of a fell by 15 pp on 100 cases; the limit is 6 pp")
    name, drop = worst_class(before, after)
    assert (name, round(drop, 12)) == ("a", 0.15)


def test_too_few_cases_are_inconclusive_with_the_number_that_would_do() -> None:
    before = two((5, 100), (5, 100))
    verdict = judge(Limits(0.02, 0.06), before, before)
    assert verdict.outcome == "inconclusive"
    assert not verdict
    assert verdict.reasons == ("recall of a has 5 cases; at least 17 are needed to tell a drop of 6 pp",)


@pytest.mark.parametrize(("limit", "needed"), [(0.06, 17), (0.05, 20), (0.02, 50), (0.03, 34), (0.01, 100), (0.1, 10), (1.0, 1)])
def test_one_case_must_weigh_no_more_than_the_limit(limit: float, needed: int) -> None:
    enough, short = (two((cases, 1000), (cases, 1000)) for cases in (needed, needed - 1))
    assert judge(Limits(1.0, limit), enough, enough).outcome == "pass"
    assert judge(Limits(1.0, limit), short, short).outcome == "inconclusive"
    assert f"at least {needed} are needed" in judge(Limits(1.0, limit), short, short).reasons[0]


def test_no_case_at_all_is_inconclusive_even_under_an_f1_limit() -> None:
    before = two((0, 100), (0, 100))
    verdict = judge(Limits(0.02, 0.06, 0.9), before, before)
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons == ("recall of a has 0 cases; at least 17 are needed to tell a drop of 6 pp",)
    assert admit(Limits(0.02, 0.06, 0.9), before, before)


def test_a_drop_too_large_for_chance_fails_on_any_number() -> None:
    before = two((10, 100), (10, 100))
    # The chance of losing k or more of 10 cases at a rate of 6 %: k = 2 gives 0.118, k = 3 gives 0.019.
    chances = [sum(math.comb(10, j) * 0.06**j * 0.94 ** (10 - j) for j in range(k, 11)) for k in (2, 3)]
    assert chances[0] > 0.05 > chances[1]
    assert judge(Limits(1.0, 0.06), before, two((8, 100), (10, 100))).outcome == "inconclusive"
    failed = judge(Limits(1.0, 0.06), before, two((7, 100), (10, 100)))
    assert failed.outcome == "fail"
    assert failed.reasons == ("recall of a fell by 30 pp on 10 cases; the limit is 6 pp",)


def test_a_failure_outweighs_a_doubt_and_both_are_told() -> None:
    verdict = judge(Limits(), two((100, 5), (100, 5)), two((50, 5), (100, 5)))
    assert verdict.outcome == "fail"
    assert len(verdict.reasons) == 3
    assert verdict.reasons[2].startswith("recall of b has 5 cases")


def test_outputs_that_are_not_numbers_fail() -> None:
    labels = np.repeat([0, 1], 100)
    right = np.eye(2, dtype=np.float32)[labels]
    before, after = confuse(right, labels, "ab"), confuse(np.full_like(right, np.nan), labels, "ab")
    assert judge(Limits(), before, after).outcome == "fail"
    assert admit(Limits(), before, after).outcome == "fail"


def test_the_published_network_of_gates_does_not_hold_its_own_guard_rail() -> None:
    original, gated = table(ORIGINAL), table(GATED)
    f1 = {name: round(100 * each.f1, 2) for name, each in gated.per_class.items()}
    assert (f1["basophil"], f1["lymphocyte"], f1["immature granulocyte"]) == (78.05, 85.48, 87.49)
    assert gated.as_dict()["overall"] == {"accuracy": pytest.approx(0.9187, abs=5e-5), "macro_f1": pytest.approx(0.9018, abs=5e-5)}
    assert original.as_dict()["overall"] == {"accuracy": pytest.approx(0.9848, abs=5e-5), "macro_f1": pytest.approx(0.9846, abs=5e-5)}
    assert judge(Limits(1.0, 1.0, 0.85), original, original)
    verdict = judge(Limits(1.0, 1.0, 0.85), original, gated)
    assert verdict.outcome == "fail"
    assert verdict.reasons == ("F1 of basophil is 78.05 %; the limit is 85.00 %",)
    # and the usual drops, which nobody had set
    assert judge(Limits(), original, gated).outcome == "fail"
    name, drop = worst_class(original, gated)
    assert (name, round(drop, 12)) == ("basophil", round((243 - 192) / 244, 12))


def wilson(lost: int, cases: int, z: float = 1.2815515655446004) -> float:
    """Upper end of Wilson's interval; z is the 90 % point of the normal distribution."""
    share = lost / cases
    middle, spread = share + z**2 / (2 * cases), z * math.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2))
    return (middle + spread) / (1 + z**2 / cases)


@pytest.mark.parametrize(("lost", "cases"), [(1, 100), (4, 100), (5, 100), (20, 500), (27, 500), (60, 1000)])
def test_the_search_allows_for_chance(lost: int, cases: int) -> None:
    """Its threshold lies between two limits a hair above and below the bound."""
    bound = wilson(lost, cases)
    before, after = two((cases, cases), (cases, cases)), two((cases - lost, cases), (cases, cases))
    assert admit(Limits(1.0, bound + 1e-6), before, after)
    refused = admit(Limits(1.0, bound - 1e-6), before, after)
    assert refused.outcome == "fail"
    assert f"chance alone may add {100 * (bound - lost / cases):.4g} pp" in refused.reasons[0]


def test_the_search_is_stricter_than_the_verdict() -> None:
    limits, before, after = Limits(1.0, 0.06), two((100, 100)), two((100, 94))
    assert judge(limits, before, after)
    assert not admit(limits, before, after)


def test_where_nothing_was_lost_the_search_goes_on_however_few_the_cases() -> None:
    assert admit(Limits(), two((3, 3), (3, 3)), two((3, 3), (3, 3)))
    assert admit(Limits(0.0, 0.0), two((2, 3), (3, 3)), two((3, 3), (3, 3)))


def test_the_worst_class_may_have_risen_and_is_never_an_empty_one() -> None:
    risen, fallen = worst_class(two((50, 50)), two((60, 90))), worst_class(two((0, 50), (0, 100)), two((0, 40), (0, 100)))
    assert [(name, round(drop, 12)) for name, drop in (risen, fallen)] == [("a", -0.1), ("b", 0.1)]
