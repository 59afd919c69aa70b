"""Bytes on disk of the model's files, without its manifest and self-test. They are counted, so a growth of 0 can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence

NAME = "max_size_growth"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    from optimize.deploy.gate.growth import judged_count

    old = evidence.stored_figure(NAME) if evidence.baseline is None else evidence.baseline.size_bytes
    yield judged_count(NAME, "size on disk", "bytes", old, evidence.candidate.size_bytes, limit)


def _record(evidence: Evidence) -> int:
    return evidence.candidate.size_bytes


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of the size on disk; 0% allows none.",
    example="1%",
    judge=_judge,
    record=_record,
    noisy=False,
    order=60,
)
