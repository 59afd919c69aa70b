"""Specificity at the operating point: the share of all other cases that the threshold leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    # A right answer is a probability below the threshold; at exactly the threshold the case counts as positive.
    return compared.drops_at_threshold("specificity", limit, of_class=False)


RAIL = GuardRail(
    name="max_specificity_drop",
    rule="drop",
    help="Largest allowed drop of the specificity at --threshold.",
    example="3pp",
    criterion="drop of specificity",
    unlimited="specificity at an operating point",
    classification=_classes,
    needs_threshold=True,
    in_format_2=True,
    order=60,
)
