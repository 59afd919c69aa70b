"""Numbers: mean absolute error of every target, and its bias."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optimize.guard.tasks import Labelled, TaskKind

if TYPE_CHECKING:
    from optimize.guard.rail import Rail
    from optimize.guard.regression_comparison import RegressionComparison

ERROR = "relative absolute error"
FLIP = 0.5
"""Change of a prediction, in spreads of the labels, from which a case is listed."""


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    from optimize.guard.regression_score import score_numbers

    return score_numbers(answers, labelled.classes, labelled.patients, labelled.groups)


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.regression_comparison import RegressionComparison

    return RegressionComparison(limits, baseline, candidate)


def _no_information(score: Any, labels: Any, limits: Any) -> Any:
    """The best constant answer is the median, whose error is the spread, and whose R² is 0 or below."""
    import numpy as np

    from optimize.guard.no_information import BALANCED_SKILL, CONFIDENCE, NoInformation
    from optimize.guard.regression_comparison import RegressionComparison

    constant = replace(score, predicted=np.broadcast_to(np.median(score.labels, axis=0), score.labels.shape))
    compared = RegressionComparison(replace(limits, confidence=CONFIDENCE), score, constant)
    gains = [compared.rise_of_error(k, 0.0) for k in range(len(score.classes))]
    better = all(gain.for_search.low > 0 and after - before >= BALANCED_SKILL * after for gain, before, after in gains)
    same = len(score) > 1 and bool((np.ptp(score.predicted, axis=0) < 1e-4 * score.spread).all())
    return NoInformation("R2", score.overall, 0.0, "answering the median", better and not same, same, len(score), "cases")


def _case_figures(score: Any) -> Any:
    from optimize.guard.memorization import by_patient

    return by_patient(-score.errors.mean(1), score.patients)


def _flips(baseline: Any, candidate: Any, names: Sequence[str], patients: Any) -> list[Any]:
    """Cases whose number moved by half a spread or more: regressed where it moved away from the label."""
    import numpy as np

    from optimize.guard.flips import Flip, whose

    changed = []
    for case, k in np.argwhere(np.abs(candidate.residuals - baseline.residuals) >= FLIP).tolist():
        patient, groups = whose(case, patients, baseline.groups)
        kind = "regressed" if candidate.errors[case, k] > baseline.errors[case, k] else "fixed"
        numbers = [f"{values[case, k]:.6g}" for values in (baseline.labels, baseline.predicted, candidate.predicted)]
        changed.append(Flip(str(names[case]), patient, groups, kind, numbers[0], numbers[1], numbers[2], about=baseline.classes[k]))
    return changed


def _error(compared: RegressionComparison, limit: float) -> Iterator[Rail]:
    for k, place in _targets(compared):
        yield compared.rail("rise", limit, ERROR, *compared.rise_of_error(k, limit), **place)


def _bias(compared: RegressionComparison, limit: float) -> Iterator[Rail]:
    for k, place in _targets(compared):
        yield compared.rail("ceiling", limit, "relative bias", *compared.bias(k), **place)


def _groups(compared: RegressionComparison, limit: float) -> Iterator[Rail]:
    names = compared.baseline.classes
    for column in compared.baseline.groups:
        for value, part in compared.parts(column):
            for k, name in enumerate(names):
                figure = ERROR if len(names) == 1 else f"{ERROR} of {name}"
                yield part.rail("rise", limit, figure, *part.rise_of_error(k, limit), scope="group", name=value, column=column)


def _targets(compared: RegressionComparison) -> Iterator[tuple[int, dict[str, Any]]]:
    names = compared.baseline.classes
    for k, name in enumerate(names):
        # A single target is the whole; several have units of their own, and no common figure.
        yield k, {} if len(names) == 1 else {"scope": "class", "name": name}


TASK = TaskKind(
    "regression",
    4,
    _score,
    _compare,
    _no_information,
    _case_figures,
    _flips,
    judges={"max_mae_rise": _error, "max_group_mae_rise": _groups, "max_bias": _bias},
)
