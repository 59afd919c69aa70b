"""Recall of each class, or Dice of masks, on labelled data: paired statistics on the same cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence

NAME = "max_class_drop"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    from optimize.deploy.gate.accuracy_rails import judged_drops

    yield from judged_drops(evidence, NAME, limit)


def _record(evidence: Evidence) -> dict[str, Any] | None:
    return None  # the outputs are stored once, by max_drop


CRITERION = Criterion(
    name=NAME,
    rule="drop",
    help="Largest allowed drop of any class's recall, or Dice, on --data.",
    example="3pp",
    judge=_judge,
    record=_record,
    order=30,
)
