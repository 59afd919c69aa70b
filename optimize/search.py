"""Propose, judge, keep or roll back: the way from the original to the boldest candidate that holds its guard-rails.

The walk goes from mild to bold. Error budgets for pruning come first, each starting from the last candidate that was kept; where one fails,
the gap to it is halved twice (on a logarithmic scale), and the walk is over. Then linear layers are factorized, under ever lower
energies. Every proposal is judged against the *original* on the guard split and written to the ledger before the next one is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from optimize import snapshot
from optimize.candidate import Candidate, Predict, Reference, Step
from optimize.data import Split
from optimize.guard.limits import Limits
from optimize.guard.score import Score, score
from optimize.guard.verdict import Verdict, admit, worst_class
from optimize.ledger import Ledger
from optimize.measure.macs import macs
from optimize.progress import gathered, note, track
from optimize.steps.factorize import Factorize
from optimize.steps.prune import Prune

BUDGETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
ENERGIES = (0.999, 0.995, 0.99, 0.97, 0.95, 0.9)
HALVINGS = 2
CASES_AT_ONCE = 256
WORK = ".work"
NOT_SMALLER = "nothing became smaller"


@dataclass(frozen=True)
class Trial:
    """One proposal and what became of it.

    Args:
        step: what was proposed, on top of the candidate kept before.
        verdict: on the guard split, against the original.
        parameters: of the proposed candidate.
        macs: of the proposed candidate, one input.
        overall: its accuracy on the guard split.
        worst: the class whose recall fell most, and by how much.
        seconds: what making and judging it took.
        findings: what was noticed while it was made.
    """

    step: Step
    verdict: Verdict
    parameters: int
    macs: int
    overall: float
    worst: tuple[str, float]
    seconds: float
    findings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form that the ledger and the report use."""
        name, drop = self.worst
        return {
            **snapshot.describe(self.step),
            "kept": bool(self.verdict),
            "reasons": list(self.verdict.reasons),
            "parameters": self.parameters,
            "macs": self.macs,
            "overall": self.overall,
            "worst_class": {"name": name, "drop": drop},
            "seconds": round(self.seconds, 3),
            **({"findings": list(self.findings)} if self.findings else {}),
        }


@dataclass(frozen=True, eq=False)
class Search:
    """A walk through proposals, each kept or rolled back.

    Args:
        reference: the original and what the steps may look at.
        guard: the split that decides.
        classes: names of the labels.
        limits: the guard-rails.
        ledger: where every trial is written.
        budgets: error budgets, mild to bold.
        energies: shares of energy that factorizations keep, mild to bold.
    """

    reference: Reference
    guard: Split
    classes: tuple[str, ...]
    limits: Limits
    ledger: Ledger
    budgets: tuple[float, ...] = BUDGETS
    energies: tuple[float, ...] = ENERGIES

    def run(self, done: Sequence[dict[str, Any]] = ()) -> tuple[Candidate, list[dict[str, Any]]]:
        """Walk to the end.

        Args:
            done: trials of an interrupted run, in order; they are believed, not repeated.

        Returns:
            The last candidate that was kept (the original when none was) and all trials as plain data.
        """
        walk = _Walk(self, done)
        held, refused = 0.0, 0.0
        for budget in self.budgets:
            if not walk.offer(Prune(budget), walk.best) and walk.trials[-1]["reasons"] != [NOT_SMALLER]:
                refused = budget
                break
            held = budget
        for _ in range(HALVINGS if refused else 0):
            middle = sqrt(held * refused) if held else refused / 4
            if walk.offer(Prune(middle), walk.best):
                held = middle
            else:
                refused = middle
        pruned = walk.best
        for energy in self.energies:
            if not walk.offer(Factorize(energy), pruned) and walk.trials[-1]["reasons"] != [NOT_SMALLER]:
                break
        return walk.best, walk.trials

    def attempt(self, step: Step, start: Candidate, before: Score) -> tuple[Trial, Candidate]:
        """Make and judge one proposal."""
        clock = time.perf_counter()
        with gathered() as found:
            proposed = step(start, self.reference)
        if proposed.parameters < start.parameters:
            after = score_split(proposed.predict, self.guard, self.classes, "judge")
            verdict = admit(self.limits, before, after)
        else:
            after, verdict = before, Verdict("fail", (NOT_SMALLER,))
        worst = worst_class(before, after)
        seconds, findings = time.perf_counter() - clock, tuple(dict.fromkeys(map(str, found)))
        return Trial(step, verdict, proposed.parameters, macs(proposed), after.accuracy, worst, seconds, findings), proposed


class _Walk:
    """Where the search stands."""

    def __init__(self, search: Search, done: Sequence[dict[str, Any]]) -> None:
        self.search = search
        self.best = search.reference.original
        self.trials: list[dict[str, Any]] = []
        self._done = list(done)
        self._before = score_split(self.best.predict, search.guard, search.classes, "judge the original")

    def offer(self, step: Step, start: Candidate) -> bool:
        """Try a step on `start`, or read in the ledger what became of it; true when it was kept, which makes it the best."""
        file = self.search.ledger.path.parent / WORK / f"trial-{len(self.trials):03d}.safetensors"
        known = self._known(step, file)
        if known is not None:
            entry, proposed = known
        else:
            self._forget()
            trial, proposed = self.search.attempt(step, start, self._before)
            entry = trial.as_dict()
            if trial.verdict:
                file.parent.mkdir(exist_ok=True)
                snapshot.save(proposed, file)
            self.search.ledger.append(entry)
        self.trials.append(entry)
        note(self._line(entry))
        if entry["kept"]:
            self.best = proposed
        return bool(entry["kept"])

    def _line(self, entry: dict[str, Any]) -> str:
        setting = next(iter(entry["settings"].values()))
        off = 100 * (1 - entry["parameters"] / self.search.reference.original.parameters)
        outcome = "kept" if entry["kept"] else "rolled back"
        return f"{outcome:>11}  {entry['step']} {setting:g}, {off:.1f} % of parameters off: {entry['reasons'][0]}"

    def _forget(self) -> None:
        """From here on the interrupted run went another way: what it wrote after this point is void."""
        if len(self._done) > len(self.trials):
            self.search.ledger.begin()
            for entry in self.trials:
                self.search.ledger.append(entry)
        self._done = []

    def _known(self, step: Step, file: Path) -> tuple[dict[str, Any], Candidate] | None:
        number = len(self.trials)
        if number >= len(self._done):
            return None
        entry = self._done[number]
        if any(entry.get(name) != value for name, value in json.loads(json.dumps(snapshot.describe(step))).items()):
            return None
        if not entry["kept"]:
            return entry, self.best
        return (entry, snapshot.restore(self.search.reference.original, file)) if file.exists() else None


def score_split(predict: Predict, split: Split, classes: tuple[str, ...], description: str) -> Score:
    """Score any runtime's predict on a split, in batches so that memory is bounded."""
    starts = range(0, len(split), CASES_AT_ONCE)
    outputs = [predict(split.inputs(slice(start, start + CASES_AT_ONCE))) for start in track(starts, description)]
    return score(np.concatenate(outputs), split.labels, classes)
