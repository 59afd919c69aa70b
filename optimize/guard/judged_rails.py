"""Judges every guard-rail that the limits ask for, on two scores of the same cases, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from itertools import groupby
from typing import Any

from optimize.errors import InputError
from optimize.guard.comparison import Comparison
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail
from optimize.guard.rails import rows
from optimize.guard.score import Score
from optimize.guard.tasks import kinds


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


def compare(limits: Limits, baseline: Score, candidate: Score) -> Comparison[Any]:
    """The comparison of two scores of one task."""
    if not baseline.task == candidate.task:
        raise TypeError(f"`baseline` and `candidate` ({type(baseline).__name__}, {type(candidate).__name__}) must be scores of one task.")
    counts = [len(score) for score in (baseline, candidate) if isinstance(score, Sized)]
    if len(set(counts)) > 1:
        raise InputError(f"`baseline` and `candidate` are scores of {counts[0]} and {counts[1]} cases: score both on the same split.")
    compared: Comparison[Any] = kinds()[baseline.task].compare(limits, baseline, candidate)
    return compared


def class_by_class(rails: Iterable[Rail]) -> list[Rail]:
    """The rails with those of one class or subgroup side by side: F1 of a, F1 of b, recall of a -> F1 of a, recall of a, F1 of b."""
    # A dict keeps the order in which keys came in, so the first figure decides the order of the classes.
    by_class: dict[tuple[str, str | None, str | None], list[Rail]] = {}
    for rail in rails:
        by_class.setdefault((rail.scope, rail.column, rail.name), []).append(rail)
    return [rail for same_class in by_class.values() for rail in same_class]
