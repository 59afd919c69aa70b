"""The local variant: who is merged into whom, the brake, the retries, and whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.trace import trace
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.search.ledger import Ledger
from optimize.search.published.local import Local
from optimize.search.published.stopping import STOPPING, Decision, Evidence, Needs
from optimize.search.walk import Search
from tests import runs
from tests.nets import candidate, cases
from tests.search.scores import scored
from tests.search.trials import resumed, timeless, written

PLAIN = Local(floors="none", operator="drop", repair="none")
Run = Callable[..., tuple[Candidate, list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a strategy on scripted scores: what each proposal gets wrong, in turn; nothing once they are used up."""

    def scripted(strategy: Local, start: Candidate, *wrong: float) -> tuple[Candidate, list[dict[str, Any]]]:
        script: Iterator[Score] = iter([scored(0, 0), *(scored(each, each) for each in wrong)])
        monkeypatch.setattr("optimize.search.walk.score_split", lambda *_: next(script, scored(0, 0)))
        ledger = Ledger(tmp_path / "ledger.jsonl", {})
        ledger.begin()
        aim = Reference(start, cases(200, tuple(start.example.shape[1:])))
        return Search(aim, runs.split(), runs.CLASSES, Limits(), ledger, strategy).run()

    return scripted


def copies(of: int, each: int) -> Candidate:
    """One layer of `of` random filters with `each` copies, of falling size: alike by 1 within, and hardly across."""
    start = candidate(nn.Sequential(nn.Conv2d(3, of * each, 3, bias=False), nn.Conv2d(of * each, 4, 3)), (3, 8, 8))
    with torch.no_grad():
        weight = start.module.get_parameter("0.weight")
        for channel in range(of, of * each):
            weight[channel] = weight[channel % of] * (1 - 0.01 * (channel // of))
    return start


def settings_of(trials: list[dict[str, Any]]) -> list[tuple[int, bool]]:
    """Of each proposal how many channels go, and whether it was kept."""
    return [(len(each["settings"]["channels"]), each["kept"]) for each in trials]


def test_copies_merge_into_one_and_nothing_is_lost(run: Run) -> None:
    start = copies(3, 4)
    best, trials = run(Local(floors="none", repair="none", operator="medoid"), start)
    assert settings_of(trials) == [(9, True)]
    assert trace(best).groups[0].size == 3
    # every heir is of its channel's own family
    step = trials[0]["settings"]
    assert [gone % 3 for gone in step["channels"]] == [heir % 3 for heir in step["merge_into"]]
    # the medoid's readers take it for all: equal but for the copies' falling sizes, of .985 on average
    want, got = start.predict(cases(8)), best.predict(cases(8))
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
    fitted, _ = run(Local(floors="none"), start)
    np.testing.assert_allclose(fitted.predict(cases(8)), want, atol=2e-3 * np.abs(want).max())


def test_the_floor_ends_a_layer(run: Run) -> None:
    best, trials = run(replace(PLAIN, floors="S2"), copies(2, 8))
    assert settings_of(trials) == [(2, True)]  # .875 of 16 stay
    assert trace(best).groups[0].size == 14


def test_it_judges_after_every_20_merges(run: Run) -> None:
    best, trials = run(PLAIN, copies(2, 26))
    assert settings_of(trials) == [(20, True), (20, True), (10, True)]
    assert trace(best).groups[0].size == 2


def test_what_does_not_hold_is_tried_again_with_a_fifth_undone(run: Run) -> None:
    bold = 0.011
    _, trials = run(PLAIN, copies(2, 26), 0.0, bold, bold, bold, 0.0)
    assert settings_of(trials) == [(20, True), (20, False), (16, False), (12, False), (9, True)]  # and the layer is left


def test_after_three_retries_the_layer_is_left(run: Run) -> None:
    best, trials = run(PLAIN, copies(2, 26), *[0.011] * 9)
    assert settings_of(trials) == [(20, False), (16, False), (12, False), (9, False)]
    assert best.lineage == ()


def test_few_merges_are_undone_one_by_one(run: Run) -> None:
    _, trials = run(PLAIN, copies(2, 2), *[0.011] * 9)
    assert settings_of(trials) == [(2, False), (1, False)]


def test_a_layer_may_lose_only_so_much_from_its_beginning(run: Run) -> None:
    # each chunk alone loses less than 1 pp, the second takes the layer beyond it
    _, trials = run(PLAIN, copies(2, 26), 0.006, 0.012, 0.009)
    assert settings_of(trials) == [(20, True), (20, False), (16, True)]
    assert "one step may lose 1 pp" in trials[1]["reasons"][0]


def test_layers_go_deepest_first_each_from_where_the_last_ended(run: Run) -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(8, 4, 3)), (3, 8, 8))
    with torch.no_grad():
        for name in ("0", "1"):
            weight = start.module.get_parameter(f"{name}.weight")
            weight[4:] = weight[:4]
    _, trials = run(replace(PLAIN, likeness=0.999), start, 0.009, 0.018)
    assert [(each["settings"]["group"], each["kept"]) for each in trials] == [("1", True), ("0", True)]
    # and the cumulative rail holds for all of them together
    _, trials = run(replace(PLAIN, likeness=0.999), start, 0.009, 0.021, 0.018)
    assert [(each["settings"]["group"], each["kept"]) for each in trials] == [("1", True), ("0", False), ("0", True)]


@dataclass(frozen=True)
class Scripted:
    """Says what it is told, one merge after the other."""

    needs: ClassVar[Needs] = "distances"
    says: tuple[Decision, ...] = ()
    shown: list[Evidence] = field(default_factory=list)

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        self.shown.append(seen[-1])
        return self.says[len(self.shown) - 1] if len(self.shown) <= len(self.says) else "go on"


def test_a_rule_leaves_merges_out_or_ends_the_layer(run: Run) -> None:
    start = copies(1, 8)
    rule = Scripted(says=("go on", "pass over", "go on", "stop"))
    _, trials = run(replace(PLAIN, stopping=rule), start)
    assert settings_of(trials) == [(2, True)]
    assert [each.progress for each in rule.shown] == pytest.approx([0, 1 / 7, 1 / 7, 2 / 7])
    assert all(abs(each.distances[0]) < 1e-6 for each in rule.shown)


@pytest.mark.parametrize("name", STOPPING)
def test_every_rule_runs_to_the_end(name: str, run: Run) -> None:
    start = copies(2, 4)
    with torch.no_grad():  # read alike too, copies cannot be told apart
        for layer, axis in (("0", 0), ("1", 1)):
            weight = start.module.get_parameter(f"{layer}.weight")
            weight.copy_(weight.index_select(axis, torch.arange(8) % 2))
    best, _ = run(replace(PLAIN, stopping=STOPPING[name]), start)
    assert trace(best).groups[0].size == 2


def test_a_rule_keeps_channels_apart_that_are_alike_but_not_needed_alike(run: Run) -> None:
    start = copies(1, 2)
    with torch.no_grad():  # the second filter is a copy, and nobody reads it; of the first every class depends
        reader = start.module.get_parameter("1.weight")
        reader[:, 0] *= 10
        reader[:, 1] = 0
    assert run(PLAIN, start)[1]
    assert run(replace(PLAIN, stopping=STOPPING["threshold"]), start)[1] == []


def test_nothing_alike_nothing_done(run: Run) -> None:
    best, trials = run(replace(PLAIN, likeness=1.1), copies(2, 4))
    assert (best.lineage, trials) == ((), [])
    assert run(PLAIN, candidate(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8)))[1] == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"floors": "S9"}, r"`floors` \(='S9'\)"),
        ({"repair": "bn"}, r"`repair` \(='bn'\)"),
        ({"operator": "mean"}, r"`operator` \(='mean'\)"),
    ],
)
def test_unknown_names_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Local(**wrong)


def test_a_whole_run_cut_at_any_line_ends_the_same(search: Search) -> None:
    strategy = Local(likeness=0.5, floors="none", brake=8, operator="average", stopping=STOPPING["mcnemar"])
    search = replace(search, limits=Limits(0.04, 0.12), strategy=strategy)
    best, trials = search.run()
    assert best.parameters < search.reference.original.parameters
    right = best.predict(search.guard.inputs()).argmax(1) == search.guard.labels
    assert right.mean() == [each["overall"] for each in trials if each["kept"]][-1]
    lines = search.ledger.path.read_text().splitlines(keepends=True)
    for whole in range(2, len(lines) + 1, len(lines) // 3):
        search.ledger.path.write_text("".join(lines[:whole]))
        again, retried, made = resumed(search)
        assert again.fingerprint == best.fingerprint
        assert timeless(retried) == timeless(trials)
        assert written(search) == retried
        assert made == len(trials) - (whole - 1)
