"""What the test split could accept, as the report's page shows it: the limits that allow least, and the chance that was aimed at."""

from __future__ import annotations

from typing import Any

from optimize.report.wording import Report

MAX_ROWS = 12
"""Largest number of limits that the page lists; the report's JSON has all of them."""


def tightest(report: Report) -> list[dict[str, Any]]:
    """The limits whose largest true loss is known, the smallest first; those that allow no loss at all come before them."""
    plan = report.get("acceptance_plan")
    if not plan:
        return []
    known = [rail for rail in plan["rails"] if rail["largest_loss"] is not None or rail["nearly_no_change"]]
    return sorted(known, key=lambda rail: -1.0 if rail["largest_loss"] is None else rail["largest_loss"])[:MAX_ROWS]
