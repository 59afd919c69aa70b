"""Dice of the masks with the original's masks, in place of the true ones, that must be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.mask_comparison import MaskComparison
    from optimize.guard.rail import Rail


def _masks(compared: MaskComparison, limit: float) -> Iterator[Rail]:
    from dataclasses import replace

    estimate = compared.agreement()
    rail = compared.rail("floor", limit, "agreement", estimate, None, estimate.value)
    # The title would be "agreement" alone, which does not say with what.
    yield replace(rail, title="agreement with the original’s masks")


RAIL = GuardRail(
    name="min_agreement",
    rule="floor",
    help="With masks: Dice with the original's masks that must be reached.",
    example="0.95",
    criterion="agreement with the original",
    segmentation=_masks,
    default=0.0,
    in_format_2=True,
    order=50,
)
