"""One guard-rail: a figure, its limit, what was measured, and what follows from it.

With statistics a rail is a question of non-inferiority (ICH E9, 1998, section 3.3.2): it *passes* when the bound of the loss stays within
the limit, *fails* when the loss is shown to exceed it, and is *inconclusive* otherwise. It then says how many cases would decide with a
power of 80 % if the rates stay as they are, and with what power as many cases as there are do. A model is accepted only when every rail
passes (an intersection-union test: Berger, Technometrics 24, 1982), so the confidence of the whole is that of each and needs no
correction for their number.

Without, the measured loss is compared with the limit as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, Literal

from optimize.guard.intervals import Estimate
from optimize.guard.limits import Limits, Relative, points, stated
from optimize.guard.rails import Rule

Outcome = Literal["pass", "fail", "inconclusive"]
Scope = Literal["overall", "class", "group"]
TOLERANCE = 1e-9
"""Two drops closer than this are the same number: a drop of exactly the limit passes."""
MOST = 10_000_000
"""Cases beyond which no number is named."""
TOO_LITTLE = 0.005
"""A power below this is none, and the cases are called too few."""
POWER = 0.8
"""How likely the number of cases that is named decides."""


@dataclass(frozen=True, eq=False)
class Rail:
    """One guard-rail; all figures are fractions.

    Args:
        figure: what it is about, such as "recall".
        title: the same with its class or group, in the middle of a sentence.
        rule: what is compared with the limit: "drop" before - after, "rise" after - before, "ceiling" and "floor" the figure itself.
        limit: the most there may be; of a floor, the least.
        wording: the limit as it was set.
        before: the figure of the original; None where it has none.
        after: the figure of the artifact.
        bounded: what is compared, with what chance may have done to it.
        confidence: of either bound; None where the value is compared and not its bound.
        scope: "overall", "class" or "group".
        name: of the class, or the value of the group's column.
        column: of the group.
    """

    figure: str
    title: str
    rule: Rule
    limit: float
    wording: str
    before: float | None
    after: float
    bounded: Estimate
    confidence: float | None = None
    scope: Scope = "overall"
    name: str | None = None
    column: str | None = None

    @classmethod
    def of(
        cls,
        limits: Limits,
        rule: Rule,
        limit: float,
        figure: str,
        estimate: Estimate,
        baseline: float | None,
        candidate: float,
        *,
        scope: Scope = "overall",
        name: str | None = None,
        column: str | None = None,
    ) -> Rail:
        """A rail with the words that follow from its parts.

        Args:
            limits: all limits of the run, for the confidence of the bounds.
            rule: what is compared with the limit.
            limit: the limit as it was set; a `Relative` one is a share of `baseline`.
            figure: what is measured, such as "recall".
            estimate: what is compared with the limit, with its bounds.
            baseline: the original's figure; None where it has none.
            candidate: the candidate's figure.
            scope: whether the figure is of all cases, of a class, or of a subgroup.
            name: name of the class, or of the subgroup.
            column: column of the subgroup.
        """
        title = {"overall": figure, "class": f"{figure} of {name}", "group": f"{figure} where {column} is {name}"}[scope]
        absolute = float(limit) * baseline if isinstance(limit, Relative) and baseline is not None else float(limit)
        confidence = limits.bound_confidence
        return cls(figure, title, rule, absolute, stated(limit, rule), baseline, candidate, estimate, confidence, scope, name, column)

    @property
    def value(self) -> float:
        """What is compared with the limit."""
        return self.bounded.value

    @property
    def outcome(self) -> Outcome:
        """Whether the limit is held."""
        if not self.bounded.n:
            return "inconclusive"
        if self.confidence is None:
            return "pass" if self.held_by_value else "fail"
        if self._inside(self.bounded.low, self.bounded.high):
            return "pass"
        return "fail" if self._outside(self.bounded.low, self.bounded.high) else "inconclusive"

    @property
    def lossless(self) -> bool:
        """Whether nothing was lost on balance, so that there is nothing to doubt however few the cases."""
        if self.rule == "floor":
            return self.held_by_value and self.after >= (1.0 if self.before is None else self.before)
        return self.value <= 0

    @property
    def held_by_value(self) -> bool:
        """Whether the measured value alone is within the limit."""
        return self._inside(self.value, self.value)

    @property
    def surely_held(self) -> bool:
        """Whether the limit is held with the chance in it, whatever the verdict looks at."""
        return self._inside(self.bounded.low, self.bounded.high)

    @property
    def margin(self) -> float:
        """How far the bound is from the limit, as a fraction of what the figure measures; negative when the limit is missed."""
        return self.bounded.low - self.limit if self.rule == "floor" else self.limit - self.bounded.high

    @cached_property
    def required_n(self) -> int | None:
        """How many cases or patients decide with a power of 80 %, at these rates; None where it is decided, or no number does."""
        if self.outcome != "inconclusive":
            return None
        seen, few, many = self.bounded.n, 0.0, 1.0
        if not seen or self.bounded.odds is None:
            return self.bounded.min_n
        while self._deciding(many) < POWER:
            few, many = many, 2 * many
            if many * seen > MOST:
                return None
        while (many - few) * seen > max(0.5, 0.002 * many * seen):
            middle = (few + many) / 2
            few, many = (few, middle) if self._deciding(middle) >= POWER else (middle, many)
        return max(ceil(many * seen - TOLERANCE), self.bounded.min_n or 0)

    @cached_property
    def power(self) -> float | None:
        """How likely as many cases as there are decide, at these rates; None where it is decided, or that cannot be said."""
        known = self.outcome == "inconclusive" and self.bounded.n and self.bounded.odds is not None
        return self._deciding(1.0) if known else None

    def __str__(self) -> str:
        return f"{self._said}{self._chance}; {self._limit}"

    @property
    def doubt(self) -> str:
        """Why nothing can be told, and what would."""
        if not self.bounded.n:
            return f"there is nothing to tell {self.title} by; {self._limit}"
        unit, needed = self.bounded.unit, self.required_n
        few = f"{self._seen} cannot tell"
        if self.power is not None:
            few = f"{self._seen} decide with a power of {_percent(self.power)}" if self.power >= TOO_LITTLE else f"{self._seen} are too few"
        if self.bounded.min_n is not None:
            cure = f"at least {needed} {unit} are needed"
        elif self.bounded.odds is None:
            cure = "and how many would is not known"
        elif needed is None:
            cure = f"and no number of {unit} would, since it lies at the limit"
        else:
            cure = f"about {needed} {unit} would decide with a power of {_percent(POWER)}"
        return f"{self}; {few}, {cure}"

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        known = self.bounded.n > 0
        statistical = self.confidence is not None and known
        return {
            "scope": self.scope,
            "column": self.column,
            "name": self.name,
            "figure": self.figure,
            "title": self.title,
            "rule": self.rule,
            "stated": self.wording,
            "limit": self.limit,
            "before": self.before if known else None,
            "after": self.after if known else None,
            "value": self.value if known else None,
            "low": self.bounded.low if statistical else None,
            "high": self.bounded.high if statistical else None,
            "seen": self.bounded.n,
            "unit": self.bounded.unit,
            "method": self.bounded.method if statistical else None,
            "lost": self.bounded.lost,
            "gained": self.bounded.gained,
            "p_value": self.bounded.p_value,
            "outcome": self.outcome,
            "needed": self.required_n,
            "power": self.power,
        }

    def _inside(self, low: float, high: float) -> bool:
        return low >= self.limit - TOLERANCE if self.rule == "floor" else high <= self.limit + TOLERANCE

    def _outside(self, low: float, high: float) -> bool:
        return high < self.limit - TOLERANCE if self.rule == "floor" else low > self.limit + TOLERANCE

    def _deciding(self, times: float) -> float:
        """How likely so many times as many cases pass or fail, at these rates."""
        assert self.bounded.odds is not None
        return min(1.0, sum(self.bounded.odds(times, self.limit)))

    @property
    def _seen(self) -> str:
        count, unit = self.bounded.n, self.bounded.unit
        return f"{count} {unit.removesuffix('s') if count == 1 else unit}"

    @property
    def _said(self) -> str:
        if self.rule in ("floor", "ceiling"):
            return f"{self.title} is {100 * self.value:.2f} % on {self._seen}"
        if abs(self.value) <= TOLERANCE:
            return f"{self.title} did not change on {self._seen}"
        worse, better = ("fell", "rose") if self.rule == "drop" else ("rose", "fell")
        return f"{self.title} {worse if self.value >= 0 else better} by {points(abs(self.value))} on {self._seen}"

    @property
    def _chance(self) -> str:
        """What else the figure may be."""
        if self.confidence is None or self.bounded.min_n is not None:
            return ""
        shown, sure = self.outcome == "fail", f"at {100 * self.confidence:.4g} % confidence"
        if self.rule in ("floor", "ceiling"):
            end, word = (self.bounded.high, "most") if shown == (self.rule == "floor") else (self.bounded.low, "least")
            return f" (at {word} {100 * end:.2f} %, {sure})"
        if shown:
            return f" (a {self.rule} of {points(self.bounded.low)} at the least, {sure})"
        return f" (a {self.rule} of {points(max(0.0, self.bounded.high))} cannot be ruled out, {sure})"

    @property
    def _limit(self) -> str:
        return f"the limit is {self.wording}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
