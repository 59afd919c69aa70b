"""The strategy of budgets: bolder and bolder, half way back where one fails, then the linear layers."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from optimize.candidate import Candidate
from optimize.importance.magnitude import Magnitude
from optimize.searching.budgets import GAP_PROPOSALS, Budgets
from optimize.searching.trial import NOT_SMALLER
from optimize.searching.walk import WORK_FOLDER, Search
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune
from tests.searching.trials import RUINOUS, ran, settings, written


def walking(search: Search, levels: tuple[float, ...] = (), energies: tuple[float, ...] = (), halvings: int = GAP_PROPOSALS) -> Search:
    return replace(search, strategy=Budgets(levels, energies, halvings))


def test_the_walk_keeps_what_holds_and_rolls_back_what_does_not(search: Search, original: Candidate) -> None:
    best, trials = ran(walking(search, (0.001, RUINOUS), (0.999, 0.99, 0.01), 1))
    assert settings(trials) == [
        ("Prune", 0.001, True),
        ("Prune", RUINOUS, False),
        ("Prune", sqrt(0.001 * RUINOUS), False),
        ("Factorize", 0.999, True),
        ("Factorize", 0.99, True),
        ("Factorize", 0.01, False),
    ]
    assert written(search) == trials
    # each energy starts from the pruned network, not from the last factorization
    assert best.lineage == (Prune(0.001), Factorize(0.99))
    aim = search.reference
    assert best.fingerprint == Factorize(0.99)(Prune(0.001)(original, aim), aim).fingerprint
    assert best.parameters == trials[4]["parameters"] < trials[3]["parameters"] < trials[0]["parameters"] < original.parameters


def test_the_original_is_what_is_left_when_nothing_holds(search: Search, original: Candidate) -> None:
    best, trials = ran(walking(search, (RUINOUS,), (0.01,)))
    prunes = [("Prune", RUINOUS / scale, False) for scale in (1, 4, 16)]
    assert settings(trials) == [*prunes, ("Factorize", 0.01, False)]
    assert best is original
    assert not (search.ledger.path.parent / WORK_FOLDER).exists()
    assert "overall accuracy fell by" in trials[0]["reasons"][0]


def test_half_way_may_hold(search: Search) -> None:
    best, trials = ran(walking(search, (0.0005, 4.0, 5.0)))
    half = sqrt(0.0005 * 4.0)
    tried = [("Prune", 0.0005, True), ("Prune", 4.0, False), ("Prune", half, True), ("Prune", sqrt(half * 4.0), False)]
    assert settings(trials) == tried
    assert best.lineage[-1] == Prune(half)


def test_a_budget_too_small_for_any_channel_does_not_end_the_walk(search: Search) -> None:
    best, trials = ran(walking(search, (1e-30, 1e-29, 0.001)))
    assert settings(trials) == [("Prune", 1e-30, False), ("Prune", 1e-29, False), ("Prune", 0.001, True)]
    assert [entry["reasons"] for entry in trials[:2]] == [[NOT_SMALLER]] * 2
    assert best.parameters < search.reference.original.parameters


def test_an_energy_that_saves_nothing_does_not_end_the_walk(search: Search) -> None:
    _, trials = ran(walking(search, (), (1.0, 0.99)))
    assert settings(trials) == [("Factorize", 1.0, False), ("Factorize", 0.99, True)]
    assert trials[0]["reasons"] == [NOT_SMALLER]


def test_the_signal_is_written_and_read_back(search: Search) -> None:
    strategy = Budgets((0.001,), (), importance=Magnitude(norm=1))
    first = replace(search, strategy=strategy).run()
    best, trials = first.best, list(first.trials)
    assert trials[0]["settings"]["importance"] == {"signal": "magnitude", "settings": {"norm": 1}}
    resumed_search = replace(search, strategy=strategy).run(trials)
    again = resumed_search.best
    assert list(resumed_search.trials) == trials
    assert again.lineage == best.lineage == (Prune(0.001, importance=Magnitude(norm=1)),)
    assert again.fingerprint == best.fingerprint
