"""A mask for each case: Dice of every class, patient by patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optimize.guard.tasks import Labelled, TaskKind


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    from optimize.guard.segmentation_score import score_masks

    return score_masks(answers, labelled.classes, labelled.patients, labelled.groups, labelled.meaning)


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.mask_comparison import MaskComparison

    return MaskComparison(limits, baseline, candidate)


def _no_information(score: Any, labels: Any, limits: Any) -> Any:
    from optimize.guard.no_information import of_masks

    return of_masks(score, labels)


def _case_figures(score: Any) -> Any:
    import numpy as np

    dice = score.per_patient
    # A patient without any of the classes has no Dice to compare.
    some = ~np.isnan(dice).all(1)
    return np.nanmean(dice[some], axis=1)


def _flips(baseline: Any, candidate: Any, names: Sequence[str], patients: Any) -> list[Any]:
    from optimize.guard.flips import of_masks

    return of_masks(baseline, candidate, names, patients)


TASK = TaskKind("segmentation", 1, _score, _compare, _no_information, _case_figures, _flips)
