"""Judge drops of accuracy with the guard's own statistics: the same bounds, on the same cases, as the verdict of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from optimize.deploy.gate.evidence import Evidence
from optimize.deploy.gate.judged import Judged, unknown
from optimize.guard.judged_rails import compare
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail
from optimize.guard.rails import rows


def judged_drops(evidence: Evidence, criterion: str, limit: float | None) -> Iterator[Judged]:
    """Yield the judged drops of one guard-rail; none where neither data nor a limit was given.

    Args:
        evidence: both models.
        criterion: name of the guard-rail, "max_drop" or "max_class_drop", which is that of the limit.
        limit: the limit; None to show the drops only.
    """
    if not evidence.plan.data:
        # no data, no accuracy: a limit that was asked for all the same is refused before anything is measured
        return
    scored = evidence.scored
    why = evidence.disbelief or scored.absent
    if why or scored.baseline is None or scored.candidate is None:
        yield unknown(criterion, "accuracy" if criterion == "max_drop" else "accuracy of each class", "share", "drop", limit, why)
        return
    row = next(row for row in rows() if row.name == criterion)
    # Where no limit was asked for, the default of a run gives the interval, and the outcome is not used.
    limits = Limits() if limit is None else Limits(rails={criterion: limit})
    compared = compare(limits, scored.baseline, scored.candidate)
    judge = row.judge(compared.task)
    assert judge is not None
    rails: list[Rail] = list(judge(compared, getattr(limits, criterion)))
    for rail in rails:
        yield _judged(rail, criterion, asked=limit is not None)


def _judged(rail: Rail, criterion: str, *, asked: bool) -> Judged:
    judged = Judged(
        criterion=criterion,
        name=rail.title,
        unit="share",
        rule="drop",
        baseline=rail.baseline,
        candidate=rail.candidate,
        change=rail.value,
        low=rail.estimate.low,
        high=rail.estimate.high,
        limit=rail.limit,
        outcome=rail.outcome,
        reason="",
        n=rail.estimate.n,
    )
    if not rail.estimate.n:
        # without a case there is no figure: 0 would read as a measured one
        judged = replace(judged, baseline=None, candidate=None, change=None, low=None, high=None)
    if not asked:
        return replace(judged, limit=None, outcome="not judged", reason=f"{str(rail).split('; the limit')[0]}; no limit was asked for")
    return replace(judged, reason=rail.doubt if rail.outcome == "inconclusive" else str(rail))
