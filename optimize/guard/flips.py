"""Single cases whose decision changed: what a clinician wants to look at before anything else.

A case that was right and is wrong is *regressed*, one that was wrong and is right is *fixed*, one that is wrong in another way is
*changed*. With masks the decision about an image is whether it shows a class.

Whether regressions fall on some classes more than on others is asked by the chi-squared test of the counts of regressed and other cases
of each class, among those that the original got right, since no other can regress. Its p-value is drawn (Hope, Journal of the Royal
Statistical Society B 30, 1968), since most counts are too small for the distribution's tables: the regressed cases are dealt out anew to
all of these, 9,999 times.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.guard.classification_score import ClassificationScore
from optimize.guard.intervals import mcnemar
from optimize.guard.score import Score
from optimize.guard.segmentation_score import SegmentationScore

FILE = "flips.csv"
LISTED = 200
DEALT = 9_999
KINDS = ("regressed", "fixed", "changed")
COLUMNS = ("id", "patient", "class", "kind", "truth", "before", "after", "confidence_before", "confidence_after")


@dataclass(frozen=True)
class Flip:
    """One case whose decision changed; `about` is the class with masks, and confidences are shares of the decided class, else None."""

    case: str
    patient: str | None
    groups: Mapping[str, str]
    kind: str
    truth: str
    baseline: str
    candidate: str
    confidence_before: float | None = None
    confidence_after: float | None = None
    about: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        whole = {
            "id": self.case,
            "patient": self.patient,
            "groups": dict(self.groups),
            "kind": self.kind,
            "truth": self.truth,
            "before": self.baseline,
            "after": self.candidate,
            "confidence_before": self.confidence_before,
            "confidence_after": self.confidence_after,
        }
        return whole if self.about is None else whole | {"class": self.about}


def flips(baseline: Score, candidate: Score, names: Sequence[str], patients: npt.NDArray[Any] | None = None) -> list[Flip]:
    """Every case whose decision changed: the regressed ones first, and of these the most confident mistakes first.

    Args:
        baseline: the original's score.
        candidate: the artifact's score on the same cases.
        names: the user's name of each case, (N,).
        patients: id of each case's patient, (N,); None where patients are not known.
    """
    if isinstance(baseline, ClassificationScore) and isinstance(candidate, ClassificationScore):
        found = _of_answers(baseline, candidate, names, patients)
    elif isinstance(baseline, SegmentationScore) and isinstance(candidate, SegmentationScore):
        found = _of_masks(baseline, candidate, names, patients)
    else:
        raise TypeError(f"`baseline` and `candidate` ({type(baseline).__name__}, {type(candidate).__name__}) must be scores of one task.")
    return sorted(found, key=lambda flip: (KINDS.index(flip.kind), -(flip.confidence_after or 0.0)))


def summary(found: Sequence[Flip], cases: int, *, alone: bool = True) -> dict[str, Any]:
    """The form that a report shows, with no more than `LISTED` of the flips.

    Args:
        found: the flips, in order.
        cases: how many decisions there were.
        alone: every case stands for itself, and not for its patient: McNemar's test asks for that.
    """
    counts = {kind: sum(flip.kind == kind for flip in found) for kind in KINDS}
    p_value = mcnemar(counts["regressed"], counts["fixed"]) if alone else None
    listed = [flip.as_dict() for flip in found[:LISTED]]
    return {"cases": cases, **counts, "p_value": p_value, "file": FILE, "listed": listed}


def to_csv(found: Sequence[Flip]) -> str:
    """All flips as a table; a column for every subgroup column stands at the end."""
    columns = sorted({column for flip in found for column in flip.groups})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *columns])
    for flip in found:
        row = flip.as_dict()
        writer.writerow([*(_harmless(row.get(name)) for name in COLUMNS), *(_harmless(flip.groups.get(column, "")) for column in columns)])
    return text.getvalue()


def unevenness(baseline: ClassificationScore, candidate: ClassificationScore, seed: int = 0) -> dict[str, Any]:
    """Whether regressions fall on some classes more than on others, in the form that a report shows; see above."""
    regressed, fixed = baseline.correct & ~candidate.correct, ~baseline.correct & candidate.correct
    count = len(baseline.classes)
    cases, right, lost, gained = (
        np.bincount(baseline.labels[rows], minlength=count) for rows in (slice(None), baseline.correct, regressed, fixed)
    )
    rows = [
        {"class": name, "cases": int(cases[k]), "regressed": int(lost[k]), "fixed": int(gained[k])}
        for k, name in enumerate(baseline.classes)
    ]
    method = f"chi-squared test over the classes, of cases the original got right, p-value from {DEALT} random deals"
    return {"p_value": _uneven(right, lost, seed), "method": method, "rows": rows}


def _uneven(cases: npt.NDArray[np.int64], lost: npt.NDArray[np.int64], seed: int) -> float | None:
    total = int(lost.sum())
    seen = cases > 0
    if not total or seen.sum() < 2:
        return None
    expected = total * cases[seen] / cases.sum()
    dealt = np.random.default_rng(seed).multivariate_hypergeometric(cases[seen], total, size=DEALT, method="marginals")
    statistics = ((dealt - expected) ** 2 / expected).sum(1)
    observed = float(((lost[seen] - expected) ** 2 / expected).sum())
    return float((1 + (statistics >= observed - 1e-9).sum()) / (1 + DEALT))


def _of_answers(
    before: ClassificationScore, after: ClassificationScore, names: Sequence[str], patients: npt.NDArray[Any] | None
) -> list[Flip]:
    classes, found = before.classes, []
    for case in np.flatnonzero(before.predicted != after.predicted).tolist():
        truth, old, new = int(before.labels[case]), int(before.predicted[case]), int(after.predicted[case])
        kind = "regressed" if old == truth else "fixed" if new == truth else "changed"
        confidence = float(before.probabilities[case, old]), float(after.probabilities[case, new])
        whose, groups = _whose(case, patients, before.groups)
        found.append(Flip(str(names[case]), whose, groups, kind, classes[truth], classes[old], classes[new], *confidence))
    return found


def _of_masks(before: SegmentationScore, after: SegmentationScore, names: Sequence[str], patients: npt.NDArray[Any] | None) -> list[Flip]:
    words, found = ("not shown", "shown"), []
    for case, k in np.argwhere((before.predicted > 0) != (after.predicted > 0)).tolist():
        truth, old, new = (int(each[case, k] > 0) for each in (before.true, before.predicted, after.predicted))
        whose, groups = _whose(case, patients, before.groups)
        kind = "regressed" if old == truth else "fixed"
        found.append(Flip(str(names[case]), whose, groups, kind, words[truth], words[old], words[new], about=before.classes[k]))
    return found


def _whose(case: int, patients: npt.NDArray[Any] | None, groups: Mapping[str, npt.NDArray[Any]]) -> tuple[str | None, dict[str, str]]:
    return None if patients is None else str(patients[case]), {column: str(values[case]) for column, values in groups.items()}


def _harmless(value: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
