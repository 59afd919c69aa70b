"""The overall figure: accuracy, macro F1 or AUC of classes, Dice of masks."""

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

    metric = compared.limits.metric
    # A recall of a class is often called accuracy, hence "overall"; macro F1 and AUC are always of all classes.
    figure = "overall accuracy" if metric == "accuracy" else FIGURES[metric]
    yield compared.rail("drop", limit, figure, *compared.overall_drop(limit))


def _masks(compared: MaskComparison, limit: float) -> Iterator[Rail]:
    yield compared.rail("drop", limit, "overall Dice", compared.overall_drop(limit), compared.baseline.overall, compared.candidate.overall)


RAIL = GuardRail(
    name="max_drop",
    rule="drop",
    help="Largest allowed drop of overall accuracy, or Dice; 2% is a share of the original's.",
    example="2pp",
    criterion="drop of {overall}",
    classification=_classes,
    segmentation=_masks,
    default=0.02,
    in_format_2=True,
    order=10,
)
