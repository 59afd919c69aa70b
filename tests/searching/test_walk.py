"""The walk: judged against the original, written down before it goes on, and the same after any interruption."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimize.candidate import Candidate, Reference, Step
from optimize.errors import OutOfTime
from optimize.guard.acceptance_rule import AcceptanceRule
from optimize.guard.best_possible import best_possible_rails
from optimize.guard.evaluate import score_split
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict
from optimize.progress import COLUMNS, track
from optimize.progress.deadline import Deadline
from optimize.searching.budgets import Budgets
from optimize.searching.trial import NOT_SMALLER, ScoreSummary, Trial
from optimize.searching.walk import WORK_FOLDER, Search, Walk
from optimize.steps.chain import Chain
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from tests import runs
from tests.searching.trials import RUINOUS, ran, resumed, settings, timeless, written


def test_a_trial_says_what_was_measured(search: Search, original: Candidate) -> None:
    entry = replace(search, strategy=Budgets((0.001,), ())).run().trials[0]
    made = Prune(0.001)(original, search.reference)
    right = made.predict(search.guard.inputs()).argmax(1) == search.guard.labels
    assert entry["overall"] == right.mean()
    assert entry["parameters"] == sum(parameter.numel() for parameter in made.module.parameters())
    conv, first, second = (made.module.get_parameter(f"{name}.weight") for name in ("0", "4", "6"))
    assert entry["macs"] == conv.numel() * 64 + first.numel() + second.numel()  # 8 x 8 places for the convolution
    assert entry["seconds"] > 0
    assert entry["worst_class"] == {"name": "bar", "drop": 0.0}
    labels = search.guard.labels
    assert entry["per_class"] == {name: pytest.approx(right[labels == k].mean()) for k, name in enumerate(runs.CLASSES)}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Prune(0.001), "Prune 0.001"),
        (PruneToWidths((("a", 4), ("b", 0))), "PruneToWidths 2 groups"),
        (Chain((PruneToWidths((("a", 4),)), Finetune(3))), "Chain PruneToWidths and Finetune"),
        (Chain((PruneToWidths((("a", 4),)), Finetune(3, interpolation=0.25))), "Chain PruneToWidths and 0.25 of Finetune"),
    ],
)
def test_a_trial_in_one_line(step: Step, words: str) -> None:
    trial = Trial(step, Verdict("fail", ("recall fell", "more")), 250, 10, ScoreSummary(0.9, {}), ("a", 0.1), 1.0)
    assert trial.line(1000) == f"rolled back  {words}, 75.0 % of parameters off: recall fell"


@pytest.mark.parametrize(
    ("reason", "figure"),
    [
        ("overall accuracy 97.3 % against 97.8 % (a drop of 1.2 pp at most, at 95 %), limit 2 pp", "accuracy 97.3 % against 97.8 %"),
        ("recall of 8 falls by 3.1 pp; the true loss may be 4 pp larger by chance", "recall of 8 falls by 3.1 pp"),
        ("recall of 8 falls by 3.1 pp; more", "recall of 8 falls by 3.1 pp"),
        ("a " * 80, ""),
    ],
)
def test_a_trial_says_the_figure_that_decided_and_all_of_it_for_who_asks(reason: str, figure: str) -> None:
    trial = Trial(Prune(0.001), Verdict("pass", (reason, "more")), 250, 10, ScoreSummary(0.9, {}), ("a", 0.1), 1.0, ("noticed",), 2.5)
    line = trial.line(1000)
    assert len(line) <= COLUMNS
    assert line.endswith(f"parameters off: {figure}" if figure else "a a …")
    assert trial.details == (reason, "more", "2.500 ms on the target", "noticed")


def test_a_strategy_reads_what_became_of_a_step_and_may_judge_it_itself(search: Search, original: Candidate) -> None:
    seen: list[Trial] = []
    given: list[tuple[Score, Score]] = []

    def never(before: Score, after: Score) -> Verdict:
        given.append((before, after))
        return Verdict("fail", ("never",))

    def strategy(walk: Walk) -> None:
        seen.append(walk.propose(Prune(0.001), walk.best, never))
        assert walk.best is walk.original is original
        assert walk.best_score == ScoreSummary.of(walk.baseline_score)
        seen.append(walk.propose(Prune(RUINOUS), walk.best, lambda before, after: Verdict("pass", ("always",))))
        assert walk.best.lineage == (Prune(RUINOUS),)
        assert walk.best_score == seen[1].score
        seen.append(walk.propose(Prune(1e-30), walk.original))
        assert (walk.limits, walk.reference, walk.trials) == (search.limits, search.reference, seen)

    scripted = replace(search, strategy=strategy)
    _, trials = ran(scripted)
    assert [(bool(trial), trial.changed_nothing, trial.verdict.reasons[0]) for trial in seen] == [
        (False, False, "never"),
        (True, False, "always"),
        (False, True, NOT_SMALLER),
    ]
    ((before, after),) = given
    assert before.accuracy == (original.predict(search.guard.inputs()).argmax(1) == search.guard.labels).mean()
    assert ScoreSummary.of(after) == seen[0].score
    fresh, seen = seen, []
    _, retried, made = resumed(scripted)
    assert (made, retried, seen) == (0, trials, [replace(trial, seconds=round(trial.seconds, 3)) for trial in fresh])


def test_a_walk_cut_at_any_line_or_inside_it_ends_the_same(search: Search) -> None:
    best, trials = ran(search)
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
    best, trials = ran(search)
    (search.ledger.path.parent / WORK_FOLDER / "trial-003.safetensors").unlink()
    again, retried, made = resumed(search)
    assert made == len(trials) - 3 > 0
    assert again.fingerprint == best.fingerprint
    assert timeless(retried) == timeless(trials)
    assert written(search) == retried


def test_only_what_was_done_anew_counts_for_the_time_left(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr("optimize.searching.walk.end_step", lambda: steps.append(1))
    _, trials = ran(search)
    assert len(steps) == len(trials)
    (search.ledger.path.parent / WORK_FOLDER / "trial-003.safetensors").unlink()
    _, _, made = resumed(search)
    assert len(steps) == len(trials) + made


def test_a_ledger_of_other_steps_is_not_believed(search: Search) -> None:
    best, _ = ran(search)
    other = replace(search, strategy=Budgets((0.002, RUINOUS)))
    again, retried, made = resumed(other)
    assert made == len(retried)
    assert settings(retried)[0] == ("Prune", 0.002, True)
    assert written(search) == retried
    assert again.fingerprint != best.fingerprint


def test_what_the_rows_do_not_determine_stands_in_the_ledger(search: Search, original: Candidate) -> None:
    few = Reference(original, search.reference.calibration[:4])
    told = replace(search, reference=few, strategy=Budgets((0.001,), ()))
    _, trials = ran(told)
    layer = next(line for line in trials[0]["findings"] if "unknowns" in line)
    assert "independent ones too few: the ridge decides between equals" in layer
    assert written(told)[0]["findings"] == trials[0]["findings"]


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_deadline_ends_the_search_with_what_was_kept_last(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two proposals of 40 s are made; the third would end after 110 s. Without the deadline the same strategy makes more."""
    clock, plain = Clock(), Search.attempt

    def attempt(self: Search, *arguments: object) -> tuple[Trial, Candidate]:
        trial, proposed = plain(self, *arguments)  # type: ignore[arg-type]
        clock.now += 40
        return replace(trial, seconds=40.0), proposed

    def strategy(walk: Walk) -> None:
        for budget in (0.001, 0.002, 0.003, 0.004):
            walk.propose(Prune(budget), walk.original)

    monkeypatch.setattr(Search, "attempt", attempt)
    cut = replace(search, strategy=strategy, deadline=Deadline(110, clock)).run()
    assert (len(cut.trials), cut.out_of_time) == (2, True)
    assert cut.best is not search.reference.original
    # the ledger goes on from there: the first two proposals are taken over, and the end is that of a search without a deadline
    went_on = replace(search, strategy=strategy).run(cut.trials)
    assert (len(went_on.trials), went_on.out_of_time) == (4, False)
    assert went_on.trials[:2] == cut.trials
    assert len(written(search)) == 4


def test_a_deadline_ends_long_work_between_two_of_its_items(search: Search) -> None:
    clock, done = Clock(), list[int]()

    def strategy(walk: Walk) -> None:
        walk.propose(Prune(0.001), walk.original)
        for turn in track(range(10), "scan"):
            clock.now += 30
            done.append(turn)

    found = replace(search, strategy=strategy, deadline=Deadline(100, clock)).run()
    assert (done, found.out_of_time, len(found.trials)) == ([0, 1, 2, 3], True, 1)
    assert found.best is not search.reference.original


def test_a_proposal_of_another_kind_says_nothing_of_what_this_one_takes(search: Search) -> None:
    clock = Clock()
    walk = Walk(replace(search, deadline=Deadline(50, clock)), [])
    verdict, score = Verdict("pass", ("held",)), ScoreSummary(0.9, {})
    walk.trials = [Trial(Chain((Prune(0.1),)), verdict, 250, 10, score, ("a", 0.1), 500.0)]
    walk._require_time(Prune(0.1))
    walk.trials += [Trial(Prune(0.1), verdict, 250, 10, score, ("a", 0.1), seconds) for seconds in (90.0, 60.0, 20.0, 10.0)]
    walk._require_time(Prune(0.2))  # 20 s, the median of the last three
    clock.now = 31
    with pytest.raises(OutOfTime):
        walk._require_time(Prune(0.2))


def test_the_chance_of_acceptance_is_asked_for_recorded_and_read_back(search: Search, original: Candidate) -> None:
    baseline = score_split(original.predict, search.guard, search.classes, "judge")
    rails = best_possible_rails(runs.split("test", runs.arrays(200)), search.classes, search.limits)
    rule = AcceptanceRule.planned(search.limits, baseline, rails, len(search.guard))
    asked = replace(search, rule=rule)
    found = asked.run()
    chances = [entry["chance"] for entry in found.trials if entry["reasons"] != [NOT_SMALLER]]
    assert all((entry["chance"] or 0) >= rule.asked_chance for entry in found.trials if entry["kept"])
    assert any(entry["kept"] for entry in found.trials)
    assert min(chances) < rule.asked_chance, "the ruinous one has hardly any"
    assert [entry["chance"] for entry in written(asked)] == [entry["chance"] for entry in found.trials]
    again = asked.run(written(asked))
    assert timeless(list(again.trials)) == timeless(list(found.trials))
