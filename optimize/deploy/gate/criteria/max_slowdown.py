"""Latency, at each batch size: pairs of fresh processes until the growth is decided, or the time is over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optimize.deploy.gate.criteria import Criterion
from optimize.deploy.gate.judged import Judged, Outcome, change_in_words, unknown

if TYPE_CHECKING:
    from optimize.deploy.gate.evidence import Evidence

NAME, DEFAULT = "max_slowdown", 0.05
MORE = "measure again, on a machine with less other work, or side by side with the baseline's own model"


def _judge(evidence: Evidence, limit: float | None) -> Iterator[Judged]:
    judge = _paired if evidence.stored is None else _unpaired
    for batch in evidence.plan.batches:
        yield judge(evidence, limit, batch)


def _paired(evidence: Evidence, limit: float | None, batch: int) -> Judged:
    from optimize.deploy.gate.latency import compare_latency

    assert evidence.baseline is not None
    plan = evidence.plan
    found = compare_latency(
        evidence.baseline,
        evidence.candidate,
        # a comparison needs some limit to stop at; where none was asked for, what it decides is not used
        max_slowdown=DEFAULT if limit is None else limit,
        batch=batch,
        threads=plan.threads,
        max_seconds=plan.max_seconds,
        seed=plan.seed,
    )
    # with few pairs a bound may not exist yet: 0 and infinity stand for that, which JSON cannot hold
    low, high = (bound - 1 if 0 < bound < math.inf else None for bound in (found.low, found.high))
    outcome: Outcome = "not judged" if limit is None else found.outcome
    shown = f"{change_in_words(found.ratio - 1, 'growth')}; no limit was asked for"
    reason = shown if limit is None else found.reason.rstrip(".")
    values = found.baseline_ms, found.candidate_ms, found.ratio - 1, low, high
    samples = [sample.as_dict() for sample in found.samples]
    return Judged(NAME, _name(batch), "ms", "growth", *values, limit, outcome, reason, found.pairs, samples)


def _unpaired(evidence: Evidence, limit: float | None, batch: int) -> Judged:
    from statistics import median

    from optimize.deploy.gate.growth import judged_growth, unpaired_growth

    old, why = stored_latency(evidence, batch)
    if not old:
        return unknown(NAME, _name(batch), "ms", "growth", limit, why)
    if evidence.drift_disbelief:
        return unknown(NAME, _name(batch), "ms", "growth", limit, evidence.drift_disbelief, baseline=median(old))
    new = _latencies(evidence, batch)
    growth = unpaired_growth(old, new, evidence.drift)
    judged = judged_growth(NAME, _name(batch), "ms", (median(old), median(new)), growth, limit, len(new), MORE)
    return replace(judged, samples=new)


def stored_latency(evidence: Evidence, batch: int) -> tuple[list[float], str]:
    """Return what a stored baseline holds for a batch size, in milliseconds by process; empty with the reason where it is not used."""
    if evidence.disbelief:
        return [], evidence.disbelief
    settings = {} if evidence.stored is None else evidence.stored.settings
    if settings.get("threads") != evidence.plan.threads:
        said = settings.get("threads") or "the runtime's own number of"
        return [], f"the stored baseline was measured with {said} threads: pass the same --threads, or measure it again: {evidence.remedy}"
    samples = evidence.stored_samples(NAME, str(batch))
    if not samples:
        return [], f"the stored baseline has no latency at batch {batch}: measure it again, with: {evidence.remedy}"
    return samples, ""


def _latencies(evidence: Evidence, batch: int) -> list[float]:
    from optimize.deploy.gate.evidence import artifact
    from optimize.deploy.gate.unpaired import process_latencies_ms
    from optimize.progress import stage

    plan = evidence.plan
    with stage(f"latency, batch {batch}"):
        return process_latencies_ms(artifact(evidence.candidate), batch=batch, threads=plan.threads, seed=plan.seed)


def _record(evidence: Evidence) -> dict[str, Any]:
    return {str(batch): _latencies(evidence, batch) for batch in evidence.plan.batches}


def _name(batch: int) -> str:
    return f"latency, batch {batch}"


CRITERION = Criterion(
    name=NAME,
    rule="growth",
    help="Largest allowed growth of latency, at each batch size; none only shows it.",
    example="5%",
    judge=_judge,
    record=_record,
    default=DEFAULT,
    order=10,
)
