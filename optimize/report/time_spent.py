"""Where the time of a run went: the parts of its profile, and the stages that took longest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimize.report.wording import Report, duration, scaled

MAX_STAGES = 15
"""Stages that the page shows, the longest first; report.json has more of them."""


@dataclass(frozen=True)
class TimeRow:
    """A row of the table of times. `share` is its part of the run's time, in 0..1."""

    part: str
    stage: str
    calls: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    share: float


def parts(report: Report) -> dict[str, float]:
    """Return part of the run -> its seconds, in the order of the run; empty where the report has no profile."""
    seconds: dict[str, float] = {}
    for row in _rows(report):
        seconds[row["part"]] = seconds.get(row["part"], 0.0) + row["seconds"]
    return seconds


def longest(report: Report) -> list[TimeRow]:
    """Return the stages that took longest, at most `MAX_STAGES`; empty where the report has no profile."""
    whole = sum(parts(report).values()) or 1.0
    rows = sorted(_rows(report), key=lambda row: row["seconds"], reverse=True)[:MAX_STAGES]
    return [TimeRow(**row, share=row["seconds"] / whole) for row in rows]


def sentence(report: Report) -> str:
    """Return the parts of the run and their times in a sentence; empty where the report has no profile."""
    profile = report.get("profile")
    if not profile:
        return ""
    shares = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts(report).items() if seconds >= 0.05)
    memory = f"The process held {scaled(profile['peak_memory_bytes'], 'B')} at most" if profile["peak_memory_bytes"] else ""
    resumed = ""
    if profile["resumed"]:
        taken_over = duration(profile["taken_over_seconds"])
        resumed = f"The run was resumed: these are the times of its last call. Proposals of earlier calls took {taken_over} more"
    whole = f"{duration(profile['seconds'])} in all: {shares}"
    return " ".join(f"{text}." for text in (whole, memory, resumed) if text)


def _rows(report: Report) -> list[Mapping[str, Any]]:
    return list((report.get("profile") or {}).get("rows", ()))
