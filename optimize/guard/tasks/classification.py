"""One class of several for each case: accuracy, and recall of every class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optimize.guard.tasks import Labelled, TaskKind


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    import numpy as np

    from optimize.guard.classification_score import answers as answers_of

    # All outputs are kept, as AUC ranks all cases at once. They are small, K numbers a case; masks are counted batch by batch.
    outputs, labels = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    own = labelled.classes, labelled.patients, labelled.groups, labelled.meaning, labelled.threshold
    return answers_of(outputs, labels, *own)


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.class_comparison import ClassComparison

    return ClassComparison(limits, baseline, candidate)


def _no_information(score: Any, labels: Any, limits: Any) -> Any:
    from optimize.guard.no_information import of_classes

    return of_classes(score, limits)


def _case_figures(score: Any) -> Any:
    from optimize.guard.memorization import by_patient

    return by_patient(score.correct, score.patients)


def _flips(baseline: Any, candidate: Any, names: Sequence[str], patients: Any) -> list[Any]:
    from optimize.guard.flips import of_answers

    return of_answers(baseline, candidate, names, patients)


TASK = TaskKind("classification", 0, _score, _compare, _no_information, _case_figures, _flips)
