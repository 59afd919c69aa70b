"""Judges how much a figure of fresh processes grew, such as their peak memory: in pairs, or against a stored baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from optimize.deploy.gate.judged import Judged, unknown

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence
    from optimize.measure.memory import Memory

Figure: TypeAlias = "Callable[[Memory], float]"
"""What is judged of a fresh process."""
MORE = "run it again, or allow more growth"


def judge_starts(
    evidence: Evidence, limit: float | None, figure: Figure, *, name: str, title: str, unit: str, drift: bool
) -> Iterator[Judged]:
    """Yield the judged growth of a figure of the fresh processes of both sides.

    Args:
        evidence: what was measured.
        limit: the limit, as a share; None where none was asked for.
        figure: function from a process to what is judged of it.
        name: name of the limit.
        title: what was measured, in words.
        unit: unit of the figure.
        drift: whether the speed of the machine on two days has a part in the figure.
    """
    from statistics import median

    from optimize.deploy.gate.growth import judged_growth, paired_growth, unpaired_growth

    if evidence.disbelief:
        yield unknown(name, title, unit, "growth", limit, evidence.disbelief)
        return
    new = record_starts(evidence, figure)
    if evidence.stored is None:
        old = [figure(start) for start in evidence.starts.baseline]
        growth = paired_growth(old, new)
    else:
        old = evidence.stored_samples(name)
        if not old:
            why = f"the stored baseline has no {title}: measure it again, with: {evidence.remedy}"
            yield unknown(name, title, unit, "growth", limit, why, candidate=median(new))
            return
        if drift and evidence.drift_disbelief:
            yield unknown(name, title, unit, "growth", limit, evidence.drift_disbelief, candidate=median(new))
            return
        growth = unpaired_growth(old, new, evidence.drift if drift else 0.0)
    judged = judged_growth(name, title, unit, (median(old), median(new)), growth, limit, len(new), MORE)
    yield replace(judged, samples=[{"baseline": old, "candidate": new}])


def record_starts(evidence: Evidence, figure: Figure) -> list[float]:
    """Return the figure of each fresh process of the candidate, as a stored baseline keeps it."""
    return [figure(start) for start in evidence.starts.candidate]
