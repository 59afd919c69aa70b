"""Seconds of a fresh process until its first answer: import of the runtime, opening, first call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged
from optimize.deploy.gate.process_growth import judge_starts, record_starts

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence
    from optimize.measure.memory import Memory

NAME = "max_cold_start_growth"


def _seconds(start: Memory) -> float:
    return start.imports_s + start.open_s + start.first_s


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    return judge_starts(evidence, limit, _seconds, name=NAME, title="cold start", unit="s", drift=True)


def _record(evidence: Evidence) -> list[float]:
    return record_starts(evidence, _seconds)


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of the time until a fresh process gives its first answer.",
    example="20%",
    judge=_judge,
    record=_record,
    order=50,
)
