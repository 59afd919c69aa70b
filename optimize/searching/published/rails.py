"""The published two limits on a search of many small steps: how much one step may lose, and how much all steps together may lose.

The published loop compares measured drops. Here the cumulative rail is the search's usual question, which leaves room for chance
(`guard/verdict.py: accept_proposal`). The step rail compares the proposal with the last candidate that was kept.

Example, `CIFAR`: the original has 95.0 % accuracy, the last kept candidate 93.5 %. A step to 91.9 % breaks both: it loses 1.6 points at
once (1.5 allowed), and 3.1 points in all (3.0 allowed). A step to 92.2 % loses 1.3 at once and 2.8 in all, and is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from optimize.guard.limits import Limits, Relative, absolute, points
from optimize.guard.rail import TOLERANCE
from optimize.guard.score import Score
from optimize.guard.verdict import SEARCH_CONFIDENCE, Verdict, accept_proposal
from optimize.searching.trial import ScoreSummary
from optimize.searching.walk import Judge

WARNING_SHARE = 0.85


@dataclass(frozen=True)
class StudyRails:
    """Largest drops, as fractions.

    Args:
        step_overall: largest drop of accuracy by one step; any of these four may be `Relative`, a share of what the drop starts from.
        step_class: largest drop of any class's recall by one step.
        overall: largest drop of accuracy against the original.
        per_class: largest drop of any class's recall against the original.
        warning_share: share of the cumulative rails above which shallow blocks are spared.
    """

    step_overall: float
    step_class: float
    overall: float
    per_class: float
    warning_share: float = WARNING_SHARE

    @classmethod
    def within(cls, limits: Limits) -> StudyRails:
        """Return a run's limits as the cumulative rails, and half of them for one step."""
        return cls(limits.max_drop / 2, limits.max_class_drop / 2, limits.max_drop, limits.max_class_drop)

    def step_problems(self, previous: ScoreSummary, proposal: ScoreSummary) -> tuple[str, ...]:
        """Return why the step from the previous candidate to the proposal loses too much at once; empty when it does not."""
        return _over(previous, proposal, self.step_overall, self.step_class, "one step may lose")

    def nearly_used_up(self, original: ScoreSummary, now: ScoreSummary) -> bool:
        """Return whether little is left of the cumulative rails: the current candidate has lost `warning_share` of them."""
        # exactly that share counts as little left
        return bool(_over(original, now, self.warning_share * self.overall, self.warning_share * self.per_class, "", tolerance=-TOLERANCE))

    def judge(self, previous: ScoreSummary, limits: Limits, confidence: float = SEARCH_CONFIDENCE) -> Judge:
        """Return the judge of a step that starts from the previous candidate.

        Args:
            previous: score of the last candidate that was kept.
            limits: the run's guard-rails. The cumulative rails replace their `max_drop` and `max_class_drop`.
            confidence: confidence of the bounds that must lie within the limits.
        """
        # all other limits of the run (a subgroup, a class's F1) hold unchanged
        cumulative = {**limits.rails, "max_drop": self.overall, "max_class_drop": self.per_class}
        return partial(self._verdict, previous, replace(limits, rails=cumulative), confidence)

    def _verdict(self, previous: ScoreSummary, cumulative: Limits, confidence: float, baseline: Score, proposal: Score) -> Verdict:
        reasons = self.step_problems(previous, ScoreSummary.of(proposal))
        return Verdict("fail", reasons) if reasons else accept_proposal(cumulative, baseline, proposal, confidence)


CELEBA = StudyRails(0.01, 0.03, 0.02, 0.06)
CIFAR = StudyRails(0.015, 0.045, 0.03, 0.09)
"""The published rails."""


def _over(
    reference: ScoreSummary, proposal: ScoreSummary, overall: float, per_class: float, rule: str, *, tolerance: float = TOLERANCE
) -> tuple[str, ...]:
    figures = [("overall accuracy", reference.overall, proposal.overall, overall)]
    # in the order just measured: JSON sorts the classes of a summary that comes from the ledger
    figures += [(f"recall of {name}", reference.per_class[name], recall, per_class) for name, recall in proposal.per_class.items()]
    return tuple(
        f"{what} fell by {points(before - now)}; {rule} {_wording(rail)}"
        for what, before, now, rail in figures
        if before - now > absolute(rail, before) + tolerance
    )


def _wording(rail: float) -> str:
    return f"{100 * rail:.4g} % of it" if isinstance(rail, Relative) else points(rail)
