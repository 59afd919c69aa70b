"""Peak memory of a fresh process that opens the model and runs one batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged
from optimize.deploy.gate.process_growth import judge_starts, record_starts

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence
    from optimize.measure.memory import Memory

NAME = "max_memory_growth"


def _bytes(start: Memory) -> float:
    return float(start.peak_bytes)


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    return judge_starts(evidence, limit, _bytes, name=NAME, title="peak memory", unit="bytes", drift=False)


def _record(evidence: Evidence) -> list[float]:
    return record_starts(evidence, _bytes)


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of the peak memory of a fresh process.",
    example="5%",
    judge=_judge,
    record=_record,
    order=40,
)
