"""The result of judging an artifact on the cases of a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimize.guard.rail import Outcome


@dataclass(frozen=True)
class Judgement:
    """An outcome with everything that led to it.

    Args:
        outcome: "pass", "fail" or "inconclusive".
        reasons: sentences on what decided, and on the number of cases that would decide.
        figures: every figure with its bounds, in the form of `Rail.as_dict`.
        per_class: what is known of each class without its labels, see `agreement.py`; empty with labels.
        not_judged: criteria of the run that these cases cannot show, one sentence each.
        disagreements: positions in the data of cases on which both models disagree; None where that is no question of single cases.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    figures: tuple[Mapping[str, Any], ...]
    per_class: tuple[Mapping[str, Any], ...] = ()
    not_judged: tuple[str, ...] = ()
    disagreements: tuple[int, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the form that the acceptance record uses."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "figures": [dict(figure) for figure in self.figures],
            "per_class": [dict(row) for row in self.per_class],
            "not_judged": list(self.not_judged),
            "disagreements": None if self.disagreements is None else list(self.disagreements),
        }
