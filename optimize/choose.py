"""Which precision ships: each is compiled, judged and timed on this machine; what is not measurably faster does not ship.

The exact float precision is the one to beat. Another takes its place only when, compiled, it holds the guard-rails on the guard split and
the lower end of its measured speed-up's interval is above 1. A graph that claims int8 but runs in float loses by that rule by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optimize.artifact import Artifact
from optimize.backends import Backend
from optimize.backends.session import Session
from optimize.candidate import Floats
from optimize.data import Split
from optimize.guard.limits import Limits
from optimize.guard.score import Score
from optimize.guard.verdict import LIKELY, Verdict, admit
from optimize.measure.latency import Latency, interleave, ratio
from optimize.progress import note, stage
from optimize.search.score import score_split

SECONDS = 2.0
EXACT = "f32"


@dataclass(frozen=True, eq=False)
class Variant:
    """One compiled precision.

    Args:
        precision: "f32", "bf16" or "int8".
        why: what spoke for or against it.
        artifact: None when it could not be made.
        verdict: on the guard split, through the target's runtime, against the original.
        score: what the verdict was about.
        latency: at batch 1, interleaved with the other variants.
    """

    precision: str
    why: str = ""
    artifact: Artifact | None = None
    verdict: Verdict | None = None
    score: Score | None = None
    latency: Latency | None = None

    def as_dict(self, chosen: Variant) -> dict[str, Any]:
        """The form that the report uses."""
        return {
            "precision": self.precision,
            "kept": self.precision == chosen.precision,
            "why": self.why,
            "latency_ms_p50": None if self.latency is None else self.latency.p50,
            "verdict": None if self.verdict is None else self.verdict.outcome,
            "size_bytes": None if self.artifact is None else self.artifact.size_bytes,
        }


def compile_all(runtime: Backend, onnx: Path, folder: Path, calibration: Floats) -> list[Variant]:
    """Make the artifact of every precision the target has here; one that cannot be made says why and is left behind."""
    made = []
    for precision in (*runtime.precisions(), "int8"):
        home = folder / precision
        with stage(f"compile {precision}"):
            try:
                artifact = runtime.quantize(onnx, home, calibration) if precision == "int8" else runtime.convert(onnx, home, precision)
            except Exception as problem:  # a quantizer that fails on this graph must not cost the user the float artifact
                if precision == EXACT:
                    raise
                made.append(Variant(precision, _failed("made", problem)))
            else:
                made.append(Variant(precision, artifact=artifact))
    return made


def choose(
    runtime: Backend,
    variants: Sequence[Variant],
    guard: Split,
    before: Score,
    limits: Limits,
    threads: int | None,
    confidence: float = LIKELY,
) -> tuple[Variant, list[Variant]]:
    """Judge and time the variants, the exact one first in the list.

    Args:
        runtime: the target's backend.
        variants: what `compile_all` made.
        guard: the split that decides.
        before: the original's score on it.
        limits: the guard-rails.
        threads: of the runtime.
        confidence: of the bounds that must lie within the limits.

    Returns:
        The variant that ships, and all of them with what was measured.
    """
    with ExitStack() as open_sessions:
        sessions: dict[str, Session] = {}
        judged = []
        for variant in variants:
            if variant.artifact is None:
                judged.append(variant)
                continue
            try:
                session = open_sessions.enter_context(runtime.build(variant.artifact, threads=threads))
                judged.append(_judged(variant, session, guard, before, limits, confidence))
                sessions[variant.precision] = session
            except Exception as problem:  # as above: what the runtime cannot run is left behind
                if variant.precision == EXACT:
                    raise
                judged.append(Variant(variant.precision, _failed("run", problem)))
        timed = _timed(judged, sessions, guard.inputs(slice(0, 1)))
    best, rest = timed[0], timed[1:]
    final = []
    for variant in rest:
        if variant.artifact is None or not variant.verdict:
            final.append(variant)
            continue
        assert best.latency is not None
        assert variant.latency is not None
        gain = ratio(best.latency, variant.latency)
        measured = f"{gain.value:.2f}x the speed of {best.precision} (95 % interval {gain.low:.2f} to {gain.high:.2f})"
        if gain.low > 1:
            final.append(replace(best, why=best.why or f"{variant.precision} is faster and holds the guard-rails"))
            best = replace(variant, why=measured)
        else:
            final.append(replace(variant, why=f"not measurably faster: {measured}"))
    best = replace(best, why=best.why or "the exact precision; nothing else that holds the guard-rails is measurably faster")
    note(f"{best.precision} ships: {best.why}")
    order = [variant.precision for variant in variants]
    return best, sorted([*final, best], key=lambda variant: order.index(variant.precision))


def _failed(what: str, problem: Exception) -> str:
    return f"could not be {what}: {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"


def _judged(variant: Variant, session: Session, guard: Split, before: Score, limits: Limits, confidence: float) -> Variant:
    after = score_split(session.predict, guard, before.classes, f"judge {variant.precision}")
    verdict = admit(limits, before, after, confidence)
    return replace(variant, score=after, verdict=verdict, why="" if verdict else "; ".join(verdict.reasons))


def _timed(variants: Sequence[Variant], sessions: Mapping[str, Session], one: Floats) -> list[Variant]:
    """Time what was not refused, and the exact precision in any case: it ships when nothing else can."""
    running = [variant for variant in variants if variant.verdict or (variant.precision == EXACT and variant.artifact is not None)]
    calls = {each.precision: partial(sessions[each.precision].predict, one) for each in running}
    with stage("time the precisions"):
        latencies = interleave(calls, seconds=SECONDS)
    return [replace(variant, latency=latencies.get(variant.precision)) for variant in variants]
