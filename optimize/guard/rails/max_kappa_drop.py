"""Quadratic weighted kappa of grades. Its judge stands in the file of the task (`optimize/guard/tasks/ordinal.py`)."""

from __future__ import annotations

from optimize.guard.rails import GuardRail

RAIL = GuardRail(
    name="max_kappa_drop",
    rule="drop",
    help="With grades: largest allowed drop of the quadratic weighted kappa.",
    example="3pp",
    criterion="drop of the weighted kappa",
    default=0.03,
    order=35,
)
