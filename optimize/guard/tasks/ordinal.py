"""Grades that have an order: what holds for classes, quadratic weighted kappa, and the mean error of the grades."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from optimize.guard.tasks import Labelled, TaskKind
from optimize.guard.tasks.classification import TASK as CLASSIFICATION

if TYPE_CHECKING:
    from optimize.guard.ordinal_comparison import OrdinalComparison
    from optimize.guard.rail import Rail


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    from dataclasses import fields

    from optimize.guard.ordinal_score import OrdinalScore

    score = CLASSIFICATION.score(answers, labelled)
    return OrdinalScore(**{field.name: getattr(score, field.name) for field in fields(score)})


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.ordinal_comparison import OrdinalComparison

    return OrdinalComparison(limits, baseline, candidate)


def _kappa(compared: OrdinalComparison, limit: float) -> Iterator[Rail]:
    yield compared.rail("drop", limit, "weighted kappa", *compared.kappa_drop(limit))


def _error(compared: OrdinalComparison, limit: float) -> Iterator[Rail]:
    yield compared.rail("rise", limit, "mean error of the grades", *compared.rise_of_error(limit))


TASK = TaskKind(
    "ordinal",
    3,
    _score,
    _compare,
    CLASSIFICATION.no_information,
    CLASSIFICATION.case_figures,
    CLASSIFICATION.flips,
    judges={"max_kappa_drop": _kappa, "max_mae_rise": _error},
    like="classification",
)
