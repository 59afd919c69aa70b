"""Judges every guard-rail that the limits ask for, on two scores of the same cases, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from optimize.errors import InputError
from optimize.guard.class_comparison import ClassComparison
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.limits import Limits
from optimize.guard.mask_comparison import MaskComparison
from optimize.guard.rail import Rail
from optimize.guard.rails import rows
from optimize.guard.score import Score
from optimize.guard.segmentation_score import SegmentationScore


def judged_rails(limits: Limits, baseline: Score, candidate: Score) -> list[Rail]:
    """Every judged rail that `limits` asks for and that the task has a figure for.

    Args:
        limits: the limits of the run.
        baseline: the original's score.
        candidate: the other model's score, on the same cases in the same order.
    """
    compared = compare(limits, baseline, candidate)
    rails: list[Rail] = []
    # Rows of the same order, such as the floors of F1 and of recall, are one list for the reader: class by class, not figure by figure.
    for _, same_order in groupby(rows(), key=lambda row: row.order):
        judged: list[Rail] = []
        for row in same_order:
            judge, limit = row.judge(compared.task), limits.of(row)
            # A limit that the task has no figure for is refused before a run; here it is only left out.
            if judge is not None and limit is not None:
                judged += judge(compared, limit)
        rails += class_by_class(judged)
    return rails


def compare(limits: Limits, baseline: Score, candidate: Score) -> ClassComparison | MaskComparison:
    """The comparison of two scores of one task."""
    if isinstance(baseline, ClassificationScore) and isinstance(candidate, ClassificationScore):
        if len(baseline.correct) != len(candidate.correct):
            counts = f"{len(baseline.correct)} and {len(candidate.correct)} cases"
            raise InputError(f"`baseline` and `candidate` are scores of {counts}: score both on the same split.")
        return ClassComparison(limits, baseline, candidate)
    if isinstance(baseline, SegmentationScore) and isinstance(candidate, SegmentationScore):
        return MaskComparison(limits, baseline, candidate)
    types = type(baseline).__name__, type(candidate).__name__
    raise TypeError(f"`baseline` and `candidate` ({types[0]}, {types[1]}) must be scores of one task.")


def class_by_class(rails: Iterable[Rail]) -> list[Rail]:
    """The rails with those of one class or subgroup side by side: F1 of a, F1 of b, recall of a -> F1 of a, recall of a, F1 of b."""
    # A dict keeps the order in which keys came in, so the first figure decides the order of the classes.
    by_class: dict[tuple[str, str | None, str | None], list[Rail]] = {}
    for rail in rails:
        by_class.setdefault((rail.scope, rail.column, rail.name), []).append(rail)
    return [rail for same_class in by_class.values() for rail in same_class]
