"""The share of cases that the original gets right and the artifact gets wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of

    # Fixed cases do not make up for these: a patient who is now diagnosed wrongly gains nothing from another one's luck.
    regressed = compared.baseline.correct & ~compared.candidate.correct
    estimate = share_of(regressed, compared.limits.confidence, compared.baseline.patients)
    yield compared.rail("ceiling", limit, "share of cases that were right and are wrong", estimate, None, estimate.value)


RAIL = GuardRail(
    name="max_regressed",
    rule="ceiling",
    help="Largest allowed share of cases that were right and are wrong.",
    example="5%",
    criterion="share of cases right before and wrong after",
    unlimited="the share of cases that were right and are wrong",
    classification=_classes,
    in_format_2=True,
    order=80,
)
