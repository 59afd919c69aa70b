"""The guard-rails as rows of the page, arranged and drawn to scale. They are quoted as the report judged them, never judged anew.

Rails of one figure over all classes are a *family*. The list of criteria shows one line for each family: its worst rail. Example: recall of
8 classes, of which one fails and seven pass, is the line "the worst of 8: basophil (1 fails, 7 pass)".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimize.report import wording
from optimize.report.wording import DASH, Report

Rail = Report
_SCORES = ("f1", "dice", "auc", "error")
_WORST_FIRST = {"fail": 0, "inconclusive": 1, "pass": 2}


@dataclass(frozen=True)
class Bar:
    """A drawn rail: its value, its bounds and its limit, all in percent of the drawing's width."""

    start: float
    width: float
    zero: float
    limit: float
    low: float | None
    high: float | None
    point: float


@dataclass(frozen=True)
class Family:
    """The rails of one figure over all classes, or over all values of one column of subgroups."""

    id: str
    scope: str
    column: str | None
    figure: str
    rule: str
    rails: tuple[Rail, ...]

    @property
    def title(self) -> str:
        """'recall of each class'."""
        return f"{self.figure} of each {self.kind}"

    @property
    def kind(self) -> str:
        """'class', or the name of the column."""
        return self.column or self.scope

    @property
    def stated(self) -> str:
        """The limit in words, when it is the same for all rails of the family."""
        # 2 % of the original's figure is 1.8 pp for one class and 1.9 pp for another, but was set as one limit: so the words are compared.
        limits = {limit(rail) for rail in self.rails}
        return limits.pop() if len(limits) == 1 else "a limit of each"


@dataclass(frozen=True)
class Criterion:
    """One line of the acceptance criteria: a rail of the whole split, or the worst rail of a family."""

    name: str
    rail: Rail
    family: Family | None = None


def rails(report: Report) -> list[Rail]:
    """Every rail of the report."""
    return list(report["rails"] or [])


def families(report: Report) -> list[Family]:
    """The families of rails of classes and of subgroups, in the report's order."""
    by_figure: dict[tuple[Any, ...], list[Rail]] = {}
    for rail in rails(report):
        if rail["scope"] != "overall":
            # The rule is part of the key: recall may have a largest drop and a floor, which are two families with two limits.
            by_figure.setdefault((rail["scope"], rail["column"], rail["figure"], rail["rule"]), []).append(rail)
    return [
        Family(f"t-rails-{i}", scope, column, figure, rule, tuple(members))
        for i, ((scope, column, figure, rule), members) in enumerate(by_figure.items(), start=1)
    ]


def criteria(report: Report) -> list[Criterion]:
    """Every rail of the whole split, then the worst rail of each family, in the report's order."""
    whole = [Criterion(name(rail), rail) for rail in rails(report) if rail["scope"] == "overall"]
    parts = [Criterion(name(worst(family.rails), family.title), worst(family.rails), family) for family in families(report)]
    return whole + parts


def tiles(report: Report) -> list[Criterion]:
    """Criteria for the top of the page: the overall drop, and of all families of drops the rail nearest to its limit."""
    criteria_shown = criteria(report)
    # Only drops fit into the tiles at the top, since they are what compression costs; all other criteria follow in the list.
    whole = [criterion for criterion in criteria_shown if criterion.family is None and criterion.rail["rule"] == "drop"][:1]
    parts = [criterion for criterion in criteria_shown if criterion.family is not None and criterion.rail["rule"] == "drop"]
    if not parts:
        return whole
    nearest = worst([criterion.rail for criterion in parts])
    return [*whole, next(criterion for criterion in parts if criterion.rail is nearest)]


def worst(rails: Sequence[Rail]) -> Rail:
    """The rail that decides: a failed one before an undecided one before a passed one, and of these the nearest to its limit."""
    return min(rails, key=lambda rail: (_WORST_FIRST[rail["outcome"]], _margin(rail)))


def tally(rails: Sequence[Rail]) -> str:
    """'1 fails, 2 undecided, 5 pass'."""
    # Singular and plural: "1 fails", but "2 fail".
    words = {"fail": ("fails", "fail"), "inconclusive": ("undecided", "undecided"), "pass": ("passes", "pass")}
    counted = {outcome: sum(rail["outcome"] == outcome for rail in rails) for outcome in words}
    return ", ".join(f"{number} {words[outcome][number != 1]}" for outcome, number in counted.items() if number)


def name(rail: Rail, title: str | None = None) -> str:
    """'Drop of recall of basophil'."""
    title = title or rail["title"]
    return f"{rail['rule'].capitalize()} of {title}" if rail["rule"] in ("drop", "rise") else title[:1].upper() + title[1:]


def limit(rail: Rail) -> str:
    """'at most 6 pp'."""
    return f"at {'least' if rail['rule'] == 'floor' else 'most'} {rail['stated']}"


def written(rail: Rail, value: float | None) -> str:
    """A value of the rail: in points where it is a difference, else as a share."""
    return wording.points(value) if rail["rule"] in ("drop", "rise") else level(rail, value)


def level(rail: Rail, value: float | None) -> str:
    """The figure itself, as it is usually written: a share in percent, a score as a fraction."""
    # F1, Dice and AUC are usually written 0.853, recall and accuracy 85.3 %. The name decides, as the report has no other mark.
    return (wording.fraction if any(word in rail["figure"].lower() for word in _SCORES) else wording.percent)(value)


def bounds(rail: Rail) -> str:
    """'0.40 pp to 7.10 pp', 'up to 7.10 pp'; a dash where there are none."""
    # Some methods bound one side only, and a verdict by points none.
    low, high = (None if rail[key] is None else written(rail, rail[key]) for key in ("low", "high"))
    if low and high:
        return f"{low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else DASH


def decides(rail: Rail) -> str:
    """What would settle a rail that is not decided."""
    if rail["outcome"] != "inconclusive":
        return ""
    if rail["needed"] is None:
        return "no number of cases would decide at these rates"
    number = f"{wording.count(rail['needed'])} {rail['unit']}"
    # Three cases: reports of older versions have no "power"; no power means a minimum; else both numbers are known.
    if "power" not in rail:  # a report of an earlier version
        return f"{number} would decide"
    if rail["power"] is None:  # no number of cases is known to decide, only the fewest that can
        return f"at least {number} are needed"
    return f"{number} would give a chance of 80 % for a decision; the present number gives {100 * rail['power']:.0f} %"


def bars(rails: Sequence[Rail]) -> list[Bar | None]:
    """The drawing of each rail, all on one scale; None for a rail without a value."""
    floor = bool(rails) and rails[0]["rule"] == "floor"
    values = [rail[key] for rail in rails for key in ("value", "low", "high", "limit") if rail[key] is not None]
    # Drops start at 0, so that the length of a bar is the drop. Recalls of 0.91 and 0.93 would look alike on such a scale.
    ends = (min(values, default=0.0), max(values, default=1.0)) if floor else (min([0.0, *values]), max([0.001, *values]))
    # Where all values are equal the range is 0, and a division by it would follow; 0.01 to either side takes its place.
    padding = (ends[1] - ends[0]) * 0.06 or 0.01
    low, high = ends[0] - padding, ends[1] + padding

    def at(value: float) -> float:
        return round((value - low) / (high - low) * 100, 3)

    def bar(rail: Rail) -> Bar | None:
        value, zero = rail["value"], low if floor else 0.0
        if value is None:
            return None
        start, end = at(min(value, zero)), at(max(value, zero))
        bound = [None if rail[key] is None else at(rail[key]) for key in ("low", "high")]
        # A drop of 0 would be no bar at all: 0.6 % of the width is the thinnest that can be seen.
        return Bar(start, round(max(end - start, 0.6), 3), at(zero), at(rail["limit"]), bound[0], bound[1], at(value))

    return [bar(rail) for rail in rails]


def _margin(rail: Rail) -> float:
    """How far the worse bound lies inside the limit, as a fraction; minus infinity for a rail without a value."""
    if rail["value"] is None:
        return float("-inf")
    floor = rail["rule"] == "floor"
    value = rail["low" if floor else "high"]
    # Without bounds, as in a verdict by points, the measured value itself is compared.
    value = rail["value"] if value is None else value
    return float(value - rail["limit"] if floor else rail["limit"] - value)
