"""What became of single answers: which changed, which class is taken for which, how far confidence can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimize.report.rows import find
from optimize.report.wording import Report

MOST_CLASSES = 40
KINDS = {"regressed": "right, now wrong", "fixed": "wrong, now right", "changed": "wrong, now wrong in another way"}


@dataclass(frozen=True)
class Cell:
    """One cell of a confusion matrix: cases, the strength of its colour (0 to 1), and whether it stands for what is wanted."""

    cases: int
    share: float
    good: bool


@dataclass(frozen=True)
class Mistake:
    """Cases of one class taken for another, before and after; None where they were not counted."""

    truth: str
    taken_for: str
    before: int | None
    after: int | None


def matrices(report: Report) -> list[tuple[str, str, list[list[Cell]]]]:
    """Confusion before, after, and after minus before, as far as counted: (id, title, cells); none of more classes than a page can show."""
    before, after = (find(report, part, "metrics", "confusion") for part in ("baseline", "compressed"))
    if len(before or after or ()) > MOST_CLASSES:
        return []
    found = [("t-before", "Before", _counted(before)), ("t-after", "After", _counted(after))]
    if before and after:
        found.append(("t-difference", "Difference", _difference(before, after)))
    return [(identity, title, cells) for identity, title, cells in found if cells]


def mistakes(report: Report) -> list[Mistake]:
    """Of more classes than a matrix can show, the mistakes whose number changed most, and of these the most frequent."""
    before, after = (find(report, part, "metrics", "confusion") for part in ("baseline", "compressed"))
    size = len(before or after or ())
    if size <= MOST_CLASSES:
        return []
    names = report["classes"] or [f"label {i}" for i in range(size)]
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    found = [Mistake(names[i], names[j], before[i][j] if before else None, after[i][j] if after else None) for i, j in pairs]
    made = [each for each in found if each.before or each.after]
    return sorted(made, key=lambda each: (-abs((each.after or 0) - (each.before or 0)), -(each.after or 0)))[:MOST_CLASSES]


def reliability(report: Report) -> list[dict[str, Any]]:
    """Bins of confidence that hold a case before or after, each with both."""
    calibration = report["calibration"] or {}
    bins = [(find(calibration, part, "bins") or []) for part in ("before", "after")]
    both = [{"low": a["low"], "high": a["high"], "before": a, "after": b} for a, b in zip(*bins, strict=False)]
    return [row for row in both if row["before"]["cases"] or row["after"]["cases"]]


def columns_of_flips(report: Report) -> list[str]:
    """Columns of subgroups that any listed case has a value of."""
    return sorted({column for flip in find(report, "flips", "listed") or [] for column in flip["groups"]})


def _counted(matrix: list[list[int]] | None) -> list[list[Cell]]:
    def cell(i: int, j: int, cases: int, total: int) -> Cell:
        share = cases / (total or 1)
        return Cell(cases, round(share if i == j else share**0.5, 3), i == j)

    return [[cell(i, j, cases, sum(row)) for j, cases in enumerate(row)] for i, row in enumerate(matrix or [])]


def _difference(before: list[list[int]], after: list[list[int]]) -> list[list[Cell]]:
    def cell(i: int, j: int) -> Cell:
        more = after[i][j] - before[i][j]
        return Cell(more, round(min(1.0, abs(more) / (sum(before[i]) or 1)) ** 0.5, 3), (more > 0) == (i == j))

    return [[cell(i, j) for j in range(len(row))] for i, row in enumerate(after)]
