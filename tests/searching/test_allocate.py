"""The strategy "allocate" on scripted verdicts, where every turn is seen to be taken, and on a small trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from types import SimpleNamespace
from typing import Any, cast

import pytest

from optimize.candidate import Candidate, Step
from optimize.searching import allocate
from optimize.searching.allocate import (
    FIRST_BUDGET,
    GAP_PROPOSALS,
    INTERPOLATIONS,
    MAX_BISECTIONS,
    MAX_DOUBLINGS,
    MAX_FINALISTS,
    MAX_SCANS,
    MIN_BUDGET,
    Allocate,
    _Ladder,
)
from optimize.searching.goal import Goal
from optimize.searching.knapsack import Knapsack
from optimize.searching.prices import Pricing
from optimize.searching.scan import Curve
from optimize.searching.walk import Search, Walk
from optimize.steps.chain import Chain
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets
from tests.searching.trials import ran, settings, written

START = nets.candidate(nets.chain())


@dataclass
class Verdict:
    kept: bool
    changed_nothing: bool = False

    def __bool__(self) -> bool:
        return self.kept


class Nats:
    """A knapsack whose widths tell for which sum of harms they were asked."""

    def within(self, harm: float) -> dict[str, int]:
        return {"a": round(harm * 1e6)}


@dataclass
class Script:
    """A walk that keeps what a rule says, and remembers what it was offered."""

    keeps: Callable[[Step], bool]
    idle: Callable[[Step], bool] = lambda _: False
    original: Candidate = START
    best: Any = START
    reference: Any = field(default_factory=lambda: SimpleNamespace(memory={}))
    search: Any = field(default_factory=lambda: SimpleNamespace(guard=None))
    offered: list[tuple[Any, bool]] = field(default_factory=list)

    def propose(self, step: Step, start: Candidate) -> Verdict:
        assert start is START  # everything is cut out of the same start
        verdict = Verdict(not self.idle(step) and self.keeps(step), self.idle(step))
        self.offered.append((step, bool(verdict)))
        if verdict:
            self.best = step
        return verdict


def harm(step: Any) -> float:
    narrow = step.steps[0] if isinstance(step, Chain) else step
    return float(narrow.widths[0][1] / 1e6)


def ladder(script: Script, unit: float = 1.0, items: Any = None, at_once: bool = False, **settings: Any) -> _Ladder:
    return _Ladder(cast(Walk, script), START, cast(Knapsack, items or Nats()), unit, Allocate(Pricing(), **settings), at_once=at_once)


def climbed(*keeps: bool, after: bool = False, **settings: Any) -> tuple[list[float], Script]:
    told = list(keeps)
    script = Script(lambda _: told.pop(0) if told else after)
    ladder(script, **settings).climb()
    return [harm(step) for step, _ in script.offered], script


def test_the_sum_of_harms_is_doubled_as_long_as_it_holds() -> None:
    assert climbed(after=True)[0] == [2.0**turn for turn in range(MAX_DOUBLINGS)]


def test_a_refusal_ends_it_and_the_gap_is_halved() -> None:
    tried, script = climbed(True, True, False, True, False, True)
    half = sqrt(2 * 4)
    low, middle = half, sqrt(half * 4)
    assert tried == pytest.approx([1, 2, 4, half, middle, sqrt(low * middle)], rel=1e-5)
    assert script.best is script.offered[-1][0]
    assert len(tried) == 3 + GAP_PROPOSALS


def test_when_nothing_holds_the_first_is_halved() -> None:
    assert climbed()[0] == [0.5**turn for turn in range(MAX_BISECTIONS + 1)]


def test_when_nothing_held_for_long_the_first_that_does_ends_it() -> None:
    tried, script = climbed(False, False, False, False, False, True, True)
    assert tried == [0.5**turn for turn in range(6)]
    assert harm(script.best) == 0.5**5


def test_widths_that_do_not_change_are_passed_over() -> None:
    class Narrowest:
        def within(self, harm: float) -> dict[str, int]:
            return {"a": min(3, round(harm))}

    script = Script(lambda _: True)
    ladder(script, items=Narrowest()).climb()
    assert [step.widths for step, _ in script.offered] == [(("a", 1),), (("a", 2),), (("a", 3),)]


@pytest.mark.parametrize(
    ("plain", "better", "finalists"),
    [
        # the better repair holds the first sum that was refused, and bolder ones up to 5: 5.66 is refused, and then 4.76 is kept
        (3.99, 5.0, [4.0, 4 * sqrt(2), 4 * 2**0.25]),
        # it holds no more than the plain one: what passed is repaired better
        (3.99, 3.99, [4.0, 2 * 2 ** (7 / 8)]),
        # everything holds: as bold as the number of finalists allows
        (3.99, 1e9, [4.0 * 2 ** (turn / 2) for turn in range(MAX_FINALISTS)]),
    ],
)
def test_scouts_find_where_the_finalists_begin(plain: float, better: float, finalists: list[float]) -> None:
    class Fine:
        def within(self, harm: float) -> dict[str, int]:
            return {"a": round(harm * 1e6)}

    script = Script(lambda step: harm(step) <= (plain if cast(PruneToWidths, step).at_once else better))
    ladder(script, items=Fine(), at_once=True).climb()
    scouts = [harm(step) for step, _ in script.offered if step.at_once]
    assert scouts == pytest.approx([1, 2, 4, 2 * 2**0.5, 2 * 2**0.75, 2 * 2 ** (7 / 8)], rel=1e-5)
    assert [harm(step) for step, _ in script.offered if not step.at_once] == pytest.approx(
        [max(scouts[2], 0) if each == 4.0 else each for each in finalists], rel=1e-5
    )
    assert not script.best.at_once


@pytest.mark.parametrize("held", [4, 6, 7])
def test_widths_are_offered_once_however_many_sums_of_harm_lead_to_them(held: int) -> None:
    class Few:
        def within(self, harm: float) -> dict[str, int]:
            return {"a": max(width for width in (1, 4, 6, 7, 8) if width <= max(1.0, harm))}

    script = Script(lambda step: step.widths[0][1] <= held)
    ladder(script, items=Few()).climb()
    offered = [step.widths[0][1] for step, _ in script.offered]
    assert len(offered) == len(set(offered))
    assert script.best.widths == (("a", held),)


def test_what_made_nothing_smaller_is_no_refusal() -> None:
    script = Script(lambda _: True, idle=lambda step: harm(step) <= 4)
    ladder(script).climb()
    assert [harm(step) for step, _ in script.offered] == [2.0**turn for turn in range(MAX_DOUBLINGS)]


def fast_from(least: float) -> Goal:
    """The bolder the faster: met by what was cut for this sum of harms or more."""
    return Goal(1.0, lambda best: 0.5 if isinstance(best, PruneToWidths | Chain) and harm(best) >= least else 2.0)


def test_a_goal_that_is_met_stops_the_doubling_and_goes_back_towards_mild() -> None:
    script = Script(lambda _: True)
    ladder(script, goal=fast_from(3.0)).climb()
    half = sqrt(2 * 4)  # 2.83: too slow
    third = sqrt(half * 4)  # 3.36: fast
    tried = [harm(step) for step, _ in script.offered]
    assert tried[:5] == pytest.approx([1, 2, 4, half, third], rel=1e-5)
    assert tried[5] == pytest.approx(sqrt(half * third), rel=1e-5)
    assert harm(script.best) == pytest.approx(tried[5], rel=1e-5)
    assert len(tried) == 6


def test_when_the_last_try_is_too_slow_the_mildest_fast_one_is_offered_again() -> None:
    script = Script(lambda _: True)
    ladder(script, goal=fast_from(3.9)).climb()
    tried = [harm(step) for step, _ in script.offered]
    assert len(tried) == 3 + GAP_PROPOSALS + 1
    assert tried[-1] == 4
    assert harm(script.best) == 4


@pytest.mark.parametrize(
    ("most", "tried"),
    [
        (1.5, [4, 2, sqrt(2)]),  # refused at 4; between that and 1, which needs no training, lies 2
        (3.0, [4, 2, sqrt(8)]),
        (5.0, [4, 16, 8, sqrt(32)]),
        (9.0, [4, 16, 8, sqrt(128)]),
        (17.0, [4, 16, 64, 32, sqrt(512)]),
        (40.0, [4, 16, 64, 32, sqrt(2048)]),
        (100.0, [4, 16, 64, 256, 128]),
        (1e9, [4, 16, 64, 256, 1024]),  # enough
        (0.0, [4, 2, sqrt(2)]),
    ],
)
@pytest.mark.parametrize("held", [1.0, 0.0])
def test_training_is_offered_in_strides_until_one_is_kept_and_one_refused(most: float, tried: list[float], held: float) -> None:
    finetune, unit = Finetune(2), held or 0.5
    script = Script(lambda step: isinstance(step, Chain) and harm(step) < most * unit)
    up = ladder(script)
    up.passed_harm = held
    up.train(finetune)
    asked = [(each, way) for each in tried for way in (INTERPOLATIONS if each >= most else INTERPOLATIONS[:1])]
    assert [harm(step) for step, _ in script.offered] == pytest.approx([each * unit for each, _ in asked], rel=1e-5)
    assert [step for step, _ in script.offered] == [
        Chain((PruneToWidths((("a", round(harm(step) * 1e6)),)), replace(finetune, interpolation=way)))
        for (step, _), (_, way) in zip(script.offered, asked, strict=True)
    ]
    bold = max((each for each in tried if each < most), default=None)
    assert script.best is START if bold is None else harm(script.best) == pytest.approx(bold * unit, rel=1e-5)


def test_training_ends_where_nothing_is_bolder() -> None:
    class Saturated:
        def within(self, harm: float) -> dict[str, int]:
            return {"a": round(min(harm, 50.0) * 1e6)}

    script = Script(lambda _: True)
    up = ladder(script, items=Saturated())
    up.passed_harm = 1.0
    up.train(Finetune(1))
    assert [harm(step) for step, _ in script.offered] == [4, 16, 50]


def test_nothing_is_trained_twice() -> None:
    class Two:
        def within(self, harm: float) -> dict[str, int]:
            return {"a": 1 if harm < 1.5 else 2}

    script = Script(lambda _: False)
    ladder(script, items=Two()).train(Finetune(1))
    assert [(step.steps[0].widths, step.steps[1].interpolation) for step, _ in script.offered] == [
        ((("a", width),), way) for width in (2, 1) for way in INTERPOLATIONS
    ]


def test_weights_on_the_way_to_the_trained_ones_are_offered_until_some_are_kept() -> None:
    script = Script(lambda step: harm(step) < 5 and step.steps[1].interpolation <= 0.5)
    up = ladder(script)
    up.passed_harm = 1.0
    up.train(Finetune(1))
    found = [(round(harm(step), 3), step.steps[1].interpolation, kept) for step, kept in script.offered]
    assert found == [
        (4, 1.0, False),
        (4, 0.5, True),
        *((16, way, False) for way in INTERPOLATIONS),
        *((8, way, False) for way in INTERPOLATIONS),
        *((round(sqrt(32), 3), way, False) for way in INTERPOLATIONS),
    ]


def test_training_for_a_goal_goes_from_mild_to_bold_and_ends_with_a_refusal() -> None:
    script = Script(lambda step: harm(step) < 3.0)
    ladder(script, goal=fast_from(9.0)).train(Finetune(1))
    assert [(harm(step), kept) for step, kept in script.offered] == [(1, True), (2, True), *[(4, False)] * len(INTERPOLATIONS)]


def test_training_ends_where_the_goal_is_met() -> None:
    script = Script(lambda _: True)
    ladder(script, goal=fast_from(3.0)).train(Finetune(1))
    assert [harm(step) for step, _ in script.offered] == [1, 2, 4]


@pytest.mark.parametrize("refusals", [0, 1, 3, 99])
def test_the_mild_budget_is_quartered_until_it_holds(refusals: int) -> None:
    told = [False] * refusals
    script = Script(lambda _: told.pop(0) if told else True)
    Allocate(Pricing())._prune_mildly(cast(Walk, script))
    budgets = [FIRST_BUDGET / 4**turn for turn in range(20) if FIRST_BUDGET / 4**turn >= MIN_BUDGET][: refusals + 1]
    assert [step for step, _ in script.offered] == [Prune(budget) for budget in budgets]


def test_a_mild_budget_that_takes_nothing_away_is_not_quartered() -> None:
    script = Script(lambda _: True, idle=lambda _: True)
    Allocate(Pricing())._prune_mildly(cast(Walk, script))
    assert script.offered == [(Prune(FIRST_BUDGET), False)]


def plain(step: str, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["step"] == step]


def test_a_whole_run(search: Search, original: Candidate) -> None:
    walking = replace(search, strategy=Allocate(Pricing(), energies=(0.99,)))
    best, trials = ran(walking)
    assert written(walking) == trials
    assert settings(trials)[0][0] == "Prune"
    kept = [trial for trial in plain("PruneToWidths", trials) if trial["kept"]]
    assert kept
    assert best.parameters < trials[0]["parameters"] < original.parameters
    inputs, labels = search.guard.inputs(), search.guard.labels
    before, after = ((each.predict(inputs).argmax(1) == labels).mean() for each in (original, best))
    assert before - after <= 0.02
    assert any(isinstance(step, PruneToWidths) for step in best.lineage)


def test_a_goal_that_the_original_meets_is_offered_nothing(search: Search, original: Candidate) -> None:
    best, trials = ran(replace(search, strategy=Allocate(Pricing(), goal=Goal(1.0, lambda _: 0.5))))
    assert (best, trials) == (original, [])


@pytest.mark.parametrize(("gains", "rounds"), [((True,) * 9, MAX_SCANS), ((True, False), 2), ((False,), 1)])
def test_what_was_kept_is_scanned_again_as_long_as_that_leads_on(
    gains: tuple[bool, ...], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every scan starts from the best so far, and the last ladder is the one that is trained on."""
    script, told, scanned = Script(lambda _: True), list(gains), list[Any]()

    def scan(start: Any, *_: Any) -> tuple[list[Curve], float]:
        scanned.append(start)
        return [Curve("a", (8, 4), (0.0, 1.0))], 0.0

    def climb(self: _Ladder) -> None:
        assert self._start is script.best is scanned[-1]
        if told.pop(0):
            script.best = replace(START)

    monkeypatch.setattr(allocate, "scan", scan)
    monkeypatch.setattr(allocate, "make_knapsack", lambda *_: Nats())
    monkeypatch.setattr(_Ladder, "climb", climb)
    last = Allocate(Pricing())._scan_and_climb(cast(Walk, script))
    assert len(scanned) == rounds
    assert last is not None
    assert last._start is scanned[-1]


def test_where_nothing_can_be_cut_there_is_no_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocate, "scan", lambda *_: ([Curve("a", (8,), (0.0,))], 0.0))
    assert Allocate(Pricing())._scan_and_climb(cast(Walk, Script(lambda _: True))) is None
