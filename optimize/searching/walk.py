"""Propose, judge, keep or roll back: the way from the original to the boldest candidate that holds its guard-rails.

A strategy decides what to try: it is a frozen dataclass, its fields are its settings, and it is called with the walk. The walk makes every
proposal and judges it against the *original* on the guard split. It writes the trial to the ledger before the next one is made, and saves
the candidate to disk when it was kept.

After an interruption the walk takes the outcome of every trial from the ledger, as long as the strategy makes the same proposals in the
same order. A strategy decides by the outcomes alone, so it does; then the run ends where it would have ended. At the first proposal that
differs, the rest of the ledger is dropped and the search goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TypeAlias

from optimize.candidate import Candidate, Reference, Step
from optimize.data.dataset import Split
from optimize.errors import OutOfTime
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import SEARCH_CONFIDENCE, Verdict, accept_proposal, worst_class
from optimize.progress import collect_findings, end_step, note
from optimize.progress.deadline import Deadline
from optimize.searching import snapshot
from optimize.searching.goal import Goal
from optimize.searching.ledger import WORK_FOLDER, Ledger
from optimize.searching.train_check import TrainCheck
from optimize.searching.trial import NOT_SMALLER, ScoreSummary, Trial, plain

MAX_EARLIER = 8
"""Largest number of remembered candidates that were kept before the best: where the best is not accepted as compiled, they are tried."""


Judge: TypeAlias = Callable[[Score, Score], Verdict]
"""(the original's score, the proposal's score), both on the guard split -> whether the proposal is kept."""


class Strategy(Protocol):
    """A frozen dataclass that is called with the walk and proposes one step after the other; its fields are its settings.

    A strategy that a recipe can name is a `NamedStrategy` (`searching/strategies.py`).
    """

    def __call__(self, walk: Walk) -> None:
        """Make all proposals; afterwards `walk.best` is the best candidate."""
        ...


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Result of a search, as the rest of a run uses it.

    Args:
        best: the last candidate that was kept; the original where none was.
        trials: every proposal in the order it was made, as plain data (`Trial.as_dict`).
        earlier: candidates that were kept before the best, oldest first, at most `MAX_EARLIER`. They lost less than the best, so they may
            still hold the limits in int8 where the best does not.
        baseline_score: the original's score on the guard split.
        confidence: confidence of the bounds that had to lie within the limits.
        notes: sentences for the report.
        goal: the latency that was asked for, or None.
        out_of_time: whether a deadline ended the search before its strategy did.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> import optimize as opt
        >>> rng = np.random.default_rng(0)
        >>> splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> original, data, limits = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits), opt.Limits(max_drop=0.9)
        >>> result = opt.search(original, data, limits, strategy=opt.Budgets(budgets=(0.1,), energies=()))
        >>> isinstance(result.best, opt.Candidate), result.baseline_score.overall == opt.evaluate(original.predict, data.guard).overall
        (True, True)
    """

    best: Candidate
    trials: tuple[dict[str, Any], ...]
    earlier: tuple[Candidate, ...]
    baseline_score: Score
    confidence: float
    notes: tuple[str, ...] = ()
    goal: Goal | None = None
    out_of_time: bool = False


@dataclass(frozen=True, eq=False)
class Search:
    """A strategy with everything it works on.

    Args:
        reference: the original, and the data that steps may use.
        guard: the split that decides.
        classes: names of the labels.
        limits: the guard-rails.
        ledger: file that every trial is written to.
        strategy: decides what to try, in which order.
        confidence: confidence of the bounds that must lie within the limits, see `guard.verdict.search_confidence`.
        latency_timer: measures the latency of a kept candidate on the target in milliseconds, for the ledger; None for no latencies.
        train_check: second check of proposals that pass the guard split, on training images; None where there are too few.
        deadline: moment at which the search ends with what was kept last; None for as long as the strategy goes on.
        rule: decides whether a proposal is kept that comes without a judge of its own; None for `accept_proposal` at `confidence`.
        baseline_score: the original's score on the guard split; None to score it now.
    """

    reference: Reference
    guard: Split
    classes: tuple[str, ...]
    limits: Limits
    ledger: Ledger
    strategy: Strategy
    confidence: float = SEARCH_CONFIDENCE
    latency_timer: Callable[[Candidate], float] | None = None
    train_check: TrainCheck | None = None
    baseline_score: Score | None = None
    deadline: Deadline | None = None
    rule: Judge | None = None

    @property
    def judge(self) -> Judge:
        """Decides whether a proposal is kept."""
        return self.rule or partial(accept_proposal, self.limits, confidence=self.confidence)

    def run(self, done: Sequence[Mapping[str, Any]] = ()) -> SearchResult:
        """Let the strategy make its proposals, and return what it found.

        Args:
            done: trials of an interrupted run, in order. Their outcome is taken from here instead of being measured again.
        """
        walk = self.walk(done)
        trials = tuple(trial.as_dict() for trial in walk.trials)
        return SearchResult(walk.best, trials, tuple(walk.earlier), walk.baseline_score, self.confidence, out_of_time=walk.out_of_time)

    def walk(self, done: Sequence[Mapping[str, Any]] = ()) -> Walk:
        """Let the strategy make its proposals, and return the walk at its end; `run` gives the same as one frozen value."""
        walk = Walk(self, done)
        try:
            with nullcontext() if self.deadline is None else self.deadline.enforced():
                self.strategy(walk)
        except OutOfTime:
            # nothing is lost but the proposal that was under way: what was kept before is the result
            walk.out_of_time = True
        return walk

    def attempt(self, step: Step, start: Candidate, baseline: Score, judge: Judge) -> tuple[Trial, Candidate]:
        """Make and judge one proposal.

        Args:
            step: the step to try.
            start: the candidate to try it on.
            baseline: the original's score on the guard split.
            judge: decides whether the proposal is kept.
        """
        clock = time.perf_counter()
        with collect_findings() as findings:
            proposed = step(start, self.reference)
        latency_ms = None
        # A step that removed nothing is not judged: every reading of the guard split is one more occasion for chance to let something pass.
        if proposed.parameters < start.parameters:
            score = score_split(proposed.predict, self.guard, self.classes, "judge")
            verdict = judge(baseline, score)
            if self.train_check is not None:
                # the check may turn a pass into a refusal, and a refusal that only chance explains into a pass
                verdict = self.train_check.for_candidate(proposed).review(verdict, proposed.predict)
            # what is refused is never shipped, and opening and timing it takes as long as judging it
            if verdict and self.latency_timer is not None:
                latency_ms = self.latency_timer(proposed)
        else:
            score, verdict = baseline, Verdict("fail", (NOT_SMALLER,))
        trial = Trial(
            step,
            verdict,
            proposed.parameters,
            macs(proposed),
            ScoreSummary.of(score),
            worst_class(baseline, score),
            time.perf_counter() - clock,
            tuple(dict.fromkeys(map(str, findings))),
            latency_ms,
        )
        return trial, proposed


class Walk:
    """State of a search, which its strategy reads and changes by `propose`.

    Attributes:
        search: the search with everything it works on.
        original: the candidate it started from.
        best: the last candidate that was kept.
        baseline_score: the original's score on the guard split.
        best_score: the best candidate's score on the guard split.
        trials: every proposal so far.
        earlier: candidates that were kept before the best, the last `MAX_EARLIER`, oldest first.
        out_of_time: whether the deadline has ended the search.
    """

    def __init__(self, search: Search, done: Sequence[Mapping[str, Any]]) -> None:
        self.search = search
        self.original = self.best = search.reference.original
        self.trials: list[Trial] = []
        self.earlier: deque[Candidate] = deque(maxlen=MAX_EARLIER)
        score = search.baseline_score
        self.baseline_score = score_split(self.best.predict, search.guard, search.classes, "judge the original") if score is None else score
        self.best_score = ScoreSummary.of(self.baseline_score)
        self.out_of_time = False
        self._done = list(done)

    @property
    def reference(self) -> Reference:
        """The original, and the data that steps may use."""
        return self.search.reference

    @property
    def limits(self) -> Limits:
        """The guard-rails of the run."""
        return self.search.limits

    def propose(self, step: Step, start: Candidate, judge: Judge | None = None) -> Trial:
        """Try a step on `start`, or take its outcome from the ledger; when it is kept, it is the best from now on.

        Args:
            step: the step to try. Its fields must tell it from every other proposal, since the ledger finds it by them.
            start: the candidate to try it on.
            judge: decides whether it is kept; by default the search's rule does.

        Raises:
            OutOfTime: when the search has a deadline, and a proposal like this would take longer than until then.
        """
        # numbered by trial, so a resumed run finds the file of the trial it repeats
        file = self.search.ledger.path.parent / WORK_FOLDER / f"trial-{len(self.trials):03d}.safetensors"
        recorded = self._from_ledger(step, start, file)
        if recorded is not None:
            trial, proposed = recorded
        else:
            self._require_time(step)
            self._drop_rest()
            trial, proposed = self.search.attempt(step, start, self.baseline_score, judge or self.search.judge)
            if trial:
                file.parent.mkdir(exist_ok=True)
                # Written before the line in the ledger. An interruption between the two leaves a file without a line, and the trial is made
                # again; the other way round a line would say "kept" of a candidate that is lost.
                snapshot.save(proposed, file, start)
            self.search.ledger.append(trial.as_dict())
        self.trials.append(trial)
        note(trial.line(self.original.parameters), trial.details)
        if recorded is None:
            end_step()  # what the ledger knew took no time, and says nothing about the time that is left
        if trial:
            # the original is always at hand, and is no milder candidate; nor is one of the same widths that was repaired less well
            if self.best is not self.original and self.best.parameters > proposed.parameters:
                self.earlier.append(self.best)
            self.best, self.best_score = proposed, trial.score
        return trial

    def _require_time(self, step: Step) -> None:
        """Check that the time left is enough for a proposal with such a step, as far as this run has shown what one takes."""
        if self.search.deadline is not None:
            # the last three: later proposals are narrower, and so are faster than the first ones
            alike = [trial.seconds for trial in self.trials if type(trial.step) is type(step) and not trial.changed_nothing][-3:]
            self.search.deadline.require(median(alike) if alike else 0.0)

    def _drop_rest(self) -> None:
        """Drop the rest of the interrupted run's trials: from here on this run makes other proposals."""
        if len(self._done) > len(self.trials):
            # written anew up to here, so that the file never holds trials of two different ways
            self.search.ledger.begin()
            for trial in self.trials:
                self.search.ledger.append(trial.as_dict())
        self._done = []

    def _from_ledger(self, step: Step, start: Candidate, file: Path) -> tuple[Trial, Candidate] | None:
        number = len(self.trials)
        if number >= len(self._done):
            return None
        entry = self._done[number]
        # The step's name and all of its settings must agree. Strategies decide by outcomes alone, so equal steps in equal order mean that
        # the same candidate was judged.
        if any(entry.get(name) != value for name, value in plain(step).items()):
            return None
        trial = Trial.read(step, entry)
        if not trial:
            # a refused candidate is never used again, so none is stored; `best` only fills its place in the pair
            return trial, self.best
        # a kept trial without its file cannot be believed: it is made again
        return (trial, snapshot.restore(self.original, file, start)) if file.exists() else None
