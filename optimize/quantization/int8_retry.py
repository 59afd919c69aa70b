"""int8 of milder candidates: one that lost less in the search may hold the guard-rails in int8 where the boldest does not, and be faster.

The search goes to the edge of the guard-rails in float, and leaves no room for what int8 costs. Where int8 of the best candidate is
measurably faster than the variant that would ship, but does not hold, the candidates that the search kept before are quantized as a whole,
the boldest first. The first that holds ships if it is measurably faster than what would have shipped. Those after it are larger and could
only be slower.

Example, limit 2 points: the search kept candidates that lost .4, 1.1 and 1.8 points in float. int8 costs about half a point: the last one
fails at 2.3, the one before holds at 1.6 and ships.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from optimize.backends import Backend
from optimize.backends.session import Session
from optimize.candidate import Candidate
from optimize.measure.latency import interleave, ratio
from optimize.measure.median_precision import precise
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import note, stage
from optimize.quantization.precision_choice import PRECISION, TIMING_SECONDS, PrecisionContext, failure_reason
from optimize.quantization.variant import Variant

MAX_CANDIDATES = 3
"""Largest number of milder candidates that are quantized: each costs a compilation and a pass over the guard split."""
SLOWER = "int8 of a milder candidate is faster and holds the guard-rails"


def runtimes_with_faster_int8(runtimes: Sequence[Backend], chosen: Variant, measured: Iterable[Variant]) -> list[Backend]:
    """Return the runtimes whose int8 of the whole network is measurably faster than the chosen variant, but does not hold the guard-rails.

    Args:
        runtimes: the target's runtimes.
        chosen: the variant that would ship.
        measured: all variants that were judged and timed.
    """
    latency = chosen.latency
    if latency is None or not chosen.verdict:
        return []
    refused = [variant for variant in measured if variant.whole and variant.verdict is not None and not variant.verdict]
    faster = {variant.target for variant in refused if variant.latency is not None and ratio(latency, variant.latency).low > 1}
    return [runtime for runtime in runtimes if runtime.NAME in faster]


def retry_int8(
    runtimes: Sequence[Backend],
    chosen: Variant,
    chosen_session: Session,
    candidates: Sequence[Candidate],
    context: Callable[[Candidate], PrecisionContext],
) -> tuple[Candidate | None, list[Variant]]:
    """Quantize milder candidates until one holds the guard-rails.

    Args:
        runtimes: the runtimes to try, from `runtimes_with_faster_int8`.
        chosen: the variant that would ship.
        chosen_session: the session that runs it.
        candidates: the candidates that the search kept before the best, oldest first.
        context: candidate -> where it is exported, compiled and judged.

    Returns:
        The candidate that ships instead, or None where none does; and all variants that were tried, the one that ships last.
    """
    tried: list[Variant] = []
    # the last three from the end: of a, b, c, d (oldest first) these are d, c, b
    for candidate in candidates[: -MAX_CANDIDATES - 1 : -1]:
        own = context(candidate)
        for runtime in runtimes:
            variant, faster = _try_int8(runtime, own, chosen_session, chosen.precision)
            about = f"of a milder candidate, with {candidate.parameters:,} parameters: {variant.why}"
            tried.append(replace(variant, why=about))
            note(f"{runtime.NAME} int8 {about}")
            if faster is not None:
                # it holds; the candidates before it are larger, so where this one is not faster, none of them is
                return (candidate if faster else None), tried
    return None, tried


def _try_int8(runtime: Backend, context: PrecisionContext, chosen_session: Session, precision: str) -> tuple[Variant, bool | None]:
    """Return int8 of one candidate, and whether it is measurably faster than the chosen variant; None where it does not hold the limits."""
    variant = Variant("int8", target=runtime.NAME)
    try:
        with stage("compile int8 of a milder candidate"):
            artifact = runtime.quantize(
                context.onnx, context.folder / runtime.NAME / "int8", context.calibration, cpu_level=context.cpu_level
            )
        with runtime.build(artifact, threads=context.threads) as session:
            variant = context.judged(replace(variant, artifact=artifact), session, runtime)
            if not variant.verdict:
                return variant, None
            example = context.guard.inputs(slice(0, 1))
            # timed against the chosen variant itself, in turns: its latency from the earlier series was taken under another load
            calls = {"ships": partial(chosen_session.predict, example), "int8": partial(session.predict, example)}
            warm_up(calls, most_s=BRIEF_S)
            timed = interleave(calls, seconds=TIMING_SECONDS, enough=precise(PRECISION))
    except Exception as problem:  # a candidate that cannot be quantized or run is passed over; the next may do
        return replace(variant, why=failure_reason("made", problem)), None
    gain = ratio(timed["ships"], timed["int8"])
    speed = f"{gain.value:.2f}x the speed of {precision} (95 % interval {gain.low:.2f} to {gain.high:.2f})"
    faster = gain.low > 1
    return replace(variant, latency=timed["int8"], why=speed if faster else f"not measurably faster: {speed}"), faster
