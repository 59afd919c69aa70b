"""Which of two contenders is faster, in one word, and why where it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimize.measure.latency import Latency, Ratio, ratio
from optimize.measure.stationary import block_variation

MOST_BLOCK_VARIATION = 0.025
MOST_LOAD_PERCENT = 20.0

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


def compared(measured: Mapping[str, Latency], *, load_percent: Mapping[str, float], seed: int = 0) -> dict[str, Comparison]:
    """Every contender but the first beside the first.

    Args:
        measured: contender -> samples of the same interleaved rounds.
        load_percent: "before" and "after" -> percent of the machine that other processes used.
        seed: of the bootstrap.
    """
    first, *others = measured
    busy = [
        f"other processes used {percent:.0f} % of the CPU {when} the measurement, more than {MOST_LOAD_PERCENT:.0f} %"
        for when, percent in load_percent.items()
        if percent > MOST_LOAD_PERCENT
    ]
    return {name: _one(first, name, measured, busy, seed) for name in others}


def _one(first: str, name: str, measured: Mapping[str, Latency], busy: list[str], seed: int) -> Comparison:
    found = ratio(measured[first], measured[name], seed=seed)
    wander = {each: block_variation(measured[each].samples_ms) for each in (first, name)}
    reasons = [
        *(
            f"the block medians of {each} vary by {100 * share:.1f} %, more than {100 * MOST_BLOCK_VARIATION:.1f} %"
            for each, share in wander.items()
            if share > MOST_BLOCK_VARIATION
        ),
        *busy,
    ]
    if found.low <= 1 <= found.high:
        reasons.append(f"the interval of the ratio, {found.low:.3f} to {found.high:.3f}, contains 1")
    answer: Answer = "inconclusive" if reasons else "faster" if found.value > 1 else "slower"
    return Comparison(first, found, answer, tuple(reasons))
