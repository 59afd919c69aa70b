"""Judge whether a contender's figures are reliable, by the state of the machine while they were taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimize.hardware.machine import BUSY_PERCENT
from optimize.measure.latency import Latency
from optimize.measure.warmup import block_variation

MOST_BLOCK_VARIATION = 0.025

STEADY: Literal["steady"] = "steady"
UNSURE: Literal["not to be relied on"] = "not to be relied on"


@dataclass(frozen=True)
class Reliability:
    """Reliability of the figures of one contender in one measurement.

    Args:
        reasons: why its figures are not reliable; empty where they are.
    """

    reasons: tuple[str, ...]

    @property
    def answer(self) -> Literal["steady", "not to be relied on"]:
        """The reliability in words."""
        return UNSURE if self.reasons else STEADY

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows."""
        return {"answer": self.answer, "reasons": list(self.reasons)}


def doubtful(answers: Mapping[str, Reliability]) -> int:
    """Return the number of contenders whose figures are not reliable."""
    return sum(bool(answer.reasons) for answer in answers.values())


def reliability(
    measured: Mapping[str, Latency], *, load_percent: Mapping[str, float], unsettled: Collection[str] = ()
) -> dict[str, Reliability]:
    """Return the reliability of every contender's figures.

    Args:
        measured: contender -> samples of the same interleaved rounds.
        load_percent: "before", "during" and "after" -> percent of the machine that other processes used, where it was watched.
        unsettled: contenders whose medians did not stand still by the end of warm-up.
    """
    busy = [
        f"other processes used {percent:.0f} % of the CPU {when} the measurement, more than {BUSY_PERCENT:.0f} %"
        for when, percent in load_percent.items()
        if percent > BUSY_PERCENT
    ]
    answers = {}
    for name, latency in measured.items():
        share = block_variation(latency.samples_ms)
        wander = f"the block medians of {name} vary by {100 * share:.1f} %, more than {100 * MOST_BLOCK_VARIATION:.1f} %"
        # block medians and not single calls: noise of calls averages out in a block, and only what lasted moves its median
        reasons = [wander] if share > MOST_BLOCK_VARIATION else []
        reasons += [f"the medians of {name} had not settled when warm-up was given up"] if name in unsettled else []
        answers[name] = Reliability((*reasons, *busy))
    return answers
