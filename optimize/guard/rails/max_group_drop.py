"""The overall figure within every subgroup, of every column of subgroups that the data names."""

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

    figure = FIGURES[compared.limits.metric]
    # Without a column of subgroups there is no rail, and the report says that no subgroup was looked at.
    for column in compared.baseline.groups:
        for value, part in compared.parts(column):
            yield part.rail("drop", limit, figure, *part.overall_drop(limit), scope="group", name=value, column=column)


def _masks(compared: MaskComparison, limit: float) -> Iterator[Rail]:
    for column in compared.baseline.groups:
        for value, part in compared.parts(column):
            dice = part.baseline.overall, part.candidate.overall
            yield part.rail("drop", limit, "Dice", part.overall_drop(limit), *dice, scope="group", name=value, column=column)


RAIL = GuardRail(
    name="max_group_drop",
    rule="drop",
    help="Largest allowed drop within any subgroup; by default that of --max-class-drop.",
    example="6pp",
    criterion="drop of {metric} in any subgroup",
    classification=_classes,
    segmentation=_masks,
    fallback="max_class_drop",
    in_format_2=True,
    order=30,
)
