"""The expected calibration error: how far confidence lies from the share of right answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.calibration_rise import rise_of_error

    # In double precision, since the gap of a bin is a small difference of two large sums.
    sides = [(score.probabilities.max(1).astype("float64"), score.correct) for score in (compared.baseline, compared.candidate)]
    rise = rise_of_error(sides[0], sides[1], compared.limits.confidence, compared.baseline.patients)
    yield compared.rail("rise", limit, "expected calibration error", *rise)


RAIL = GuardRail(
    name="max_ece_rise",
    rule="rise",
    help="Largest allowed rise of the expected calibration error.",
    example="2pp",
    criterion="rise of the calibration error",
    unlimited="the calibration error",
    classification=_classes,
    on_training_images=False,
    in_format_2=True,
    order=70,
)
