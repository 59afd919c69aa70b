"""A second check of proposals on labelled images of the training split, which has many cases where the guard split has few.

The guard split is asked some dozens of times during a search, so part of what it lets pass is chance. A proposal that passes the guard
split must therefore also hold its limits on up to 2,048 training images, with the chance in that measurement (`guard/verdict.py:
accept_proposal`).

The original was trained on these images and may have memorized them, so they cannot replace the guard split. But a repair is not training:
what it loses on these images it loses elsewhere too, and more cases show it more surely.

The check also works the other way. Where the guard split measured no more loss than the limits allow, and only chance could hide more, the
training images settle it. They do not where the verdict will ask for more than measured values, nor for a candidate that was trained on
them. And they never outweigh a loss that the guard split measured: a class with few training images may be memorized there and lost
elsewhere.

Example: limit 2 points, 200 guard images, 2,048 training images. The guard split measures a drop of .5 points, but with 200 images a drop
of 2.6 points cannot be excluded, so it refuses. On the training images the drop is .6 points, at most 1.2: the proposal is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from optimize.candidate import Candidate, Predict
from optimize.data.dataset import Split
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.guard.limits import POWER, Limits
from optimize.guard.rails import rows
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict, accept_proposal, search_confidence, summary

MAX_TRAIN_CHECK_CASES, MIN_TRAIN_CHECK_CASES = 2048, 256
MAC_BUDGET = 2 * 10**12
"""Multiply-accumulates of the check. A heavy network is checked on fewer images."""


@dataclass(frozen=True, eq=False)
class TrainCheck:
    """The original's score on some training images, and the limits that a proposal must hold on them.

    Args:
        split: the training images.
        classes: names of the labels.
        limits: the guard-rails that can be checked on them.
        confidence: confidence of the bounds that must lie within the limits.
        baseline: the original's score.
        trained: whether the candidate in question was trained on these images.
    """

    split: Split
    classes: tuple[str, ...]
    limits: Limits
    confidence: float
    baseline: Score
    trained: bool = False

    @classmethod
    def from_train(
        cls,
        original: Candidate,
        train: Split,
        n_guard: int,
        n_test: int,
        classes: tuple[str, ...],
        limits: Limits,
        seed: int,
        power: float = POWER,
    ) -> Self | None:
        """Score the original on a random sample of the training split; return None where the sample is no larger than the guard split.

        Args:
            original: the original network.
            train: the split it was trained on.
            n_guard: number of cases or patients of the guard split.
            n_test: number of cases or patients of the test split.
            classes: names of the labels.
            limits: the guard-rails.
            seed: seed of the sample.
            power: the chance of acceptance that the run asks for.
        """
        # 2 * 10^12 / 300 million MACs = 6,666 images, of which 2,048 are enough; a network of 4 billion MACs is checked on 500
        count = int(np.clip(MAC_BUDGET // max(1, macs(original)), MIN_TRAIN_CHECK_CASES, MAX_TRAIN_CHECK_CASES))
        split = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:count]))
        # cases of one patient resemble each other, so patients count, where they are known
        if split.n_independent <= n_guard:
            return None
        baseline = score_split(original.predict, split, classes, "the original on training images")
        # the confidence for this number of cases: the more there are for each case of the test split, the more certainty is asked for
        checkable = replace(limits, rails=_checkable(limits))
        return cls(split, classes, checkable, search_confidence(limits, split.n_independent, n_test, power), baseline)

    def for_candidate(self, candidate: Candidate) -> Self:
        """Return the check for this candidate: it knows whether the candidate was trained on the images."""
        return replace(self, trained=any(step.TRAINS for step in candidate.lineage))

    @property
    def note(self) -> str:
        """A sentence for the report."""
        images = f"{len(self.split)} training images, which the original may have memorized, were a second check"
        return f"{images}: what passed the guard split had to hold its limits on them too, at {100 * self.confidence:.3g} % confidence"

    def review(self, verdict: Verdict, predict: Predict) -> Verdict:
        """Return the verdict on a proposal after this check.

        Args:
            verdict: the verdict on the guard split.
            predict: the proposal.
        """
        if not verdict and not self.decided_by_chance(verdict):
            return verdict
        score = score_split(predict, self.split, self.classes, "check on training images")
        # "point" pools the cases of all classes for the bounds. That is enough to decide whether the search goes on; no final verdict
        # depends on it.
        own = accept_proposal(replace(self.limits, verdict="point"), self.baseline, score, self.confidence)
        # Four cases. Both pass: kept. The guard split passes and this does not: refused, since more cases show a loss more surely. The
        # guard split refuses for chance alone and this passes: kept. Both refuse: refused, with the reasons of both.
        objections = tuple(f"on training images, {reason}" for reason in own.reasons)
        if verdict:
            return verdict if own else Verdict("fail", objections, own.rails, verdict.chance)
        if own:
            excluded = "training images exclude a larger loss, for which the guard split is too small"
            return Verdict("pass", (f"{summary(verdict.rails)}; {excluded}",), verdict.rails, verdict.chance)
        return replace(verdict, reasons=(*verdict.reasons, *objections))

    def decided_by_chance(self, verdict: Verdict) -> bool:
        """Return whether the guard refused only because chance could hide more; absolute figures and subgroups it decides alone."""
        if self.limits.verdict != "point" or self.trained or not verdict.rails:
            return False
        # rails that are surely held decide nothing; each of the others must have been refused for its bound, not for its measured value
        doubtful = [rail for rail in verdict.rails if not (rail.lossless or rail.surely_held)]
        return all(rail.rule == "drop" and rail.column is None and rail.held_by_value for rail in doubtful)


def _checkable(limits: Limits) -> dict[str, float | None]:
    """Return the limits that training images can check: no absolute figures, and not the calibration of the confidence."""
    return {row.name: limits.rails[row.name] if row.on_training_images else None for row in rows()}
