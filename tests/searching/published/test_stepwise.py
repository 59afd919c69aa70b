"""The loop on scripted scores, where every rule is seen to act, and on a small trained network, from end to end."""

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
from optimize.graph.trace import ChannelGroup, trace
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.importance.signal import Scores
from optimize.searching.ledger import Ledger
from optimize.searching.published.dispersion import DispersionCheck
from optimize.searching.published.stepwise import Stepwise
from optimize.searching.published.stopping import STOPPING, Decision, Evidence, Needs
from optimize.searching.walk import Search
from tests import runs
from tests.nets import candidate, cases
from tests.searching.nets import five
from tests.searching.scores import scored
from tests.searching.trials import ran, resumed, timeless, written

B1, B2, B3, B4, B5 = "0", "4", "8", "12", "16"
WHOLE = scored(0, 0, 0, 0)


@dataclass(frozen=True)
class Fixed:
    """Scores of the original's channels, whatever has become of the others; one not named is worth 1."""

    worth: dict[tuple[str, int], float] = field(default_factory=dict)

    def __call__(self, of: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        channels = [of.kept.get(group.name, np.arange(group.size)) for group in groups]
        return [
            np.array([self.worth.get((group.name, int(each)), 1.0) for each in kept]) for group, kept in zip(groups, channels, strict=True)
        ]


def first(**counts: int) -> Fixed:
    """Of the blocks b1 to b5, so many of the first channels are worth least, in order."""
    names = {"b1": B1, "b2": B2, "b3": B3, "b4": B4, "b5": B5}
    return Fixed({(names[block], k): 0.01 * k for block, count in counts.items() for k in range(count)})


Offered = list[tuple[str, tuple[int, ...], bool]]
Run = Callable[..., tuple[Candidate, Offered]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a strategy on scripted scores: what each proposal gets wrong, in turn; nothing once they are used up."""

    def scripted(strategy: Stepwise, *wrong: float | tuple[float, ...], start: Candidate | None = None) -> tuple[Candidate, Offered]:
        scores = [each if isinstance(each, tuple) else (each,) * 4 for each in wrong]
        script: Iterator[Score] = iter([WHOLE, *(scored(*each) for each in scores)])
        monkeypatch.setattr("optimize.searching.walk.score_split", lambda *_: next(script, WHOLE))
        original = start or five()
        ledger = Ledger(tmp_path / "ledger.jsonl", {})
        ledger.begin()
        aim = Reference(original, cases(8, tuple(original.example.shape[1:])))
        best, trials = ran(Search(aim, runs.split(), runs.CLASSES, Limits(), ledger, strategy))
        return best, [(each["settings"]["group"], tuple(each["settings"]["channels"]), each["kept"]) for each in trials]

    return scripted


def widths(of: Candidate) -> list[int]:
    return [group.size for group in trace(of).groups]


# nothing repaired, no health check, floors at one channel, all that is ranked is taken: what a test wants otherwise, it says
PLAIN = Stepwise(Fixed(), floors="none", repair="none", headroom_share=1.0, min_dispersion_share=0.0)


def test_a_round_takes_the_least_important_deepest_block_first_two_then_four(run: Run) -> None:
    """A quarter of 48 channels: twelve. Numbers are those of the network as it stands."""
    strategy = replace(PLAIN, importance=first(b5=7, b4=1, b2=3, b1=1), max_rounds=1)
    best, offered = run(strategy)
    assert offered == [
        (B5, (0, 1), True),
        (B5, (0, 1, 2, 3), True),
        (B5, (0,), True),
        (B4, (0,), True),
        (B2, (0, 1, 2), True),
        (B1, (0,), True),
    ]
    assert {name: best.kept[name].tolist() for name in (B5, B4, B2, B1)} == {
        B5: list(range(7, 16)),
        B4: list(range(1, 8)),
        B2: list(range(3, 8)),
        B1: list(range(1, 8)),
    }


def test_renumbering_when_the_least_important_stand_apart(run: Run) -> None:
    worth = {(B5, channel): 0.01 * k for k, channel in enumerate([9, 3, 15, 0, 8, 4])}
    best, offered = run(replace(PLAIN, importance=Fixed(worth), ranked_share=6 / 48, max_rounds=1))
    assert offered == [(B5, (3, 9), True), (B5, (0, 3, 7, 13), True)]
    assert best.kept[B5].tolist() == [1, 2, 5, 6, 7, 10, 11, 12, 13, 14]


def test_a_budget_goes_to_the_most_beneficial(run: Run) -> None:
    """Twelve are ranked, 5 % of the headroom of 43 may go: three. By macs and priors block 1 comes first here."""
    _, offered = run(replace(PLAIN, importance=first(b5=6, b3=2, b1=4), headroom_share=0.05, max_rounds=1))
    assert offered == [(B1, (0, 1), True), (B1, (0,), True)]
    _, offered = run(replace(PLAIN, importance=first(b5=6, b3=2, b1=4), headroom_share=1.0, max_per_round=5, max_rounds=1))
    assert offered == [(B3, (0,), True), (B1, (0, 1, 2, 3), True)]


def test_it_goes_on_until_every_floor_is_reached(run: Run) -> None:
    best, offered = run(replace(PLAIN, floors="S2"))
    assert all(kept for _, _, kept in offered)
    assert widths(best) == [7, 7, 6, 2, 5]  # .875, .875, .75, .25 and .3125 of the widths


def test_rounds_are_counted(run: Run) -> None:
    best, _ = run(replace(PLAIN, importance=first(b5=16), ranked_share=1 / 48, max_rounds=3))
    assert widths(best)[-1] == 16 - 3


def test_a_step_too_bold_is_rolled_back_halved_and_ends_the_round(run: Run) -> None:
    strategy = replace(PLAIN, importance=first(b5=10, b4=2), max_rounds=3)
    # the second chunk of four loses 1.1 pp at once
    best, offered = run(strategy, 0.0, 0.011)
    assert offered[:3] == [(B5, (0, 1), True), (B5, (0, 1, 2, 3), False), (B5, (0, 1), True)]
    # the second round: chunks of two, and block 4 is reached again
    assert offered[3:6] == [(B5, (0, 1), True), (B5, (0, 1), True), (B5, (0, 1), True)]
    assert offered[6] == (B4, (0, 1), True)
    assert best.kept[B5].tolist()[0] >= 10


def test_a_drop_of_exactly_the_step_is_kept(run: Run) -> None:
    _, offered = run(replace(PLAIN, importance=first(b5=2), ranked_share=2 / 48, max_rounds=1), 0.01)
    assert offered == [(B5, (0, 1), True)]


def test_one_class_alone_can_be_a_step_too_bold(run: Run) -> None:
    _, offered = run(replace(PLAIN, importance=first(b5=2), ranked_share=2 / 48, max_rounds=2), (0.031, 0, 0, 0), (0.029, 0, 0, 0))
    assert offered == [(B5, (0, 1), False), (B5, (0,), True), (B5, (0,), True)]


def test_a_chunk_of_one_closes_its_layer_and_all_open_once_more_when_nothing_is_left(run: Run) -> None:
    # everything is too bold: each layer is tried down to one channel and closed; nothing is tried again
    best, offered = run(replace(PLAIN, importance=first(b5=16), ranked_share=2 / 48), *[0.5] * 100)
    tried = [(B5, (0, 1)), (B5, (0,)), (B1, (0, 1)), (B1, (0,)), (B2, (0,)), (B3, (0,)), (B4, (0,))]
    assert offered == [(name, gone, False) for name, gone in tried]
    assert widths(best) == [8, 8, 8, 8, 16]


def test_layers_open_again_only_after_something_was_kept(run: Run) -> None:
    one = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), (3, 8, 8))
    strategy = replace(PLAIN, ranked_share=1.0, chunk_sizes=(1, 1))
    # kept, bold: closed, opened; kept, bold: closed, opened; bold: closed, and nothing was kept since
    _, offered = run(strategy, 0.0, 0.5, 0.0, 0.5, 0.5, start=one)
    assert [kept for _, _, kept in offered] == [True, False, True, False, False]


def test_the_cumulative_rail_ends_the_loop(run: Run) -> None:
    # no step loses more than .8 pp, all together lose 2.1
    best, offered = run(replace(PLAIN, importance=first(b5=12)), 0.007, 0.014, 0.021)
    assert [kept for _, _, kept in offered] == [True, True, False]
    assert len(best.lineage) == 2


def test_near_the_rail_the_shallow_blocks_are_spared_for_a_round(run: Run) -> None:
    """1.7 pp is 85 % of the rail."""
    strategy = replace(PLAIN, importance=first(b5=8, b2=8), ranked_share=4 / 48, chunk_sizes=(2, 2), max_rounds=3)
    _, offered = run(strategy, 0.009, 0.0169, 0.0169, 0.0169, 0.0169, 0.0169)
    assert [name for name, *_ in offered] == [B5, B2, B5, B2, B5, B2]
    # little is left after the first round; in the second only blocks 4 and 5 are ranked, and much is won back
    _, offered = run(strategy, 0.009, 0.017, 0.0, 0.0, 0.0)
    assert [name for name, *_ in offered] == [B5, B2, B5, B5, B2, B2]
    # nothing is won back
    _, offered = run(strategy, 0.009, 0.017, 0.017, 0.017)
    assert [name for name, *_ in offered] == [B5, B2, B5, B5]


def test_spared_blocks_open_again_when_nothing_else_is_left(run: Run) -> None:
    """Blocks 4 and 5 reach their floors of 1 and 2 in the first round; every second round only opens the others again."""
    start = five((8, 8, 8, 2, 4))
    strategy = replace(PLAIN, importance=first(b5=2, b4=1), floors="S2", ranked_share=3 / 30, alignment_rounds=0)
    for rounds, names in ((1, [B5, B4]), (2, [B5, B4]), (3, [B5, B4, B1]), (4, [B5, B4, B1]), (5, [B5, B4, B1, B2])):
        _, offered = run(replace(strategy, max_rounds=rounds), 0.009, *[0.0175] * 9, start=start)
        assert [name for name, *_ in offered] == names


def test_a_layer_that_would_say_the_same_to_everyone_is_left_until_something_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[int, ...]]] = []

    def holds(_: DispersionCheck, __: Candidate, ___: Reference, group: ChannelGroup, gone: Sequence[int]) -> bool:
        asked.append((group.name, tuple(gone)))
        return group.name != B5 or len(asked) > 1

    monkeypatch.setattr(DispersionCheck, "holds", holds)
    _, offered = run(replace(PLAIN, importance=first(b5=4, b4=2), ranked_share=6 / 48, max_rounds=3))
    assert asked[0] == (B5, (0, 1))
    # the rest of the round goes on, with a first chunk of two; then block 5 is asked about again
    assert offered[:2] == [(B4, (0, 1), True), (B5, (0, 1), True)]


def test_real_health_refuses_to_leave_only_the_silent(run: Run) -> None:
    """All but one channel of the last block hardly vary; the one that does is said to be worth least."""
    start = five()
    with torch.no_grad():
        start.module.get_parameter("17.weight")[1:] *= 1e-3
    strategy = replace(PLAIN, importance=Fixed({(B5, 0): 0.0, (B5, 1): 0.1}), ranked_share=1 / 48, min_dispersion_share=0.6, max_rounds=1)
    _, offered = run(strategy, start=start)
    assert offered == []
    _, offered = run(replace(strategy, min_dispersion_share=0.0), start=start)
    assert offered == [(B5, (0,), True)]


@dataclass(frozen=True)
class Scripted:
    """Says what it is told, by the number of proposals it was asked about, and remembers what it saw."""

    needs: ClassVar[Needs] = "nothing"
    says: tuple[Decision, ...] = ()
    shown: list[tuple[int, float, bool | None]] = field(default_factory=list)

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        said = self.says[len(self.shown)] if len(self.shown) < len(self.says) else "go on"
        self.shown.append((len(seen), seen[-1].progress, seen[-2].kept if len(seen) > 1 else None))
        return said


def test_a_rule_passes_over_a_chunk_and_its_layer(run: Run) -> None:
    rule = Scripted(says=("pass over",))
    _, offered = run(replace(PLAIN, importance=first(b5=4, b4=2), ranked_share=6 / 48, max_rounds=1, stopping=rule))
    assert offered == [(B4, (0, 1), True)]
    assert [count for count, *_ in rule.shown] == [1, 1]  # what was passed over is no part of the sequence


def test_a_rule_stops_the_loop(run: Run) -> None:
    rule = Scripted(says=("go on", "go on", "stop"))
    best, offered = run(replace(PLAIN, importance=first(b5=12), stopping=rule))
    assert [kept for _, _, kept in offered] == [True, True]
    assert len(best.lineage) == 2


def test_a_rule_sees_the_sequence_and_how_far_it_went(run: Run) -> None:
    rule = Scripted()
    run(replace(PLAIN, importance=first(b5=10), ranked_share=10 / 48, max_rounds=1, stopping=rule), 0.0, 0.5)
    room = 4 * 7 + 15
    assert rule.shown == [(1, 0.0, None), (2, pytest.approx(2 / room), True)]
    rule = Scripted()
    run(replace(PLAIN, importance=first(b5=10), ranked_share=10 / 48, max_rounds=2, stopping=rule), 0.0, 0.5)
    assert rule.shown[2] == (3, pytest.approx(2 / room), False)


@pytest.mark.parametrize("name", [name for name in STOPPING if name != "floor"])
def test_rules_that_refuse_everything_end_the_loop(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real evidence and its real decision replaced by a refusal, nothing is offered and the loop ends by itself."""
    rule = STOPPING[name]
    monkeypatch.setattr(type(rule), "__call__", lambda *_: "pass over")
    best, offered = run(replace(PLAIN, stopping=rule))
    assert (offered, best.lineage) == ([], ())


def test_the_last_sweep_brings_the_shallow_blocks_to_their_floors(run: Run) -> None:
    start = five((64, 64, 32, 8, 8))  # floors 56, 56, 24, 2, 3
    rule = Scripted(says=("stop",))
    best, offered = run(replace(PLAIN, importance=first(b3=9, b2=9, b1=9), floors="S2", stopping=rule), start=start)
    eight = tuple(range(8))
    assert offered == [(B3, eight, True), (B2, eight, True), (B1, eight, True)]
    assert widths(best) == [56, 56, 24, 8, 8]


def test_the_sweep_takes_eight_at_a_time_three_times_within_the_rails(run: Run) -> None:
    start = five((256, 8, 40, 8, 8))  # floors 224, 7, 30, 2, 3
    rule = Scripted(says=("stop",) * 2)
    strategy = replace(PLAIN, floors="S2", stopping=rule)
    best, offered = run(strategy, start=start)
    assert [(name, len(gone)) for name, gone, _ in offered] == [(B3, 8), (B2, 1), (B1, 8), (B3, 2), (B1, 8), (B1, 8)]
    assert widths(best) == [232, 7, 30, 8, 8]
    # block 3 too bold: it is left; then the cumulative rail: the sweep is over
    rule.shown.clear()
    _, offered = run(strategy, 0.011, 0.008, 0.016, 0.021, start=start)
    assert [(name, kept) for name, _, kept in offered] == [(B3, False), (B2, True), (B1, True), (B1, False)]


def test_without_floors_there_is_no_sweep(run: Run) -> None:
    _, offered = run(replace(PLAIN, stopping=Scripted(says=("stop",))))
    assert offered == []


def with_head() -> Candidate:
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 600), nn.ReLU(), nn.Linear(600, 4))
    return candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), *head), (3, 8, 8))


def test_linear_layers_come_last_and_keep_half(run: Run) -> None:
    worth = {("4", k): 0.0 for k in range(600)}
    best, offered = run(replace(PLAIN, importance=Fixed(worth), floors="S2", chunk_sizes=(32, 32)), start=with_head())
    names = [name for name, *_ in offered]
    assert names[0] == "0"
    assert names == sorted(names)
    assert widths(best) == [7, 300]


def test_a_network_with_nothing_to_cut_is_left(run: Run) -> None:
    best, offered = run(PLAIN, start=candidate(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8)))
    assert (best.lineage, offered) == ((), [])


@pytest.mark.parametrize(("wrong", "text"), [({"floors": "S9"}, r"`floors` \(='S9'\)"), ({"repair": "bn"}, r"`repair` \(='bn'\)")])
def test_unknown_names_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Stepwise(**wrong)


@pytest.fixture
def small(search: Search) -> Search:
    """The trained network of the tests, with room to lose something; what the steps do is real."""
    return replace(search, limits=Limits(0.04, 0.12), strategy=Stepwise(floors="none", max_rounds=8, max_per_round=8))


@pytest.mark.parametrize("repair", ["least squares", "batchnorm", "none"])
def test_a_whole_run(small: Search, repair: Any) -> None:
    search = replace(small, strategy=Stepwise(floors="none", repair=repair))
    best, trials = ran(search)
    assert written(search) == trials
    assert [step.group for step in best.lineage] == [each["settings"]["group"] for each in trials if each["kept"]]  # type: ignore[attr-defined]
    inputs, labels = search.guard.inputs(), search.guard.labels
    before, after = ((each.predict(inputs).argmax(1) == labels) for each in (search.reference.original, best))
    assert best.parameters < 0.5 * search.reference.original.parameters
    assert before.mean() - after.mean() <= 0.04
    assert all(before[labels == k].mean() - after[labels == k].mean() <= 0.12 for k in range(4))
    standing = before.mean()
    for each in trials:
        drop = standing - each["overall"]
        assert not each["kept"] or drop <= 0.02 + 1e-9
        standing = each["overall"] if each["kept"] else standing
    assert {each["step"] for each in trials} == {"RemoveChannels"}


@pytest.mark.parametrize(("rule", "outcomes"), [("floor", {True, False}), ("mcnemar", {True})])
def test_a_run_cut_at_any_line_ends_the_same(rule: str, outcomes: set[bool], small: Search) -> None:
    search = replace(small, strategy=Stepwise(floors="none", headroom_share=0.5, chunk_sizes=(2, 8), stopping=STOPPING[rule]))
    best, trials = ran(search)
    assert {each["kept"] for each in trials} == outcomes
    lines = search.ledger.path.read_text().splitlines(keepends=True)
    for whole in range(2, len(lines) + 1, len(lines) // 3):
        search.ledger.path.write_text("".join(lines[:whole]))
        again, retried, made = resumed(search)
        assert again.fingerprint == best.fingerprint
        assert again.lineage == best.lineage
        assert timeless(retried) == timeless(trials)
        assert written(search) == retried
        assert made == len(trials) - (whole - 1)


def test_layers_about_which_the_signal_is_silent_are_left_alone(run: Run) -> None:
    silent = {(name, channel): np.nan for name in (B1, B2, B3, B4) for channel in range(16)}
    best, offered = run(replace(PLAIN, importance=Fixed(silent), max_rounds=3))
    assert {group for group, _, _ in offered} == {B5}
    assert set(best.kept) >= {B5}


def test_a_signal_that_is_silent_about_all_layers_is_refused_before_anything_is_proposed(run: Run) -> None:
    with pytest.raises(InputError, match=r"`importance` .* says nothing about any channel of this network"):
        run(replace(PLAIN, importance=Fixed({(name, channel): np.nan for name in (B1, B2, B3, B4, B5) for channel in range(16)})))
