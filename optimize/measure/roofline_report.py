"""Share of this machine's roofline that a compiled artifact reaches, as a dict for the report; `roofline.py` explains the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.backends import Backend
from optimize.backends.artifact import Artifact
from optimize.candidate import Candidate, Floats
from optimize.measure.peaks import Peaks, peaks
from optimize.measure.roofline import LayerRoof, Roofline, roofline
from optimize.progress import stage

SLOWEST = 5
SECONDS = 0.3


def roofline_of_artifact(
    candidate: Candidate,
    runtime: Backend,
    artifact: Artifact,
    precisions: Mapping[str, str],
    inputs: Floats,
    *,
    p50_ms: float,
    threads: int | None,
) -> tuple[dict[str, Any] | None, str]:
    """Return the artifact under the roofs and an empty reason; or None and the reason why not. A run goes on without the figures.

    A machine whose peaks are not known yet is measured first, which takes seconds.

    Args:
        candidate: network that was compiled.
        runtime: backend of the artifact.
        artifact: artifact that ships.
        precisions: layer -> the precision that it really runs in.
        inputs: inputs of one call, (N, C, *spatial).
        p50_ms: measured median of that call, milliseconds.
        threads: number of threads of the runtime, with which the median was measured.
    """
    try:
        with stage("roofline"):
            here = peaks([runtime.NAME], threads)
            layer_ms = runtime.time_layers(artifact, inputs, threads=threads, seconds=SECONDS)
            figures = roofline(
                candidate,
                here,
                runtime.NAME,
                # of "int8+bf16" the int8: what lies outside of layers counts at the faster rate, so the least time is not overstated
                artifact.precision.partition("+")[0],
                precisions=precisions,
                batch=len(inputs),
                p50_ms=p50_ms,
                layer_ms=layer_ms,
            )
            return _as_dict(figures, here, len(inputs)), ""
    except Exception as problem:  # also whatever a runtime's profiler raises
        words = " ".join(str(problem).split())[:200] or type(problem).__name__
        return None, f"the roofline was not taken: {words.rstrip('.')}"


def _as_dict(figures: Roofline, here: Peaks, batch: int) -> dict[str, Any]:
    timed = [layer for layer in figures.layers if layer.ms is not None]
    return {
        "batch": batch,
        "p50_ms": figures.p50_ms,
        "roof_ms": figures.roof_ms,
        "share": figures.share,
        "limit": figures.limit,
        "compute_ms": figures.compute_ms,
        "memory_ms": figures.memory_ms,
        "overhead_ms": figures.overhead_ms,
        "sentence": figures.in_words(),
        "peak_macs_per_s": {layer.precision: layer.peak for layer in figures.layers},
        "bandwidth_bytes_per_s": here.bandwidth,
        "load_percent": here.load_percent,
        "slowest": [_layer(layer, figures.p50_ms) for layer in sorted(timed, key=lambda layer: -(layer.ms or 0.0))[:SLOWEST]],
        "layers": [{**_layer(layer, figures.p50_ms), "calls": layer.calls, "macs": layer.macs} for layer in figures.layers],
        "untimed": len(figures.layers) - len(timed),
    }


def _layer(layer: LayerRoof, p50_ms: float | None) -> dict[str, Any]:
    return {
        "name": layer.name,
        "precision": layer.precision,
        "ms": layer.ms,
        "of_median": layer.ms / p50_ms if layer.ms is not None and p50_ms else None,
        "roof_ms": layer.roof_ms,
        "share": layer.share,
        "bound": layer.bound,
    }
