"""Room for int8: where the boldest candidate holds the guard-rails in float alone, a milder one may hold them in int8 and be faster.

The search goes to the edge of the guard-rails in float, and leaves nothing for what int8 costs. When int8 of the candidate it kept is
measurably faster than what would ship but does not hold, the candidates it had kept on its way there are asked in turn for whole int8, the
boldest first. The first that holds ships if it is measurably faster than what would have shipped; those after it could only be slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from optimize.backends import Backend
from optimize.backends.session import Session
from optimize.candidate import Candidate
from optimize.measure.latency import interleave, ratio
from optimize.measure.warmup import BRIEF_S, warm_up
from optimize.progress import note, stage
from optimize.quantization.precision_choice import SECONDS, PrecisionContext, failed
from optimize.quantization.variant import Variant
from optimize.search.walk import REMEMBERED

MOST = REMEMBERED
"""Candidates to ask."""
SLOWER = "int8 of a milder candidate is faster and holds the guard-rails"


def wanting(runtimes: Sequence[Backend], chosen: Variant, measured: Iterable[Variant]) -> list[Backend]:
    """The runtimes whose whole int8 is measurably faster than what would ship, and does not hold the guard-rails."""
    latency = chosen.latency
    if latency is None or not chosen.verdict:
        return []
    refused = [each for each in measured if each.whole and each.verdict is not None and not each.verdict]
    faster = {each.target for each in refused if each.latency is not None and ratio(latency, each.latency).low > 1}
    return [runtime for runtime in runtimes if runtime.NAME in faster]


def milder(
    runtimes: Sequence[Backend],
    chosen: Variant,
    shipping: Session,
    candidates: Sequence[Candidate],
    bench: Callable[[Candidate], PrecisionContext],
) -> tuple[Candidate | None, list[Variant]]:
    """Ask milder candidates for int8.

    Args:
        runtimes: to try, of `wanting`.
        chosen: what would ship.
        shipping: its session.
        candidates: what the search kept before the last, in its order.
        bench: a candidate -> where it is exported, compiled and judged.

    Returns:
        The candidate that ships instead, None where none does, and all variants that were tried, its own the last.
    """
    tried: list[Variant] = []
    for candidate in candidates[: -MOST - 1 : -1]:
        own = bench(candidate)
        for runtime in runtimes:
            variant, faster = _asked(runtime, own, shipping, chosen.precision)
            named = f"of a milder candidate, with {candidate.parameters:,} parameters: {variant.why}"
            tried.append(replace(variant, why=named))
            note(f"{runtime.NAME} int8 {named}")
            if faster is not None:
                return (candidate if faster else None), tried
    return None, tried


def _asked(runtime: Backend, bench: PrecisionContext, shipping: Session, precision: str) -> tuple[Variant, bool | None]:
    """Int8 of one candidate, and whether it is measurably faster than what would ship; None where it holds no guard-rails."""
    variant = Variant("int8", target=runtime.NAME)
    try:
        with stage("compile int8 of a milder candidate"):
            artifact = runtime.quantize(bench.onnx, bench.folder / runtime.NAME / "int8", bench.calibration, cpu_level=bench.cpu_level)
        with runtime.build(artifact, threads=bench.threads) as session:
            variant = bench.judged(replace(variant, artifact=artifact), session, runtime)
            if not variant.verdict:
                return variant, None
            one = bench.guard.inputs(slice(0, 1))
            calls = {"ships": partial(shipping.predict, one), "int8": partial(session.predict, one)}
            warm_up(calls, most_s=BRIEF_S)
            timed = interleave(calls, seconds=SECONDS)
    except Exception as problem:  # what cannot be quantized or run costs that candidate alone
        return replace(variant, why=failed("made", problem)), None
    gain = ratio(timed["ships"], timed["int8"])
    said = f"{gain.value:.2f}x the speed of {precision} (95 % interval {gain.low:.2f} to {gain.high:.2f})"
    faster = gain.low > 1
    return replace(variant, latency=timed["int8"], why=said if faster else f"not measurably faster: {said}"), faster
