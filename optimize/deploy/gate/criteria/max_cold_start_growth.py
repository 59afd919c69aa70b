"""Seconds of a fresh process until its first answer: import of the runtime, opening, first call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged, unknown

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence
    from optimize.measure.memory import Memory

NAME, TITLE, UNIT = "max_cold_start_growth", "cold start", "s"
MORE = "run it again, or allow more growth"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    from statistics import median

    from optimize.deploy.gate.growth import judged_growth, paired_growth, unpaired_growth

    if evidence.disbelief:
        yield unknown(NAME, TITLE, UNIT, "growth", limit, evidence.disbelief)
        return
    new = _figures(evidence.starts.candidate)
    if evidence.stored is None:
        old = _figures(evidence.starts.baseline)
        growth = paired_growth(old, new)
    else:
        old = evidence.stored_samples(NAME)
        if not old:
            why = f"the stored baseline has no {TITLE}: measure it again, with: {evidence.remedy}"
            yield unknown(NAME, TITLE, UNIT, "growth", limit, why, candidate=median(new))
            return
        growth = unpaired_growth(old, new, evidence.drift)
    judged = judged_growth(NAME, TITLE, UNIT, (median(old), median(new)), growth, limit, len(new), MORE)
    yield replace(judged, samples=[{"baseline": old, "candidate": new}])


def _figures(starts: Iterable[Memory]) -> list[float]:
    return [start.imports_s + start.open_s + start.first_s for start in starts]


def _record(evidence: Evidence) -> list[float]:
    return _figures(evidence.starts.candidate)


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of the time until a fresh process gives its first answer.",
    example="20%",
    judge=_judge,
    record=_record,
    order=50,
)
