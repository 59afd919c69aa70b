"""The figure of every class: recall, precision or F1, and Dice of masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.mask_comparison import MaskComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.class_comparison import FIGURES

    figure = FIGURES[compared.limits.class_metric]
    for k, name in enumerate(compared.baseline.classes):
        # A class without a case gives a rail, too: it says that the class could not be measured, which is no pass.
        yield compared.rail("drop", limit, figure, *compared.class_drop(k, limit), scope="class", name=name)


def _masks(compared: MaskComparison, limit: float) -> Iterator[Rail]:
    for k, name in enumerate(compared.baseline.classes):
        yield compared.rail("drop", limit, "Dice", *compared.class_drop(k, limit), scope="class", name=name)


RAIL = GuardRail(
    name="max_class_drop",
    rule="drop",
    help="Largest allowed drop of any class's recall; with masks, of its Dice.",
    example="6pp",
    criterion="drop of any class’s {class_metric}",
    classification=_classes,
    segmentation=_masks,
    default=0.06,
    in_format_2=True,
    order=20,
)
