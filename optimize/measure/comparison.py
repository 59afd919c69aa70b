"""Which of two contenders is faster, in one word, and why where it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimize.measure.latency import Latency, Ratio, ratio
from optimize.measure.reliability import Reliability

Answer = Literal["faster", "slower", "inconclusive"]


@dataclass(frozen=True)
class Comparison:
    """A contender beside the one it is compared with.

    Args:
        against: the other contender.
        ratio: the other's median over this one's; above 1 when this one is faster.
        answer: "faster", "slower" or "inconclusive".
        reasons: why it is inconclusive; empty otherwise.
    """

    against: str
    ratio: Ratio
    answer: Answer
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The form that a result shows."""
        return {"against": self.against, "ratio": self.ratio.as_dict(), "answer": self.answer, "reasons": list(self.reasons)}


def compared(measured: Mapping[str, Latency], reliable: Mapping[str, Reliability], *, seed: int = 0) -> dict[str, Comparison]:
    """Every contender but the first beside the first.

    Args:
        measured: contender -> samples of the same interleaved rounds.
        reliable: contender -> whether its samples are to be relied on; there is no answer unless those of both are.
        seed: of the bootstrap.
    """
    first, *others = measured
    return {name: _one(first, name, measured, reliable, seed) for name in others}


def _one(first: str, name: str, measured: Mapping[str, Latency], reliable: Mapping[str, Reliability], seed: int) -> Comparison:
    found = ratio(measured[first], measured[name], seed=seed)
    # What both have in common is said once.
    reasons = list(dict.fromkeys((*reliable[first].reasons, *reliable[name].reasons)))
    if found.low <= 1 <= found.high:
        reasons.append(f"the interval of the ratio, {found.low:.3f} to {found.high:.3f}, contains 1")
    answer: Answer = "inconclusive" if reasons else "faster" if found.value > 1 else "slower"
    return Comparison(first, found, answer, tuple(reasons))
