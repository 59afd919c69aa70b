"""Flips: the single cases whose decision changed. A clinician wants to look at these first.

A case that was right and is wrong is *regressed*, one that was wrong and is right is *fixed*, one that is wrong in another way is
*changed*. With masks the decision about an image is whether it shows a class.

A chi-squared test asks whether regressions fall on some classes more than on others. It takes only cases that the original got right, since
no other case can regress. Most counts are too small for the tables of the chi-squared distribution, so the p-value comes from simulation
(Hope, Journal of the Royal Statistical Society B 30, 1968): 9,999 times, the regressed cases are dealt at random to all these cases.

Example: two classes with 90 and 10 correct cases, and 3 regressions, all of them in the small class. Dealt at random, that happens in
10 / 100 * 9 / 99 * 8 / 98 = 0.07 % of the deals, so p is about 0.001.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.errors import spreadsheet_cell
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.intervals import mcnemar
from optimize.guard.score import Score
from optimize.guard.segmentation_score import SegmentationScore
from optimize.guard.tasks import kinds

FILE = "flips.csv"
MAX_LISTED = 200
DEALS = 9_999
KINDS = ("regressed", "fixed", "changed")
COLUMNS = ("id", "patient", "class", "kind", "truth", "before", "after", "confidence_before", "confidence_after")


@dataclass(frozen=True)
class Flip:
    """One case whose decision changed.

    Args:
        case: the user's name of the case.
        patient: id of its patient; None where patients are not known.
        groups: its subgroup by the name of the subgroup column.
        kind: "regressed", "fixed" or "changed".
        truth: the true decision.
        baseline: the original's decision.
        candidate: the candidate's decision.
        confidence_before: the original's probability of the class that it predicts; None with masks.
        confidence_after: the candidate's probability of the class that it predicts; None with masks.
        about: the class that an image shows or not; None without masks.
    """

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
    if baseline.task != candidate.task:
        raise TypeError(f"`baseline` and `candidate` ({type(baseline).__name__}, {type(candidate).__name__}) must be scores of one task.")
    changed: list[Flip] = kinds()[baseline.task].flips(baseline, candidate, names, patients)
    # A confident mistake is the one that nobody would look at twice, so it stands at the top.
    return sorted(changed, key=lambda flip: (KINDS.index(flip.kind), -(flip.confidence_after or 0.0)))


def summary(flips: Sequence[Flip], cases: int, *, independent: bool = True) -> dict[str, Any]:
    """The form that a report shows, with no more than `MAX_LISTED` of the flips.

    Args:
        flips: the flips, in the order of `flips`.
        cases: number of decisions.
        independent: whether every case stands for itself; McNemar's test needs that, so cases of the same patient have no p-value.
    """
    counts = {kind: sum(flip.kind == kind for flip in flips) for kind in KINDS}
    # Cases that stay wrong in another way enter no test: they are wrong before and after.
    p_value = mcnemar(counts["regressed"], counts["fixed"]) if independent else None
    listed = [flip.as_dict() for flip in flips[:MAX_LISTED]]
    return {"cases": cases, **counts, "p_value": p_value, "file": FILE, "listed": listed}


def to_csv(flips: Sequence[Flip]) -> str:
    """All flips as a table; a column for every subgroup column stands at the end."""
    columns = sorted({column for flip in flips for column in flip.groups})
    text = io.StringIO()
    # The csv module's own line end is that of Windows; with this one the file has the same bytes on every system.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *map(spreadsheet_cell, columns)])
    for flip in flips:
        row = flip.as_dict()
        values = [*(row.get(name) for name in COLUMNS), *(flip.groups.get(column, "") for column in columns)]
        writer.writerow(map(spreadsheet_cell, values))
    return text.getvalue()


def unevenness(baseline: ClassificationScore, candidate: ClassificationScore, seed: int = 0) -> dict[str, Any]:
    """The test of whether regressions fall on some classes more than on others, in the form that a report shows.

    Args:
        baseline: the original's score.
        candidate: the artifact's score on the same cases.
        seed: seed of the random deals.
    """
    regressed, fixed = baseline.correct & ~candidate.correct, ~baseline.correct & candidate.correct
    count = len(baseline.classes)
    cases, correct, lost, gained = (
        np.bincount(baseline.labels[rows], minlength=count) for rows in (slice(None), baseline.correct, regressed, fixed)
    )
    rows = [
        {"class": name, "cases": int(cases[k]), "regressed": int(lost[k]), "fixed": int(gained[k])}
        for k, name in enumerate(baseline.classes)
    ]
    method = f"chi-squared test over the classes, of cases the original got right, p-value from {DEALS} random deals"
    return {"p_value": _uneven(correct, lost, seed), "method": method, "rows": rows}


def _uneven(cases: npt.NDArray[np.int64], lost: npt.NDArray[np.int64], seed: int) -> float | None:
    total = int(lost.sum())
    occurs = cases > 0
    # Without a regression, or with one class only, there is nothing that could be uneven.
    if not total or occurs.sum() < 2:
        return None
    # Classes of 90 and 10 cases with 3 regressions: 2.7 and 0.3 are expected. Counts this small are why no table is used.
    expected = total * cases[occurs] / cases.sum()
    # Each row: how many of the regressed cases each class gets when they are dealt at random, without replacement.
    dealt = np.random.default_rng(seed).multivariate_hypergeometric(cases[occurs], total, size=DEALS, method="marginals")
    statistics = ((dealt - expected) ** 2 / expected).sum(1)
    observed = float(((lost[occurs] - expected) ** 2 / expected).sum())
    # The observed deal counts as one of 10,000, so p is never 0.
    # The 1e-9 makes equal deals equal: their statistics may differ in the last digit.
    return float((1 + (statistics >= observed - 1e-9).sum()) / (1 + DEALS))


def of_answers(
    baseline: ClassificationScore, candidate: ClassificationScore, names: Sequence[str], patients: npt.NDArray[Any] | None
) -> list[Flip]:
    """The cases that are given another class."""
    classes, changed = baseline.classes, []
    for case in np.flatnonzero(baseline.predicted != candidate.predicted).tolist():
        truth, old, new = int(baseline.labels[case]), int(baseline.predicted[case]), int(candidate.predicted[case])
        kind = "regressed" if old == truth else "fixed" if new == truth else "changed"
        confidence = float(baseline.probabilities[case, old]), float(candidate.probabilities[case, new])
        patient, groups = whose(case, patients, baseline.groups)
        changed.append(Flip(str(names[case]), patient, groups, kind, classes[truth], classes[old], classes[new], *confidence))
    return changed


def of_masks(
    baseline: SegmentationScore, candidate: SegmentationScore, names: Sequence[str], patients: npt.NDArray[Any] | None
) -> list[Flip]:
    """The images that show a class for one model and not for the other."""
    words, changed = ("not shown", "shown"), []
    for case, k in np.argwhere((baseline.predicted > 0) != (candidate.predicted > 0)).tolist():
        truth, old, new = (int(counts[case, k] > 0) for counts in (baseline.true, baseline.predicted, candidate.predicted))
        patient, groups = whose(case, patients, baseline.groups)
        # "Shown" and "not shown" are the only two decisions, so there is no third kind here.
        kind = "regressed" if old == truth else "fixed"
        changed.append(Flip(str(names[case]), patient, groups, kind, words[truth], words[old], words[new], about=baseline.classes[k]))
    return changed


def whose(case: int, patients: npt.NDArray[Any] | None, groups: Mapping[str, npt.NDArray[Any]]) -> tuple[str | None, dict[str, str]]:
    """The patient of a case, and its subgroups by column."""
    return None if patients is None else str(patients[case]), {column: str(values[case]) for column, values in groups.items()}
