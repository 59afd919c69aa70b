"""Single decisions in a report: confusion matrices, frequent mistakes, and the bins of the reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimize.report.rows import find
from optimize.report.wording import Report

MAX_CLASSES = 40
"""Classes of the largest confusion matrix that a page shows; with more classes it lists the mistakes that changed most."""
KINDS = {"regressed": "right, now wrong", "fixed": "wrong, now right", "changed": "wrong, now wrong in another way"}


@dataclass(frozen=True)
class Cell:
    """One cell of a confusion matrix: its cases, the strength of its colour (0 to 1), and whether it is good news."""

    cases: int
    share: float
    good: bool


@dataclass(frozen=True)
class Mistake:
    """Number of cases of one class that each model takes for another class; None where it was not counted."""

    truth: str
    taken_for: str
    baseline: int | None
    candidate: int | None


def matrices(report: Report) -> list[tuple[str, str, list[list[Cell]]]]:
    """Confusion matrices as (id, title, cells): baseline, candidate, difference. Empty with more classes than a page can show."""
    baseline, candidate = (find(report, part, "metrics", "confusion") for part in ("baseline", "compressed"))
    # A matrix of 41 classes has 1,681 cells, which no screen shows legibly; `mistakes` takes its place.
    if len(baseline or candidate or ()) > MAX_CLASSES:
        return []
    counted = [("t-before", "Before", _counted(baseline)), ("t-after", "After", _counted(candidate))]
    if baseline and candidate:
        counted.append(("t-difference", "Difference", _difference(baseline, candidate)))
    return [(identity, title, cells) for identity, title, cells in counted if cells]


def mistakes(report: Report) -> list[Mistake]:
    """The mistakes whose number changed most, where there are too many classes for a matrix; else an empty list."""
    baseline, candidate = (find(report, part, "metrics", "confusion") for part in ("baseline", "compressed"))
    size = len(baseline or candidate or ())
    if size <= MAX_CLASSES:
        return []
    # A run that ended early may know no class names: then the number of the label has to do.
    names = report["classes"] or [f"label {i}" for i in range(size)]
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    counted = [Mistake(names[i], names[j], baseline[i][j] if baseline else None, candidate[i][j] if candidate else None) for i, j in pairs]
    # Most pairs of 100 classes, 9,900 of them, are never mistaken for each other by either model.
    made = [mistake for mistake in counted if mistake.baseline or mistake.candidate]

    def rank(mistake: Mistake) -> tuple[int, int]:
        baseline, candidate = mistake.baseline or 0, mistake.candidate or 0
        return -abs(candidate - baseline), -candidate  # the largest change first; of equal changes the most frequent mistake

    return sorted(made, key=rank)[:MAX_CLASSES]


def reliability(report: Report) -> list[dict[str, Any]]:
    """Bins of confidence that hold a case of either model, each with both models' figures."""
    calibration = report["calibration"] or {}
    bins = [(find(calibration, part, "bins") or []) for part in ("before", "after")]
    # Bin by bin of both models; without one of them there is nothing to compare, and the list is empty.
    both = [{"low": a["low"], "high": a["high"], "before": a, "after": b} for a, b in zip(*bins, strict=False)]
    # Of two classes the lower bins of confidence are always empty, and seven rows of dashes would say nothing.
    return [row for row in both if row["before"]["cases"] or row["after"]["cases"]]


def columns_of_flips(report: Report) -> list[str]:
    """Names of the subgroup columns in which a listed case has a value."""
    return sorted({column for flip in find(report, "flips", "listed") or [] for column in flip["groups"]})


def _counted(matrix: list[list[int]] | None) -> list[list[Cell]]:
    def cell(i: int, j: int, cases: int, total: int) -> Cell:
        # Mistakes are rare: by the square root 1 % is still drawn at a tenth of the full colour.
        share = cases / (total or 1)
        return Cell(cases, round(share if i == j else share**0.5, 3), i == j)

    return [[cell(i, j, cases, sum(row)) for j, cases in enumerate(row)] for i, row in enumerate(matrix or [])]


def _difference(baseline: list[list[int]], candidate: list[list[int]]) -> list[list[Cell]]:
    def cell(i: int, j: int) -> Cell:
        # More cases are good on the diagonal (right decisions), and bad elsewhere (mistakes).
        more = candidate[i][j] - baseline[i][j]
        return Cell(more, round(min(1.0, abs(more) / (sum(baseline[i]) or 1)) ** 0.5, 3), (more > 0) == (i == j))

    return [[cell(i, j) for j in range(len(row))] for i, row in enumerate(candidate)]
