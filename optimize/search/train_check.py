"""A second opinion by the labels of train, where cases are many, on what the few of the guard say.

The guard is asked some dozens of times, and what passes in the end is what its few cases happen to flatter. Images that the original was
trained on cannot decide: it may know them by heart. But a repair is no training, and what it loses on them it loses elsewhere too, told by
more cases. So a proposal that the guard lets pass must not lose more than the limits on them either, with the chance in it
(`guard/verdict.py: admit`). And where the guard itself has lost no more than the limits, and only chance could hide more, they settle that;
not where the verdict will ask for more than measured values, and not for a network that was trained on them. What the guard has seen lost
they never talk away: a class that few images of train taught is remembered there and lost elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from optimize.candidate import Candidate, Predict
from optimize.data.dataset import Split
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, accept_proposal, search_confidence, summary

MOST, LEAST = 2048, 256
MAC_BUDGET = 2 * 10**12
"""Of the original's answers: of a heavy network fewer images are looked at."""
LEFT_OUT: dict[str, Any] = {"min_class_f1": 0.0, "min_class_recall": 0.0, "max_ece_rise": None}
"""What images that the original knows say nothing about: figures to be reached, and how sure it is."""


@dataclass(frozen=True, eq=False)
class TrainCheck:
    """What the original makes of some of train.

    Args:
        split: those images.
        classes: names of the labels.
        limits: the guard-rails.
        confidence: of the bounds that must lie within the limits.
        before: the original's score.
        trained: whether the network that is asked about was trained on them.
    """

    split: Split
    classes: tuple[str, ...]
    limits: Limits
    confidence: float
    before: Score
    trained: bool = False

    @classmethod
    def from_train(
        cls, original: Candidate, train: Split, guard: int, test: int, classes: tuple[str, ...], limits: Limits, seed: int
    ) -> Self | None:
        """Ask the original about images drawn from train; None where these are no more than the guard has.

        Args:
            original: the network.
            train: what it was trained on.
            guard: how many cases or patients the guard has.
            test: how many the test split has.
            classes: names of the labels.
            limits: the guard-rails.
            seed: of the draw.
        """
        count = int(np.clip(MAC_BUDGET // max(1, macs(original)), LEAST, MOST))
        split = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:count]))
        if split.n_independent <= guard:
            return None
        before = score_split(original.predict, split, classes, "the original on train")
        return cls(split, classes, replace(limits, **LEFT_OUT), search_confidence(limits, split.n_independent, test), before)

    def about(self, candidate: Candidate) -> Self:
        """The same on this candidate."""
        return replace(self, trained=any(step.TRAINS for step in candidate.lineage))

    @property
    def note(self) -> str:
        """For the report: who was asked."""
        asked = f"a second opinion was asked of {len(self.split)} images of train, which the original may know by heart"
        return f"{asked}: what the guard let pass had to hold its limits on them too, at {100 * self.confidence:.3g} % confidence"

    def review(self, verdict: Verdict, predict: Predict) -> Verdict:
        """What becomes of the guard's verdict on a proposal."""
        if not verdict and not self._open(verdict):
            return verdict
        after = score_split(predict, self.split, self.classes, "a second opinion")
        # classes lend one another their cases here: this asks whether to go on, and no verdict depends on it
        own = accept_proposal(replace(self.limits, verdict="point"), self.before, after, self.confidence)
        objections = tuple(f"on images of train, {reason}" for reason in own.reasons)
        if verdict:
            return verdict if own else Verdict("fail", objections, own.rails)
        if own:
            return Verdict("pass", (f"{summary(verdict.rails)}; images of train settle what chance could hide",), verdict.rails)
        return replace(verdict, reasons=(*verdict.reasons, *objections))

    def _open(self, verdict: Verdict) -> bool:
        """Whether the guard refused for what chance could hide alone; figures to be reached and subgroups are its own business."""
        if self.limits.verdict != "point" or self.trained or not verdict.rails:
            return False
        doubtful = [rail for rail in verdict.rails if not (rail.lossless or rail.surely_held)]
        return all(rail.rule == "drop" and rail.column is None and rail.held_by_value for rail in doubtful)
