"""Whether one contender's figures are to be relied on, by how the machine was while they were taken; and why where they are not."""

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
    """Of one contender in one measurement.

    Args:
        reasons: why its figures are not to be relied on; empty where they are.
    """

    reasons: tuple[str, ...]

    @property
    def answer(self) -> Literal["steady", "not to be relied on"]:
        """In a word."""
        return UNSURE if self.reasons else STEADY

    def as_dict(self) -> dict[str, Any]:
        """The form that a result shows."""
        return {"answer": self.answer, "reasons": list(self.reasons)}


def doubtful(found: Mapping[str, Reliability]) -> int:
    """How many contenders' figures are not to be relied on."""
    return sum(bool(each.reasons) for each in found.values())


def reliability(
    measured: Mapping[str, Latency], *, load_percent: Mapping[str, float], unsettled: Collection[str] = ()
) -> dict[str, Reliability]:
    """Of every contender.

    Args:
        measured: contender -> samples of the same interleaved rounds.
        load_percent: "before", "during" and "after" -> percent of the machine that other processes used, as far as it was looked at.
        unsettled: contenders whose medians did not stand still by the end of warm-up.
    """
    busy = [
        f"other processes used {percent:.0f} % of the CPU {when} the measurement, more than {BUSY_PERCENT:.0f} %"
        for when, percent in load_percent.items()
        if percent > BUSY_PERCENT
    ]
    found = {}
    for name, latency in measured.items():
        share = block_variation(latency.samples_ms)
        wander = f"the block medians of {name} vary by {100 * share:.1f} %, more than {100 * MOST_BLOCK_VARIATION:.1f} %"
        reasons = [wander] if share > MOST_BLOCK_VARIATION else []
        reasons += [f"the medians of {name} had not settled when warm-up was given up"] if name in unsettled else []
        found[name] = Reliability((*reasons, *busy))
    return found
