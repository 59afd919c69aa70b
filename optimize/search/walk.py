"""Propose, judge, keep or roll back: the way from the original to the boldest candidate that holds its guard-rails.

A strategy says what to try: it is a frozen dataclass, its fields are its settings, and it is called with the walk. The walk makes every
proposal, judges it against the *original* on the guard split, writes it to the ledger before the next one is made, and keeps the candidate
on disk when it was kept. A walk that was interrupted believes its ledger: a strategy that asks the same questions gets the same answers,
without the work.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from optimize.candidate import Candidate, Reference, Step
from optimize.data.dataset import Split
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import LIKELY, Verdict, accept_proposal, worst_class
from optimize.progress import collect_findings, note
from optimize.search import snapshot
from optimize.search.ledger import WORK, Ledger
from optimize.search.train_check import TrainCheck

REMEMBERED = 3
"""Candidates before the best."""
NOT_SMALLER = "nothing became smaller"

Judge: TypeAlias = Callable[[Score, Score], Verdict]
"""Whether a proposal is kept: given the original's score and the proposal's, on the guard split."""


@dataclass(frozen=True)
class Reading:
    """What a strategy may read of a score on the guard split: the overall figure, and that of each class that was seen."""

    overall: float
    per_class: Mapping[str, float]

    @classmethod
    def of(cls, score: Score) -> Reading:
        """The reading of a score."""
        return cls(score.overall, dict(score.figures))


@dataclass(frozen=True)
class Trial:
    """One proposal and what became of it; true when it was kept.

    Args:
        step: what was proposed.
        verdict: on the guard split.
        parameters: of the proposed candidate.
        macs: of the proposed candidate, one input.
        reading: how it does on the guard split.
        worst: the class that fell most, and by how much.
        seconds: what making and judging it took.
        findings: what was noticed while it was made.
        latency_ms: median at batch 1 in the target's runtime, where it was measured.
    """

    step: Step
    verdict: Verdict
    parameters: int
    macs: int
    reading: Reading
    worst: tuple[str, float]
    seconds: float
    findings: tuple[str, ...] = ()
    latency_ms: float | None = None

    def __bool__(self) -> bool:
        return bool(self.verdict)

    @property
    def idle(self) -> bool:
        """Whether the step made nothing smaller, so that there was nothing to judge."""
        return self.verdict.reasons == (NOT_SMALLER,)

    def as_dict(self) -> dict[str, Any]:
        """The form that the ledger and the report use."""
        name, drop = self.worst
        return {
            **_plain(self.step),
            "kept": bool(self),
            "reasons": list(self.verdict.reasons),
            "parameters": self.parameters,
            "macs": self.macs,
            "overall": self.reading.overall,
            "per_class": dict(self.reading.per_class),
            "worst_class": {"name": name, "drop": drop},
            "seconds": round(self.seconds, 3),
            "latency_ms": self.latency_ms,
            **({"findings": list(self.findings)} if self.findings else {}),
        }

    @classmethod
    def read(cls, step: Step, entry: Mapping[str, Any]) -> Trial:
        """The trial of a step from what `as_dict` gave."""
        verdict = Verdict("pass" if entry["kept"] else "fail", tuple(entry["reasons"]))
        reading, worst = Reading(entry["overall"], entry["per_class"]), (entry["worst_class"]["name"], entry["worst_class"]["drop"])
        seconds, findings, latency_ms = entry["seconds"], tuple(entry.get("findings", ())), entry.get("latency_ms")
        return cls(step, verdict, entry["parameters"], entry["macs"], reading, worst, seconds, findings, latency_ms)

    def line(self, original: int) -> str:
        """One line for a reader, given the original's number of parameters."""
        setting = next(iter(_plain(self.step)["settings"].values()))
        outcome, off = "kept" if self else "rolled back", 100 * (1 - self.parameters / original)
        return f"{outcome:>11}  {type(self.step).__name__} {_brief(setting)}, {off:.1f} % of parameters off: {self.verdict.reasons[0]}"


class Strategy(Protocol):
    """A frozen dataclass that is called with the walk and offers it one step after the other; its fields are its settings."""

    def __call__(self, walk: Walk) -> None:
        """Walk to the end; `walk.best` is where it led."""
        ...


@dataclass(frozen=True, eq=False)
class Search:
    """A strategy with everything it works on.

    Args:
        reference: the original and what the steps may look at.
        guard: the split that decides.
        classes: names of the labels.
        limits: the guard-rails.
        ledger: where every trial is written.
        strategy: what to try, in which order.
        confidence: of the bounds that must lie within the limits, see `optimize.guard.verdict.level`.
        latency_timer: milliseconds of a candidate on the target, for the record; None where there would be too many to time.
        witness: whom else to ask about what the guard lets pass; None where there is nobody.
    """

    reference: Reference
    guard: Split
    classes: tuple[str, ...]
    limits: Limits
    ledger: Ledger
    strategy: Strategy
    confidence: float = LIKELY
    latency_timer: Callable[[Candidate], float] | None = None
    witness: TrainCheck | None = None

    def run(self, done: Sequence[Mapping[str, Any]] = ()) -> tuple[Candidate, list[dict[str, Any]]]:
        """Walk to the end: the last candidate that was kept (the original when none was) and all trials as plain data.

        Args:
            done: trials of an interrupted run, in order; they are believed, not repeated.
        """
        walk = self.walk(done)
        return walk.best, [trial.as_dict() for trial in walk.trials]

    def walk(self, done: Sequence[Mapping[str, Any]] = ()) -> Walk:
        """The same: the walk itself, at its end."""
        walk = Walk(self, done)
        self.strategy(walk)
        return walk

    def attempt(self, step: Step, start: Candidate, before: Score, judge: Judge) -> tuple[Trial, Candidate]:
        """Make and judge one proposal."""
        clock = time.perf_counter()
        with collect_findings() as found:
            proposed = step(start, self.reference)
        latency_ms = None
        if proposed.parameters < start.parameters:
            latency_ms = None if self.latency_timer is None else self.latency_timer(proposed)
            after = score_split(proposed.predict, self.guard, self.classes, "judge")
            verdict = judge(before, after)
            if self.witness is not None:
                verdict = self.witness.about(proposed).review(verdict, proposed.predict)
        else:
            after, verdict = before, Verdict("fail", (NOT_SMALLER,))
        trial = Trial(
            step,
            verdict,
            proposed.parameters,
            macs(proposed),
            Reading.of(after),
            worst_class(before, after),
            time.perf_counter() - clock,
            tuple(dict.fromkeys(map(str, found))),
            latency_ms,
        )
        return trial, proposed


class Walk:
    """Where a search stands, for its strategy to read and to go on from.

    Attributes:
        search: what it walks for.
        original: the candidate it started from.
        best: the last candidate that was kept.
        before: the original's score on the guard split.
        best_score: what the best reads there.
        trials: every proposal so far.
        earlier: candidates that were kept before the best, the last few, in the order kept.
    """

    def __init__(self, search: Search, done: Sequence[Mapping[str, Any]]) -> None:
        self.search = search
        self.original = self.best = search.reference.original
        self.trials: list[Trial] = []
        self.earlier: deque[Candidate] = deque(maxlen=REMEMBERED)
        self.before = score_split(self.best.predict, search.guard, search.classes, "judge the original")
        self.best_score = Reading.of(self.before)
        self._done = list(done)

    @property
    def reference(self) -> Reference:
        """What steps may look at."""
        return self.search.reference

    @property
    def limits(self) -> Limits:
        """The guard-rails of the run."""
        return self.search.limits

    def propose(self, step: Step, start: Candidate, judge: Judge | None = None) -> Trial:
        """Try a step on `start`, or read in the ledger what became of it; when it was kept, it is the best from now on.

        Args:
            step: what to try; everything that tells it from another proposal must be in its fields.
            start: what to try it on.
            judge: whether it is kept; by default when the limits admit it.
        """
        file = self.search.ledger.path.parent / WORK / f"trial-{len(self.trials):03d}.safetensors"
        known = self._known(step, start, file)
        if known is not None:
            trial, proposed = known
        else:
            self._forget()
            usual = partial(accept_proposal, self.limits, confidence=self.search.confidence)
            trial, proposed = self.search.attempt(step, start, self.before, judge or usual)
            if trial:
                file.parent.mkdir(exist_ok=True)
                snapshot.save(proposed, file, start)
            self.search.ledger.append(trial.as_dict())
        self.trials.append(trial)
        note(trial.line(self.original.parameters))
        if trial:
            if self.best is not self.original:
                self.earlier.append(self.best)
            self.best, self.best_score = proposed, trial.reading
        return trial

    def _forget(self) -> None:
        """From here on the interrupted run went another way: what it wrote after this point is void."""
        if len(self._done) > len(self.trials):
            self.search.ledger.begin()
            for trial in self.trials:
                self.search.ledger.append(trial.as_dict())
        self._done = []

    def _known(self, step: Step, start: Candidate, file: Path) -> tuple[Trial, Candidate] | None:
        number = len(self.trials)
        if number >= len(self._done):
            return None
        entry = self._done[number]
        if any(entry.get(name) != value for name, value in _plain(step).items()):
            return None
        trial = Trial.read(step, entry)
        if not trial:
            return trial, self.best
        return (trial, snapshot.restore(self.original, file, start)) if file.exists() else None


def _plain(step: Step) -> dict[str, Any]:
    """A step as it reads in the ledger."""
    return dict(json.loads(json.dumps(snapshot.describe(step))))


def _brief(setting: Any) -> str:
    """A setting in a word or two."""
    if isinstance(setting, list):
        inner = [_part(each) for each in setting if isinstance(each, dict)]
        return " and ".join(inner) if inner else f"{len(setting)} groups"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def _part(step: Mapping[str, Any]) -> str:
    """A step of a chain, and how much of it where it went only part of the way."""
    share = step["settings"].get("interpolation", 1.0)
    return str(step["step"]) if share == 1 else f"{share:g} of {step['step']}"
