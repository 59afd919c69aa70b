"""Sensitivity at the operating point: the share of a class's cases that the threshold finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    # Both models are used at the same threshold, as the artifact takes the original's place without a new setting.
    return compared.drops_at_threshold("sensitivity", limit, of_class=True)


RAIL = GuardRail(
    name="max_sensitivity_drop",
    rule="drop",
    help="Largest allowed drop of the sensitivity at --threshold.",
    example="3pp",
    criterion="drop of sensitivity",
    unlimited="sensitivity at an operating point",
    classification=_classes,
    needs_threshold=True,
    in_format_2=True,
    order=60,
)
