"""Two rails along a walk of many small steps: how much one step may lose, and how much all of them together.

The published loop compares drops as they are. Here the cumulative rail is the search's usual question, which leaves room for chance
(`accept_proposal`); the step rail compares the proposal with the last candidate that was kept. A proposal that breaks both is a
step too bold, and a smaller one may do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from optimize.guard.limits import Limits, points
from optimize.guard.rail import TOLERANCE
from optimize.guard.score import Score
from optimize.guard.verdict import LIKELY, Verdict, accept_proposal
from optimize.search.walk import Judge, Reading

WARN = 0.85


@dataclass(frozen=True)
class Rails:
    """Largest drops, as fractions.

    Args:
        step_overall: of accuracy, by one step.
        step_class: of any class's recall, by one step.
        overall: of accuracy, against the original.
        per_class: of any class's recall, against the original.
        warn: share of the cumulative rails from which shallow blocks are spared.
    """

    step_overall: float
    step_class: float
    overall: float
    per_class: float
    warn: float = WARN

    @classmethod
    def within(cls, limits: Limits) -> Rails:
        """A run's limits as the cumulative rails, and half of them for a step."""
        return cls(limits.max_drop / 2, limits.max_class_drop / 2, limits.max_drop, limits.max_class_drop)

    def bold(self, before: Reading, after: Reading) -> tuple[str, ...]:
        """Why a step from one reading to the other loses too much at once; empty when it does not."""
        return _over(before, after, self.step_overall, self.step_class, "one step may lose")

    def warns(self, original: Reading, now: Reading) -> bool:
        """Whether little is left of the cumulative rails."""
        return bool(_over(original, now, self.warn * self.overall - 2 * TOLERANCE, self.warn * self.per_class - 2 * TOLERANCE, ""))

    def judge(self, standing: Reading, limits: Limits, confidence: float = LIKELY) -> Judge:
        """The verdict on a step from where the walk stands; the cumulative rails take the place of the drops that `limits` allows."""
        cumulative = {**limits.rails, "max_drop": self.overall, "max_class_drop": self.per_class}
        return partial(self._verdict, standing, replace(limits, rails=cumulative), confidence)

    def _verdict(self, standing: Reading, cumulative: Limits, confidence: float, before: Score, after: Score) -> Verdict:
        reasons = self.bold(standing, Reading.of(after))
        return Verdict("fail", reasons) if reasons else accept_proposal(cumulative, before, after, confidence)


CELEBA = Rails(0.01, 0.03, 0.02, 0.06)
CIFAR = Rails(0.015, 0.045, 0.03, 0.09)
"""The published ones."""


def _over(before: Reading, after: Reading, overall: float, per_class: float, rule: str) -> tuple[str, ...]:
    drops = [("overall accuracy", before.overall - after.overall, overall)]
    # in the order of what was just measured: a reading from the ledger has its classes in another
    drops += [(f"recall of {name}", before.per_class[name] - recall, per_class) for name, recall in after.per_class.items()]
    return tuple(f"{what} fell by {points(drop)}; {rule} {points(rail)}" for what, drop, rail in drops if drop > rail + TOLERANCE)
