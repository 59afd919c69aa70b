"""Compare two contenders: which one is faster, or why that is not decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimize.measure.latency import Latency, Ratio, ratio
from optimize.measure.reliability import Reliability

ComparisonAnswer = Literal["faster", "slower", "inconclusive"]


@dataclass(frozen=True)
class Comparison:
    """A contender beside the one it is compared with.

    Args:
        against: name of the contender that it is compared with.
        ratio: median of `against` over the median of this contender; above 1 when this one is faster.
        answer: "faster", "slower" or "inconclusive".
        reasons: why it is inconclusive; empty otherwise.
    """

    against: str
    ratio: Ratio
    answer: ComparisonAnswer
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows."""
        return {"against": self.against, "ratio": self.ratio.as_dict(), "answer": self.answer, "reasons": list(self.reasons)}


def compared(measured: Mapping[str, Latency], reliable: Mapping[str, Reliability], *, seed: int = 0) -> dict[str, Comparison]:
    """Compare every contender with the first.

    Args:
        measured: contender -> samples of the same interleaved rounds.
        reliable: contender -> whether its samples are reliable; there is no answer unless those of both are.
        seed: seed of the bootstrap.
    """
    first, *following = measured
    return {name: _compare(first, name, measured, reliable, seed) for name in following}


def _compare(first: str, name: str, measured: Mapping[str, Latency], reliable: Mapping[str, Reliability], seed: int) -> Comparison:
    speedup = ratio(measured[first], measured[name], seed=seed)
    # What both have in common is said once.
    reasons = list(dict.fromkeys((*reliable[first].reasons, *reliable[name].reasons)))
    if speedup.low <= 1 <= speedup.high:
        reasons.append(f"the interval of the ratio, {speedup.low:.3f} to {speedup.high:.3f}, contains 1")
    # one reason is enough for no answer: a difference that was measured on a busy machine may be that of its other work
    answer: ComparisonAnswer = "inconclusive" if reasons else "faster" if speedup.value > 1 else "slower"
    return Comparison(first, speedup, answer, tuple(reasons))
