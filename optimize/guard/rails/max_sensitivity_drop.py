"""Sensitivity at the operating point: the share of a class's cases that the threshold finds."""

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
        rows = baseline.labels == k
        # Both models are used at the same threshold, as the artifact takes the original's place without a new setting.
        hits = [score.probabilities[rows, k] >= threshold for score in (baseline, compared.candidate)]
        estimate = compared.drop_of_hits(hits[0], hits[1], limit, compared.patients_of(rows))
        rates = [float(found_by_model.mean()) if len(found_by_model) else 0.0 for found_by_model in hits]
        yield compared.rail("drop", limit, f"sensitivity at {threshold:g}", estimate, *rates, scope="class", name=name)


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
