"""Several labels that each case may have or not: sensitivity and specificity of every label, and their mean over all labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optimize.guard.tasks import Labelled, TaskKind

if TYPE_CHECKING:
    from optimize.guard.multilabel_comparison import MultilabelComparison
    from optimize.guard.rail import Rail

OVERALL = "balanced accuracy"


def _score(answers: Iterable[tuple[Any, Any]], labelled: Labelled) -> Any:
    from optimize.guard.multilabel_score import score_labels

    return score_labels(answers, labelled.classes, labelled.patients, labelled.groups, labelled.meaning, labelled.threshold)


def _compare(limits: Any, baseline: Any, candidate: Any) -> Any:
    from optimize.guard.multilabel_comparison import MultilabelComparison

    return MultilabelComparison(limits, baseline, candidate)


def _no_information(score: Any, labels: Any, limits: Any) -> Any:
    """A constant answer has a balanced accuracy of one half, whatever the shares of the labels."""
    import numpy as np

    from optimize.guard.limits import Limits
    from optimize.guard.multilabel_comparison import MultilabelComparison
    from optimize.guard.no_information import BALANCED_SKILL, CONFIDENCE, NoInformation

    constant = replace(score, predicted=np.zeros_like(score.predicted), probabilities=np.zeros_like(score.probabilities))
    gain, figure, rate = MultilabelComparison(Limits(confidence=CONFIDENCE), score, constant).overall_drop(0.0)
    # The large-sample bound: no bound for the worst case is needed to tell a network from one that knows nothing.
    better = gain.for_search.low > 0 and figure - rate >= BALANCED_SKILL * (1 - rate)
    same = len(score) > 1 and float(np.ptp(score.probabilities, axis=0).max()) < 1e-4
    words = "finding no label in any case"
    return NoInformation(OVERALL, figure, rate, words, better and not same, same, len(score), "cases")


def _case_figures(score: Any) -> Any:
    from optimize.guard.memorization import by_patient

    some = score.known.any(1)
    shares = score.correct[some].sum(1) / score.known[some].sum(1)
    return by_patient(shares, None if score.patients is None else score.patients[some])


def _flips(baseline: Any, candidate: Any, names: Sequence[str], patients: Any) -> list[Any]:
    import numpy as np

    from optimize.guard.flips import Flip, whose

    words, changed = ("absent", "present"), []
    for case, k in np.argwhere((baseline.predicted != candidate.predicted) & baseline.known).tolist():
        truth, old, new = (int(values[case, k] == 1) for values in (baseline.labels, baseline.predicted, candidate.predicted))
        patient, groups = whose(case, patients, baseline.groups)
        sure = [float(max(share := score.probabilities[case, k], 1 - share)) for score in (baseline, candidate)]
        decided = words[truth], words[old], words[new]
        kind = "regressed" if old == truth else "fixed"
        changed.append(Flip(str(names[case]), patient, groups, kind, *decided, sure[0], sure[1], baseline.classes[k]))
    return changed


def _overall(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
    yield compared.rail("drop", limit, OVERALL, *compared.overall_drop(limit))


def _labels(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
    for k in range(len(compared.baseline.classes)):
        # A label without a present or an absent case gives a rail, too: it says that the figure could not be measured.
        for figure in ("sensitivity", "specificity"):
            yield compared.class_rails(k, figure, limit)


def _groups(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
    for column in compared.baseline.groups:
        for value, part in compared.parts(column):
            yield part.rail("drop", limit, OVERALL, *part.overall_drop(limit), scope="group", name=value, column=column)


def _f1(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of
    from optimize.guard.rails.min_class_f1 import f1_of_overlap

    baseline, candidate = compared.baseline, compared.candidate
    for k, name in enumerate(baseline.classes):
        true, predicted = baseline.labels[:, k] == 1, candidate.predicted[:, k] & baseline.known[:, k]
        if not true.any():
            continue  # max_class_drop has said that the label has no case
        either = true | predicted
        patients = None if baseline.patients is None else baseline.patients[either]
        overlap = share_of((true & predicted)[either], compared.limits.confidence, patients)
        f1 = baseline.per_class[name].f1, candidate.per_class[name].f1 or 0.0
        yield compared.rail("floor", limit, "F1", f1_of_overlap(overlap, int(true.sum())), *f1, scope="class", name=name)


def _recall(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of

    baseline, candidate = compared.baseline, compared.candidate
    for k, name in enumerate(baseline.classes):
        rows = compared.rows(k, "sensitivity")
        if rows.any():
            patients = None if baseline.patients is None else baseline.patients[rows]
            estimate = share_of(candidate.correct[rows, k], compared.limits.confidence, patients)
            figures = baseline.per_class[name].sensitivity, candidate.per_class[name].sensitivity or 0.0
            yield compared.rail("floor", limit, "sensitivity", estimate, *figures, scope="class", name=name)


def _at_threshold(figure: str) -> Any:
    # The decision of every label is made at the threshold, so these limits replace that of each class where both are set.
    def judge(compared: MultilabelComparison, limit: float) -> Iterator[Rail]:
        for k, name in enumerate(compared.baseline.classes):
            if name in (compared.limits.positive or compared.baseline.classes):
                yield compared.class_rails(k, figure, limit, f"{figure} at {compared.limits.threshold:g}")

    return judge


TASK = TaskKind(
    "multilabel",
    2,
    _score,
    _compare,
    _no_information,
    _case_figures,
    _flips,
    judges={
        "max_drop": _overall,
        "max_class_drop": _labels,
        "max_group_drop": _groups,
        "min_class_f1": _f1,
        "min_class_recall": _recall,
        "max_sensitivity_drop": _at_threshold("sensitivity"),
        "max_specificity_drop": _at_threshold("specificity"),
    },
)
