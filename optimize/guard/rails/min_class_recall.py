"""Recall that every class must reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of

    baseline, candidate = compared.baseline, compared.candidate
    for k, name in enumerate(baseline.classes):
        rows = baseline.labels == k
        if not rows.any():
            continue  # max_class_drop has said that the class has no case
        estimate = share_of(candidate.correct[rows], compared.limits.confidence, compared.patients_of(rows))
        # The original's recall is shown beside the floor, but only the candidate's is compared with it.
        recalls = baseline.per_class[name].recall, candidate.per_class[name].recall
        yield compared.rail("floor", limit, "recall", estimate, *recalls, scope="class", name=name)


RAIL = GuardRail(
    name="min_class_recall",
    rule="floor",
    help="Recall that every class must reach.",
    example="0.9",
    criterion="recall of every class",
    classification=_classes,
    default=0.0,
    on_training_images=False,
    in_format_2=True,
    order=40,
)
