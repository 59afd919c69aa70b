"""One compiled precision of a network: its artifact, and what was judged and measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimize.backends.artifact import Artifact
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict
from optimize.measure.latency import Latency


@dataclass(frozen=True, eq=False)
class Variant:
    """One compiled precision.

    Args:
        precision: "f32", "bf16", "f16", "int8", or of a mix "int8+f32" or "int8+bf16".
        why: what spoke for or against it.
        artifact: None when it could not be made.
        verdict: on the guard split, through the target's runtime, against the original.
        score: what the verdict was about.
        latency: at batch 1, interleaved with the other variants.
        kept: layers of a mix that stay in float, by their names in the ONNX file.
        in_float: layers with weights that the runtime runs in float though int8 was asked for.
        target: the runtime it is compiled for.
        load_percent: of the machine, that other processes used while it was timed; None where it was not.
    """

    precision: str
    why: str = ""
    artifact: Artifact | None = None
    verdict: Verdict | None = None
    score: Score | None = None
    latency: Latency | None = None
    kept: tuple[str, ...] = ()
    in_float: tuple[str, ...] = ()
    target: str = ""
    load_percent: float | None = None

    @property
    def whole(self) -> bool:
        """Whether int8 was asked for everywhere."""
        return self.precision.startswith("int8") and not self.kept

    def as_dict(self, chosen: Variant) -> dict[str, Any]:
        """The form that the report uses."""
        return {
            "target": self.target,
            "precision": self.precision,
            "layers_in_float": [*self.kept, *self.in_float],
            "kept": self is chosen,
            "why": self.why,
            "latency_ms_p50": None if self.latency is None else self.latency.p50,
            "verdict": None if self.verdict is None else self.verdict.outcome,
            "size_bytes": None if self.artifact is None else self.artifact.size_bytes,
        }
