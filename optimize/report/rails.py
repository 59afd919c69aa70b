"""The guard-rails as rows of the page: as the report judged them, arranged and drawn to scale, never judged anew."""

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
    """A value with its bounds and its limit, all in percent of the width."""

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
        """The limit as it was fixed, when it is the same for all."""
        found = {limit(rail) for rail in self.rails}
        return found.pop() if len(found) == 1 else "a limit of each"


@dataclass(frozen=True)
class Criterion:
    """One line of the acceptance criteria: a rail, and of a family the worst with how many others stand behind it."""

    name: str
    rail: Rail
    of: Family | None = None


def rails(report: Report) -> list[Rail]:
    """Every rail of the report."""
    return list(report["rails"] or [])


def families(report: Report) -> list[Family]:
    """Rails of classes and of subgroups, by what they are about, in the report's order."""
    found: dict[tuple[Any, ...], list[Rail]] = {}
    for rail in rails(report):
        if rail["scope"] != "overall":
            found.setdefault((rail["scope"], rail["column"], rail["figure"], rail["rule"]), []).append(rail)
    return [
        Family(f"t-rails-{i}", scope, column, figure, rule, tuple(each))
        for i, ((scope, column, figure, rule), each) in enumerate(found.items(), start=1)
    ]


def criteria(report: Report) -> list[Criterion]:
    """Rails of the whole split one by one, each family by its worst; in the report's order."""
    whole = [Criterion(name(rail), rail) for rail in rails(report) if rail["scope"] == "overall"]
    parts = [Criterion(name(worst(each.rails), each.title), worst(each.rails), each) for each in families(report)]
    return whole + parts


def tiles(report: Report) -> list[Criterion]:
    """The drop of the overall figure, and of the family of classes that comes nearest to its limit."""
    found = criteria(report)
    whole = [each for each in found if each.of is None and each.rail["rule"] == "drop"][:1]
    parts = [each for each in found if each.of is not None and each.rail["rule"] == "drop"]
    return whole + ([next(each for each in parts if each.rail is worst([other.rail for other in parts]))] if parts else [])


def worst(found: Sequence[Rail]) -> Rail:
    """The one that decides: failed before undecided before passed, and of these the nearest to its limit."""
    return min(found, key=lambda rail: (_WORST_FIRST[rail["outcome"]], _margin(rail)))


def tally(found: Sequence[Rail]) -> str:
    """'1 fails, 2 cannot be told, 5 pass'."""
    words = {"fail": ("fails", "fail"), "inconclusive": ("cannot be told", "cannot be told"), "pass": ("passes", "pass")}
    counted = {outcome: sum(rail["outcome"] == outcome for rail in found) for outcome in words}
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
    return (wording.fraction if any(word in rail["figure"].lower() for word in _SCORES) else wording.percent)(value)


def bounds(rail: Rail) -> str:
    """'0.40 pp to 7.10 pp', 'up to 7.10 pp'; a dash where there are none."""
    low, high = (None if rail[key] is None else written(rail, rail[key]) for key in ("low", "high"))
    if low and high:
        return f"{low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else DASH


def decides(rail: Rail) -> str:
    """What would settle a rail that is not decided."""
    if rail["outcome"] != "inconclusive":
        return ""
    if rail["needed"] is None:
        return "no number of cases would, at the rates observed"
    number = f"{wording.count(rail['needed'])} {rail['unit']}"
    if "power" not in rail:  # a report of an earlier version
        return f"{number} would decide"
    if rail["power"] is None:  # no number of cases is known to decide, only the fewest that can
        return f"at least {number}"
    return f"{number} would decide with a power of 80 %; these, with {100 * rail['power']:.0f} %"


def bars(found: Sequence[Rail]) -> list[Bar | None]:
    """Each rail drawn to one scale; None where there is no value."""
    floor = bool(found) and found[0]["rule"] == "floor"
    values = [rail[key] for rail in found for key in ("value", "low", "high", "limit") if rail[key] is not None]
    ends = (min(values, default=0.0), max(values, default=1.0)) if floor else (min([0.0, *values]), max([0.001, *values]))
    room = (ends[1] - ends[0]) * 0.06 or 0.01
    low, high = ends[0] - room, ends[1] + room

    def at(value: float) -> float:
        return round((value - low) / (high - low) * 100, 3)

    def drawn(rail: Rail) -> Bar | None:
        value, zero = rail["value"], low if floor else 0.0
        if value is None:
            return None
        start, end = at(min(value, zero)), at(max(value, zero))
        bound = [None if rail[key] is None else at(rail[key]) for key in ("low", "high")]
        return Bar(start, round(max(end - start, 0.6), 3), at(zero), at(rail["limit"]), bound[0], bound[1], at(value))

    return [drawn(rail) for rail in found]


def _margin(rail: Rail) -> float:
    """How far inside its limit the worse bound lies, in points; a rail without a value comes first."""
    if rail["value"] is None:
        return float("-inf")
    floor = rail["rule"] == "floor"
    value = rail["low" if floor else "high"]
    value = rail["value"] if value is None else value
    return float(value - rail["limit"] if floor else rail["limit"] - value)
