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
        precision: "f32", "bf16", "f16", "int8", or for a mix "int8+f32" or "int8+bf16".
        why: the reason why it ships or does not.
        artifact: the compiled model; None when it could not be made.
        verdict: verdict on the guard split, measured in the target's runtime, against the original.
        score: the score that the verdict is about.
        latency: latency at batch 1, interleaved with the other variants.
        kept: layers of a mix that stay in float, by their names in the ONNX file.
        in_float: layers with weights that the runtime runs in float though int8 was asked for.
        target: the runtime it is compiled for.
        load_percent: share of the machine, in percent, that other processes used while it was timed; None where it was not timed.
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
        """Whether int8 was asked for in every layer."""
        return self.precision.startswith("int8") and not self.kept

    def as_dict(self, chosen: Variant) -> dict[str, Any]:
        """Return the variant as the report holds it."""
        return {
            "target": self.target,
            "precision": self.precision,
            "layers_in_float": [*self.kept, *self.in_float],
            "kept": self is chosen,
            "why": self.why,
            "latency_ms_p50": None if self.latency is None else self.latency.p50,
            "verdict": None if self.verdict is None else self.verdict.outcome,
            "size_bytes": None if self.artifact is None else self.artifact.size_bytes,
            **({} if self.verdict is None or self.verdict.chance is None else {"chance": self.verdict.chance}),
        }
