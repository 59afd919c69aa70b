"""The walk: bolder and bolder, against the original, written down before it goes on, and the same after any interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.candidate import Candidate, Reference, Step
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.ledger import Ledger
from optimize.search import NOT_SMALLER, WORK, Search, Trial, score_split
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune
from tests import runs

pytestmark = pytest.mark.usefixtures("one_thread")

# Far above any error there can be: everything goes, and the guard-rails refuse it.
RUINOUS = 1e6


@pytest.fixture(scope="module")
def original() -> Candidate:
    return runs.original()


@pytest.fixture
def search(original: Candidate, tmp_path: Path) -> Search:
    ledger = Ledger(tmp_path / "ledger.jsonl", {"seed": 0})
    ledger.begin()
    aim = Reference(original, runs.split("train").inputs())
    return Search(aim, runs.split(), runs.CLASSES, Limits(), ledger, (0.001, RUINOUS), (0.99, 0.9, 0.01))


def settings(trials: list[dict[str, Any]]) -> list[tuple[str, float, bool]]:
    """Of each trial: what was done, how boldly, and whether it was kept."""
    return [(entry["step"], next(iter(entry["settings"].values())), entry["kept"]) for entry in trials]


def timeless(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in trials]


def written(search: Search) -> list[dict[str, Any]]:
    return [json.loads(line) for line in search.ledger.path.read_text().splitlines()][1:]


def test_the_walk_keeps_what_holds_and_rolls_back_what_does_not(
    search: Search, original: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.search.HALVINGS", 1)
    best, trials = search.run()
    assert settings(trials) == [
        ("Prune", 0.001, True),
        ("Prune", RUINOUS, False),
        ("Prune", sqrt(0.001 * RUINOUS), False),
        ("Factorize", 0.99, True),
        ("Factorize", 0.9, True),
        ("Factorize", 0.01, False),
    ]
    assert written(search) == trials
    # each energy starts from the pruned network, not from the last factorization
    assert best.lineage == (Prune(0.001), Factorize(0.9))
    aim = search.reference
    assert best.fingerprint == Factorize(0.9)(Prune(0.001)(original, aim), aim).fingerprint
    assert best.parameters == trials[4]["parameters"] < trials[3]["parameters"] < trials[0]["parameters"] < original.parameters


def test_a_trial_says_what_was_measured(search: Search, original: Candidate) -> None:
    entry = replace(search, budgets=(0.001,), energies=()).run()[1][0]
    made = Prune(0.001)(original, search.reference)
    right = made.predict(search.guard.inputs()).argmax(1) == search.guard.labels
    assert entry["overall"] == right.mean()
    assert entry["parameters"] == sum(parameter.numel() for parameter in made.module.parameters())
    conv, first, second = (made.module.get_parameter(f"{name}.weight") for name in ("0", "4", "6"))
    assert entry["macs"] == conv.numel() * 64 + first.numel() + second.numel()  # 8 x 8 places for the convolution
    assert entry["seconds"] > 0
    assert entry["worst_class"] == {"name": "bar", "drop": 0.0}


def test_the_original_is_what_is_left_when_nothing_holds(search: Search, original: Candidate) -> None:
    best, trials = replace(search, budgets=(RUINOUS,), energies=(0.01,)).run()
    prunes = [("Prune", RUINOUS / scale, False) for scale in (1, 4, 16)]
    assert settings(trials) == [*prunes, ("Factorize", 0.01, False)]
    assert best is original
    assert not (search.ledger.path.parent / WORK).exists()
    assert "overall accuracy fell by" in trials[0]["reasons"][0]


def test_half_way_may_hold(search: Search) -> None:
    best, trials = replace(search, budgets=(0.0005, 4.0, 5.0), energies=()).run()
    half = sqrt(0.0005 * 4.0)
    tried = [("Prune", 0.0005, True), ("Prune", 4.0, False), ("Prune", half, True), ("Prune", sqrt(half * 4.0), False)]
    assert settings(trials) == tried
    assert best.lineage[-1] == Prune(half)


def test_a_budget_too_small_for_any_channel_does_not_end_the_walk(search: Search) -> None:
    best, trials = replace(search, budgets=(1e-30, 1e-29, 0.001), energies=()).run()
    assert settings(trials) == [("Prune", 1e-30, False), ("Prune", 1e-29, False), ("Prune", 0.001, True)]
    assert [entry["reasons"] for entry in trials[:2]] == [[NOT_SMALLER]] * 2
    assert best.parameters < search.reference.original.parameters


def test_an_energy_that_saves_nothing_does_not_end_the_walk(search: Search) -> None:
    _, trials = replace(search, budgets=(), energies=(1.0, 0.99)).run()
    assert settings(trials) == [("Factorize", 1.0, False), ("Factorize", 0.99, True)]
    assert trials[0]["reasons"] == [NOT_SMALLER]


class Counted(Search):
    """Counts what is really tried."""

    tried: list[Step]

    def attempt(self, step: Step, start: Candidate, before: Score) -> tuple[Trial, Candidate]:
        self.tried.append(step)
        return super().attempt(step, start, before)


def resumed(search: Search) -> tuple[Candidate, list[dict[str, Any]], int]:
    """Go on from the ledger; also how many proposals were made again."""
    counted = Counted(**{name: getattr(search, name) for name in search.__dataclass_fields__})
    object.__setattr__(counted, "tried", [])
    best, trials = counted.run(search.ledger.resume())
    return best, trials, len(counted.tried)


def test_a_walk_cut_at_any_line_or_inside_it_ends_the_same(search: Search) -> None:
    best, trials = search.run()
    lines = search.ledger.path.read_text().splitlines(keepends=True)
    for whole in range(len(lines) + 1):
        for torn in ("", *({lines[whole][: len(lines[whole]) // 2]} if whole < len(lines) else ())):
            search.ledger.path.write_text("".join(lines[:whole]) + torn)
            again, retried, made = resumed(search)
            assert again.fingerprint == best.fingerprint, (whole, torn)
            assert again.lineage == best.lineage
            assert again.parameters == best.parameters
            assert timeless(retried) == timeless(trials)
            assert written(search) == retried
            believed = max(0, whole - 1)
            assert made == len(trials) - believed
            assert retried[:believed] == trials[:believed]  # their seconds too: they were not tried again


def test_a_trial_whose_network_is_gone_is_made_again_with_all_that_follow(search: Search) -> None:
    best, trials = search.run()
    (search.ledger.path.parent / WORK / "trial-003.safetensors").unlink()
    again, retried, made = resumed(search)
    assert made == 3
    assert again.fingerprint == best.fingerprint
    assert timeless(retried) == timeless(trials)
    assert written(search) == retried


def test_a_ledger_of_other_steps_is_not_believed(search: Search) -> None:
    best, _ = search.run()
    other = replace(search, budgets=(0.002, RUINOUS))
    again, retried, made = resumed(other)
    assert made == len(retried)
    assert settings(retried)[0] == ("Prune", 0.002, True)
    assert written(search) == retried
    assert again.fingerprint != best.fingerprint


def test_a_split_is_scored_in_batches_by_any_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def predict(inputs: np.ndarray) -> np.ndarray:
        sizes.append(len(inputs))
        return np.eye(4, dtype=np.float32)[np.zeros(len(inputs), dtype=np.int64)]

    monkeypatch.setattr("optimize.search.CASES_AT_ONCE", 64)
    found = score_split(predict, runs.split(), runs.CLASSES, "")
    assert sizes == [64, 64, 64, 8]
    assert found.confusion[:, 0].tolist() == [50, 50, 50, 50]


def test_what_the_rows_do_not_determine_stands_in_the_ledger(original: Candidate, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", {"seed": 0})
    ledger.begin()
    few = Reference(original, runs.split("train").inputs()[:4])
    search = Search(few, runs.split(), runs.CLASSES, Limits(), ledger, (0.001,), ())
    _, trials = search.run()
    layer = next(line for line in trials[0]["findings"] if "unknowns" in line)
    assert "independent ones too few: the ridge decides between equals" in layer
    assert written(search)[0]["findings"] == trials[0]["findings"]
