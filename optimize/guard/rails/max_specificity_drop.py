"""Specificity at the operating point: the share of all other cases that the threshold leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    threshold, baseline = compared.limits.threshold, compared.baseline
    if threshold is None:
        return
    for name in compared.limits.positive or baseline.classes:
        k = baseline.classes.index(name)
        rows = baseline.labels != k
        # A right answer is a probability below the threshold; at exactly the threshold the case counts as positive.
        hits = [score.probabilities[rows, k] < threshold for score in (baseline, compared.candidate)]
        estimate = compared.drop_of_hits(hits[0], hits[1], limit, compared.patients_of(rows))
        rates = [float(left_out.mean()) if len(left_out) else 0.0 for left_out in hits]
        yield compared.rail("drop", limit, f"specificity at {threshold:g}", estimate, *rates, scope="class", name=name)


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
