"""Verdicts: with statistics and without, at the limit, over it, with too few cases; each reason names what fell, by how much, the limit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from optimize.errors import InputError
from optimize.guard.classification_score import answers
from optimize.guard.intervals import drop_of_share
from optimize.guard.limits import PRESETS, Limits, Relative, parse_points
from optimize.guard.verdict import SEARCH_CONFIDENCE, accept_proposal, judge, search_confidence, worst_class
from tests.guard.made import GATED, ORIGINAL, moved, said, table, two

Z = float(stats.norm.ppf(0.95))


def point(*limits: float, **more: Any) -> Limits:
    return Limits(*limits, verdict="point", **more)


def test_no_change_passes() -> None:
    verdict = judge(point(0.0, 0.0), two((90, 80)), two((90, 80)))
    assert verdict.outcome == "pass"
    assert verdict
    assert verdict.reasons == ("overall accuracy 85.00 % against 85.00 %, limit 0 pp; recall of the worst class a +0.00 pp, limit 0 pp",)
    assert [rail.title for rail in verdict.rails] == ["overall accuracy", "recall of a", "recall of b"]


@pytest.mark.parametrize(("lost", "outcome"), [(3, "pass"), (4, "pass"), (5, "fail")])
def test_by_points_the_limit_itself_passes_and_just_over_it_fails(lost: int, outcome: str) -> None:
    verdict = judge(point(0.02, 1.0), two((100, 100)), two((100 - lost, 100)))
    assert verdict.outcome == outcome
    assert bool(verdict) == (outcome == "pass")
    if not verdict:
        assert verdict.reasons == ("overall accuracy fell by 2.5 pp on 200 cases; the limit is 2 pp",)


@pytest.mark.parametrize("tenths", [1, 3, 7, 29, 57, 70, 99])
def test_exactly_the_limit_passes_whatever_floats_make_of_it(tenths: int) -> None:
    """0.7 / 100 is less than 7 / 1000 in floats."""
    limit = parse_points(f"{tenths / 10}pp")
    for cases in (1000, 3000):
        before, after = two((cases, cases), (cases, cases)), two((cases - tenths * cases // 1000, cases), (cases, cases))
        assert judge(point(1.0, limit), before, after).outcome == "pass"


def test_a_reason_never_rounds_the_drop_down_to_its_limit() -> None:
    verdict = judge(point(0.02, 1.0), two((30_000, 0), (30_000, 0)), two((29_399, 0), (30_000, 0)))
    assert verdict.reasons[0] == "overall accuracy fell by 2.003 pp on 30000 cases; the limit is 2 pp"


@pytest.mark.parametrize(("f1", "outcome"), [(0.7, "pass"), (0.70001, "fail")])
def test_f1_at_the_limit_passes_and_just_under_it_fails(f1: float, outcome: str) -> None:
    after = table([[7, 3], [3, 87]], "ab")  # of a: 2 * 7 / (10 + 10)
    verdict = judge(point(1.0, 1.0, f1), after, after)
    assert verdict.outcome == outcome
    if not verdict:
        assert verdict.reasons == ("F1 of a is 70.00 % on 10 cases; the limit is 70.00 %",)


def test_small_drops_do_not_add_up_unseen() -> None:
    limits, original, once, twice = point(0.02, 0.06), two((100, 100)), two((97, 100)), two((94, 100))
    assert judge(limits, original, once)
    assert judge(limits, once, twice)
    assert not judge(limits, original, twice)
    assert not accept_proposal(limits, original, twice)


@pytest.mark.parametrize("verdict", ["statistical", "point"])
def test_a_class_that_is_lost_fails_although_the_whole_got_better(verdict: Any) -> None:
    before, after = two((95, 60), (100, 900)), two((75, 900), (100, 900))
    assert after.accuracy > before.accuracy
    limits = Limits(verdict=verdict)
    for found in (judge(limits, before, after), accept_proposal(limits, before, after)):
        assert found.outcome == "fail"
        assert found.reasons[0].startswith("recall of a fell by 20 pp on 100 cases")
        assert "the limit is 6 pp" in found.reasons[0]
    name, drop = worst_class(before, after)
    assert (name, round(drop, 12)) == ("a", 0.2)


def test_twelve_cases_of_a_rare_class_are_inconclusive_with_the_number_that_would_do() -> None:
    rows = [[500, 0, 0], [0, 500, 0], [0, 0, 12]]
    verdict = judge(Limits(), table(rows, "abc"), table(rows, "abc"))
    assert verdict.outcome == "inconclusive"
    assert not verdict
    rare = verdict.rails[3]
    # with none lost, n cases bound the loss by 1 - 0.05^(1 / n); a little of the 5 % is spent on cases that may be gained
    assert rare.required_n == math.ceil(math.log(0.049) / math.log(1 - 0.06)) == 49
    (reason,) = verdict.reasons
    assert reason.startswith("recall of c did not change on 12 cases (a drop of 22.22 pp cannot be ruled out, at 95 % confidence)")
    assert reason.endswith("12 cases are too few; about 49 cases would give a chance of 80 % for a decision")
    for cases, enough in ((48, False), (49, True)):
        rows = [[500, 0, 0], [0, 500, 0], [0, 0, cases]]
        assert bool(judge(Limits(), table(rows, "abc"), table(rows, "abc"))) == enough


@pytest.mark.parametrize(("lost", "gained", "right"), [(1, 0, 59), (4, 0, 118), (3, 1, 80), (12, 1, 100)])
def test_the_number_that_is_named_decides_four_times_in_five(lost: int, gained: int, right: int) -> None:
    """So many cases are drawn at the rates observed, and judged."""
    sides = moved(lost, gained, right)
    rail, cases = judge(Limits(1.0, 0.06), *sides).rails[1], lost + gained + right
    assert rail.outcome == "inconclusive"
    assert rail.required_n is not None
    rng = np.random.default_rng(lost)
    decides = {}
    for count in (rail.required_n, cases):
        draws = rng.multinomial(count, [lost / cases, gained / cases, right / cases], 150).tolist()
        found = [drop_of_share(*(np.repeat(side, draw) for side in ([True, False, True], [False, True, True])), 0.95) for draw in draws]
        decides[count] = np.mean([each.high <= 0.06 or each.low > 0.06 for each in found])
    assert decides[cases] == pytest.approx(rail.power, abs=0.1)
    assert 0.72 < decides[rail.required_n] < 0.95  # counts are whole numbers: a case more may decide far more often
    assert rail.doubt.endswith(f"about {rail.required_n} cases would raise it to 80 %")


def test_a_drop_at_the_limit_is_decided_by_no_number() -> None:
    rail = judge(Limits(1.0, 0.06), *moved(6, 0, 94)).rails[1]
    assert (rail.outcome, rail.required_n) == ("inconclusive", None)
    assert "no number of cases would decide, because the measured value is at the limit" in rail.doubt


def lost_of(lost: int, cases: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(cases, bool), np.arange(cases) >= lost


@pytest.mark.parametrize(("lost", "outcome"), [(2, "pass"), (6, "inconclusive"), (13, "inconclusive"), (17, "fail"), (40, "fail")])
def test_the_three_answers(lost: int, outcome: str) -> None:
    """Of 150 cases with a limit of 6 pp; the bounds are near those of Clopper and Pearson, since nothing was gained."""
    high, low = stats.binomtest(lost, 150).proportion_ci(0.9, method="exact").high, drop_of_share(*lost_of(lost, 150), 0.95).low
    expected = "pass" if high <= 0.06 else "fail" if low > 0.06 else "inconclusive"
    assert expected == outcome
    verdict = judge(Limits(1.0, 0.06), *moved(lost, 0, 150 - lost))
    assert verdict.outcome == outcome
    if outcome == "fail":
        assert f"a drop of {100 * low:.4g} pp at the least, at 95 % confidence" in verdict.reasons[0]


def test_the_confidence_is_a_setting() -> None:
    sides = moved(3, 0, 147)
    assert judge(Limits(1.0, 0.06, confidence=0.9), *sides).outcome == "pass"
    assert judge(Limits(1.0, 0.06, confidence=0.99), *sides).outcome == "inconclusive"


def test_no_case_at_all_is_inconclusive_either_way() -> None:
    before = two((0, 100), (0, 100))
    for limits in (Limits(0.05, 0.06, 0.5), point(0.02, 0.06, 0.9)):
        verdict = judge(limits, before, before)
        assert verdict.outcome == "inconclusive"
        assert verdict.reasons == ("recall of a could not be measured: the split has no such case; the limit is 6 pp",)
        assert accept_proposal(limits, before, before)


def test_a_failure_outweighs_a_doubt_and_both_are_told() -> None:
    verdict = judge(Limits(), two((100, 5), (100, 5)), two((50, 5), (100, 5)))
    assert verdict.outcome == "fail"
    assert [rail.outcome for rail in verdict.rails] == ["fail", "fail", "inconclusive"]
    assert [reason.startswith(rail.title) for reason, rail in zip(verdict.reasons, verdict.rails, strict=True)] == [True] * 3
    assert "for a decision" in verdict.reasons[2]


def test_outputs_that_are_not_numbers_fail() -> None:
    labels = np.repeat([0, 1], 100)
    right = said(labels, 2)
    before, after = answers(right, labels, "ab"), answers(np.full_like(right, np.nan), labels, "ab")
    assert judge(Limits(), before, after).outcome == "fail"
    assert accept_proposal(Limits(), before, after).outcome == "fail"


@pytest.mark.parametrize("mode", ["statistical", "point"])
def test_the_published_network_of_gates_does_not_hold_its_own_guard_rail(mode: Any) -> None:
    original, gated = table(ORIGINAL), table(GATED)
    f1 = {name: round(100 * each.f1, 2) for name, each in gated.per_class.items()}
    assert (f1["basophil"], f1["lymphocyte"], f1["immature granulocyte"]) == (78.05, 85.48, 87.49)
    assert (gated.accuracy, gated.macro_f1) == (pytest.approx(0.9187, abs=5e-5), pytest.approx(0.9018, abs=5e-5))
    assert (original.accuracy, original.macro_f1) == (pytest.approx(0.9848, abs=5e-5), pytest.approx(0.9846, abs=5e-5))
    limits = Limits(1.0, 1.0, 0.85, verdict=mode)
    assert judge(limits, original, original)
    verdict = judge(limits, original, gated)
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("F1 of basophil is 78.05 % on 244 cases")
    assert verdict.reasons[0].endswith("the limit is 85.00 %")
    assert [rail.title for rail in verdict.rails if rail.outcome == "fail"] == ["F1 of basophil"]
    # the preset of that study, and the usual drops, which nobody had set
    assert judge(Limits(**PRESETS["bloodmnist"]), original, gated).outcome == "fail"
    assert judge(Limits(), original, gated).outcome == "fail"
    name, drop = worst_class(original, gated)
    assert (name, round(drop, 12)) == ("basophil", round((243 - 192) / 244, 12))


def test_a_subgroup_that_is_lost_fails_although_the_whole_and_every_class_hold() -> None:
    sites = ["north"] * 900 + ["south"] * 100
    before, after = moved(0, 0, 1000, groups={"site": sites})
    decided = after.predicted.copy()
    decided[900:920] = 1  # one in five of the south
    fallen = answers(said(decided, 2), after.labels, "ab", groups=dict(after.groups))
    verdict = judge(Limits(), before, fallen)
    assert [rail.title for rail in verdict.rails if rail.outcome == "fail"] == ["accuracy where site is south"]
    assert verdict.reasons == (
        "accuracy where site is south fell by 20 pp on 100 cases (a drop of 13.63 pp at the least, at 95 % confidence); the limit is 6 pp",
    )
    assert judge(Limits(max_group_drop=0.4), before, fallen)
    assert [rail.name for rail in verdict.rails if rail.scope == "group"] == ["b", "north", "south"]


def test_cases_of_one_patient_weigh_less() -> None:
    """Three lost cases of 150 pass when they are anyone's; of 15 patients with ten cases each they do not."""
    alone, together = moved(3, 0, 147), moved(3, 0, 147, patients=[k // 10 for k in range(150)])
    assert judge(Limits(1.0, 0.06), *alone).outcome == "pass"
    verdict = judge(Limits(1.0, 0.06), *together)
    assert verdict.outcome == "inconclusive"
    assert "widened for cases of the same patient" in verdict.rails[1].estimate.method


@pytest.mark.parametrize(("share", "outcome"), [(0.05, "pass"), (0.03, "inconclusive"), (0.01, "fail")])
def test_the_share_that_turned_wrong_has_its_own_limit(share: float, outcome: str) -> None:
    """Thirty of 1,150 regressed and as many were fixed: nothing fell, and yet."""
    sides = moved(30, 30, 90)
    verdict = judge(Limits(max_regressed=share, max_class_drop=0.2), *sides)
    rail = verdict.rails[-1]
    interval = stats.binomtest(30, 1150).proportion_ci(0.9, method="exact")
    assert (rail.value, rail.estimate.low, rail.estimate.high) == pytest.approx((30 / 1150, interval.low, interval.high))
    assert (verdict.outcome, rail.outcome) == (outcome, outcome)


def test_sensitivity_and_specificity_at_a_threshold() -> None:
    labels = np.repeat([0, 1], [200, 800])
    sure = np.where(labels == 0, 0.9, 0.1).astype(np.float32)
    shy = sure.copy()
    shy[:40] = 0.6  # still decided, but under the threshold
    before, after = (answers(np.stack([each, 1 - each], axis=1), labels, ("tumour", "none")) for each in (sure, shy))
    limits = Limits(threshold=0.7, positive=("tumour",), max_sensitivity_drop=0.05, max_specificity_drop=0.05)
    verdict = judge(limits, before, after)
    assert before.accuracy == after.accuracy == 1.0
    titles = {rail.title: rail for rail in verdict.rails}
    assert titles["sensitivity at 0.7 of tumour"].value == pytest.approx(0.2)
    assert titles["sensitivity at 0.7 of tumour"].outcome == "fail"
    assert titles["specificity at 0.7 of tumour"].outcome == "pass"
    assert len(verdict.rails) == 5
    with pytest.raises(InputError, match="needs the threshold"):
        Limits(max_sensitivity_drop=0.05)


def test_a_model_that_became_too_sure_of_itself_fails() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=3000)
    right = rng.random(3000) < 0.8
    picked = np.where(right, labels, 1 - labels)
    sides = [answers(np.where(np.eye(2)[picked] > 0, sure, 1 - sure).astype(np.float32), labels, "ab") for sure in (0.8, 0.99)]
    verdict = judge(Limits(max_ece_rise=0.05), *sides)
    assert [rail.title for rail in verdict.rails if rail.outcome == "fail"] == ["expected calibration error"]
    assert verdict.reasons[0].startswith("expected calibration error rose by ")
    assert judge(Limits(max_ece_rise=0.05), sides[0], sides[0])


def test_every_class_may_have_to_reach_a_recall() -> None:
    verdict = judge(Limits(1.0, 1.0, min_class_recall=0.9), *moved(0, 0, 70, 30))
    assert verdict.outcome == "fail"
    assert verdict.reasons[0].startswith("recall of a is 70.00 % on 100 cases (at most ")


def wilson(lost: int, cases: int, z: float = 1.2815515655446004) -> float:
    """Upper end of Wilson's interval; z is the 90 % point of the normal distribution."""
    share = lost / cases
    middle, spread = share + z**2 / (2 * cases), z * math.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2))
    return (middle + spread) / (1 + z**2 / cases)


@pytest.mark.parametrize(("lost", "cases"), [(1, 100), (4, 100), (5, 100), (20, 500), (60, 1000)])
def test_the_search_allows_for_chance(lost: int, cases: int) -> None:
    """Its threshold lies between two limits a hair above and below the bound."""
    bound = wilson(lost, cases)
    before, after = two((cases, cases), (cases, cases)), two((cases - lost, cases), (cases, cases))
    assert accept_proposal(Limits(1.0, bound + 1e-6), before, after)
    refused = accept_proposal(Limits(1.0, bound - 1e-6), before, after)
    assert refused.outcome == "fail"
    assert f"the true loss may be {100 * (bound - lost / cases):.4g} pp larger by chance" in refused.reasons[0]


def test_where_nothing_was_lost_the_search_goes_on_however_few_the_cases() -> None:
    assert accept_proposal(Limits(), two((3, 3), (3, 3)), two((3, 3), (3, 3)))
    assert accept_proposal(point(0.0, 0.0), two((2, 3), (3, 3)), two((3, 3), (3, 3)))
    assert accept_proposal(Limits(1.0, 1.0, 0.9), two((3, 3), (3, 3)), two((3, 3), (3, 3)))
    assert not accept_proposal(Limits(1.0, 1.0, 0.9), two((3, 3), (3, 3)), two((2, 3), (3, 3)))


def test_what_the_search_lets_pass_mostly_passes_again() -> None:
    """A true drop such that the guard's bound lies just within the limit: on fresh cases four in five pass the verdict."""
    limits, cases = Limits(0.05, 1.0), 1000
    assert search_confidence(point(), cases, cases, 0.8) == SEARCH_CONFIDENCE
    confidence = search_confidence(limits, cases, cases, 0.8)
    assert confidence == pytest.approx(stats.norm.cdf(Z + stats.norm.ppf(0.8) * math.sqrt(2)))
    lost = max(k for k in range(60) if drop_of_share(np.ones(cases, bool), np.arange(cases) >= k, confidence).high <= 0.05)
    # that many on the guard: what it truly loses is spread around it as the guard's cases are
    rng = np.random.default_rng(0)
    truths = rng.beta(lost + 0.5, cases - lost + 0.5, 2000)
    highs = {k: drop_of_share(np.ones(cases, bool), np.arange(cases) >= k, 0.95).high for k in range(120)}
    passed = np.mean([highs[min(119, int(k))] <= 0.05 for k in rng.binomial(cases, truths)])
    assert passed == pytest.approx(0.8, abs=0.06)


def test_what_the_search_lets_pass_mostly_passes_again_as_measured() -> None:
    """The same where measured values are compared: many cases on the guard, few on the test split."""
    cases, test = 8000, 2000
    confidence = search_confidence(point(), cases, test, 0.8)
    assert confidence == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.8) * math.sqrt(1 + cases / test)))
    lost = max(k for k in range(480) if drop_of_share(np.ones(cases, bool), np.arange(cases) >= k, confidence).high <= 0.05)
    rng = np.random.default_rng(0)
    passed = np.mean(rng.binomial(test, rng.beta(lost + 0.5, cases - lost + 0.5, 4000)) <= 0.05 * test)
    assert passed == pytest.approx(0.8, abs=0.05)


def test_a_larger_test_split_asks_less_of_the_guard() -> None:
    limits = Limits()
    assert search_confidence(limits, 500, 4000) < search_confidence(limits, 500, 500) < search_confidence(limits, 500, 100) < 1


def test_the_worst_class_may_have_risen_and_is_never_an_empty_one() -> None:
    risen, fallen = worst_class(two((50, 50)), two((60, 90))), worst_class(two((0, 50), (0, 100)), two((0, 40), (0, 100)))
    assert [(name, round(drop, 12)) for name, drop in (risen, fallen)] == [("a", -0.1), ("b", 0.1)]


def test_a_relative_limit_counts_from_the_originals_figure() -> None:
    """The original finds 80 of 100: of 10 % of that, 8 cases may be lost, and of 10 points 10."""
    before, after = moved(9, 0, 71, 20)
    assert judge(point(1.0, Relative(0.1)), before, after).outcome == "fail"
    assert judge(point(1.0, 0.1), before, after).outcome == "pass"
    verdict = judge(point(1.0, Relative(0.1)), before, after)
    assert verdict.reasons == ("recall of a fell by 9 pp on 100 cases; the limit is 10 % of the original’s",)


def test_the_rail_as_the_report_has_it() -> None:
    rail = judge(Limits(), *moved(5, 1, 116)).rails[1].as_dict()
    assert {name: rail[name] for name in ("scope", "column", "name", "figure", "title", "rule", "stated")} == {
        "scope": "class",
        "column": None,
        "name": "a",
        "figure": "recall",
        "title": "recall of a",
        "rule": "drop",
        "stated": "6 pp",
    }
    assert (rail["before"], rail["after"], rail["value"]) == (pytest.approx(121 / 122), pytest.approx(117 / 122), pytest.approx(4 / 122))
    assert rail["low"] < rail["value"] < rail["high"]
    assert (rail["lost"], rail["gained"], rail["seen"], rail["unit"]) == (5, 1, 122, "cases")
    assert rail["p_value"] == pytest.approx(stats.binomtest(5, 6).pvalue)
    by_points = judge(point(), *moved(5, 1, 116)).rails[1].as_dict()
    assert (by_points["low"], by_points["high"], by_points["method"]) == (None, None, None)


def test_a_figure_that_cannot_be_taken_is_never_held() -> None:
    """The area of a subgroup in which all cases are of one class."""
    before, after = moved(0, 0, 40, groups={"site": ["x"] * 40})
    for mode in ("statistical", "point"):
        found = judge(Limits(metric="auc", verdict=mode), before, after)
        rail = next(rail for rail in found.rails if rail.name == "x")
        assert (rail.outcome, rail.required_n) == ("inconclusive", None)
        assert rail.doubt.startswith("AUC where site is x could not be measured: the split has no such case")
        assert rail.as_dict()["after"] is None


def test_the_sentence_of_a_pass_is_about_the_figure_that_was_limited() -> None:
    before, after = two((90, 880), (100, 900)), two((90, 860), (100, 900))
    verdict = judge(point(0.1, 0.3, class_metric="precision"), before, after)
    worst = max(verdict.rails[1:], key=lambda rail: rail.value)
    assert verdict.reasons[0].endswith(f"precision of the worst class {worst.name} −{100 * worst.value:.2f} pp, limit 30 pp")
