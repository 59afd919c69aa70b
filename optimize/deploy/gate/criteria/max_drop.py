"""Accuracy of all cases, or Dice of masks, on labelled data: paired statistics on the same cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence

NAME = "max_drop"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    from optimize.deploy.gate.accuracy_rails import judged_drops

    yield from judged_drops(evidence, NAME, limit)


def _record(evidence: Evidence) -> dict[str, Any] | None:
    return evidence.scored.record()


CRITERION = Criterion(
    name=NAME,
    rule="drop",
    help="Largest allowed drop of overall accuracy, or Dice, on --data; 1% is a share of the baseline's.",
    example="1pp",
    judge=_judge,
    record=_record,
    default=0.01,
    order=20,
)
