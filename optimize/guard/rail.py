"""One judged guard-rail: a figure, its limit, the measured value with its bounds, and the outcome.

A statistical verdict asks for non-inferiority (ICH E9, 1998, section 3.3.2). A rail *passes* when the bound of the loss stays within the
limit. It *fails* when the loss is shown to exceed the limit. Otherwise it is *inconclusive*: then it names the number of cases that would
decide with a power of 80 %, if the rates stay as they are, and the power of the present number.

Example: 2 of 150 cases of a class are lost, 1.3 pp, and the limit is 6 pp. The upper bound at 95 % confidence is 4.2 pp: it passes. With 6
cases lost (4 pp) the bounds are 1.6 and 7.8 pp, and the limit lies between them: inconclusive. With 17 lost (11.3 pp) the lower bound is
7.3 pp: it fails.

A model is accepted only when every rail passes (an intersection-union test: Berger, Technometrics 24, 1982). So the confidence of the whole
is that of each rail, and needs no correction for their number.

A verdict by points compares the measured loss with the limit, and has no bounds.
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
MAX_REQUIRED_N = 10_000_000
"""Largest required number of cases that is named; beyond it, no number is."""
MIN_POWER = 0.005
"""Power below which the reason says that the cases are too few, in place of a power of 0 %."""
POWER = 0.8
"""Power with which the required number of cases decides."""


@dataclass(frozen=True, eq=False)
class Rail:
    """One guard-rail; all figures are fractions.

    Args:
        figure: name of the figure, such as "recall".
        title: the figure with its class or subgroup, in the middle of a sentence, such as "recall of basophil".
        rule: what is compared with the limit: "drop" is baseline - candidate, "rise" is candidate - baseline, and "ceiling" and "floor" are
            the candidate's figure itself.
        limit: largest value that passes; of a floor, the smallest.
        wording: the limit as it was set, in words.
        baseline: the figure of the original; None where it has none.
        candidate: the figure of the model that is judged.
        estimate: what is compared with the limit, with its bounds.
        confidence: confidence of each bound; None where the measured value is compared and not its bound.
        scope: "overall", "class" or "group".
        name: name of the class, or the subgroup's value of its column.
        column: column of the subgroup.
    """

    figure: str
    title: str
    rule: Rule
    limit: float
    wording: str
    baseline: float | None
    candidate: float
    estimate: Estimate
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
        # "2%" of a baseline of 0.90 is a limit of 0.018, in the unit of the drop.
        absolute = float(limit) * baseline if isinstance(limit, Relative) and baseline is not None else float(limit)
        confidence = limits.bound_confidence
        return cls(figure, title, rule, absolute, stated(limit, rule), baseline, candidate, estimate, confidence, scope, name, column)

    @property
    def value(self) -> float:
        """What is compared with the limit."""
        return self.estimate.value

    @property
    def outcome(self) -> Outcome:
        """Whether the limit is held."""
        # No case shows neither that the limit holds nor that it is broken.
        if not self.estimate.n:
            return "inconclusive"
        if self.confidence is None:
            return "pass" if self.held_by_value else "fail"
        # Only the bound on the bad side has to be within the limit: for a floor the lower one, else the upper one.
        if self._inside(self.estimate.low, self.estimate.high):
            return "pass"
        return "fail" if self._outside(self.estimate.low, self.estimate.high) else "inconclusive"

    @property
    def lossless(self) -> bool:
        """Whether the figure did not fall; the search then needs no bound, however few the cases."""
        # A figure at its floor that did not fall has lost nothing; without a baseline only a perfect figure has surely lost nothing.
        if self.rule == "floor":
            return self.held_by_value and self.candidate >= (1.0 if self.baseline is None else self.baseline)
        return self.value <= 0

    @property
    def held_by_value(self) -> bool:
        """Whether the measured value alone is within the limit."""
        return self._inside(self.value, self.value)

    @property
    def surely_held(self) -> bool:
        """Whether the bounds are within the limit, also where the verdict compares measured values."""
        return self._inside(self.estimate.low, self.estimate.high)

    @property
    def margin(self) -> float:
        """How far the bound is from the limit, as a fraction of what the figure measures; negative when the limit is missed."""
        return self.estimate.low - self.limit if self.rule == "floor" else self.limit - self.estimate.high

    @cached_property
    def required_n(self) -> int | None:
        """Number of cases or patients that decide with a power of 80 %, at these rates; None if it is decided, or if no number does."""
        if self.outcome != "inconclusive":
            return None
        # `few` and `many` are multiples of the present number of cases; `few` is known not to be enough.
        n, few, many = self.estimate.n, 0.0, 1.0
        if not n or self.estimate.odds is None:
            return self.estimate.min_n
        # Doubling brackets the number, then bisection finds it to 0.2 %. The power grows with the cases, but for small steps of whole
        # numbers.
        while self._deciding(many) < POWER:
            few, many = many, 2 * many
            if many * n > MAX_REQUIRED_N:
                return None
        while (many - few) * n > max(0.5, 0.002 * many * n):
            middle = (few + many) / 2
            few, many = (few, middle) if self._deciding(middle) >= POWER else (middle, many)
        # Without the tolerance, 150.0000000001 cases would be rounded up to 151.
        return max(ceil(many * n - TOLERANCE), self.estimate.min_n or 0)

    @cached_property
    def power(self) -> float | None:
        """Chance that a new sample of the same size decides, at these rates; None if it is decided, or if the chance is not known."""
        known = self.outcome == "inconclusive" and self.estimate.n and self.estimate.odds is not None
        return self._deciding(1.0) if known else None

    def __str__(self) -> str:
        return f"{self._said}{self._chance}; {self._limit}"

    @property
    def doubt(self) -> str:
        """Why the rail is not decided, and how many cases would decide it, in words."""
        if not self.estimate.n:
            return f"{self.title} could not be measured: the split has no such case; {self._limit}"
        if self.power is None:
            few = f"{self._sample_size} {'does' if self.estimate.n == 1 else 'do'} not decide this"
        # Below half a percent the power would be shown as "0 %", which reads like an error.
        elif self.power < MIN_POWER:
            few = f"{self._sample_size} {'is' if self.estimate.n == 1 else 'are'} too few"
        else:
            few = f"with {self._sample_size} the chance of a decision is {_percent(self.power)}"
        return f"{self}; {few}; {self._cure}"

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        # A figure without cases is null in the report, and not 0, which would read as a measured value.
        known = self.estimate.n > 0
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
            "before": self.baseline if known else None,
            "after": self.candidate if known else None,
            "value": self.value if known else None,
            "low": self.estimate.low if statistical else None,
            "high": self.estimate.high if statistical else None,
            "seen": self.estimate.n,
            "unit": self.estimate.unit,
            "method": self.estimate.method if statistical else None,
            "lost": self.estimate.lost,
            "gained": self.estimate.gained,
            "p_value": self.estimate.p_value,
            "outcome": self.outcome,
            "needed": self.required_n,
            "power": self.power,
        }

    def _inside(self, low: float, high: float) -> bool:
        return low >= self.limit - TOLERANCE if self.rule == "floor" else high <= self.limit + TOLERANCE

    def _outside(self, low: float, high: float) -> bool:
        return high < self.limit - TOLERANCE if self.rule == "floor" else low > self.limit + TOLERANCE

    def _deciding(self, times: float) -> float:
        """Chance that `times` as many cases decide the rail, pass or fail, at the measured rates."""
        assert self.estimate.odds is not None
        # Passing and failing exclude each other, so their chances add up.
        return min(1.0, sum(self.estimate.odds(times, self.limit)))

    @property
    def _sample_size(self) -> str:
        count, unit = self.estimate.n, self.estimate.unit
        return f"{count} {unit.removesuffix('s') if count == 1 else unit}"

    @property
    def _cure(self) -> str:
        """How many cases would decide, in words."""
        unit, required_n = self.estimate.unit, self.required_n
        # Four answers: the least number that has bounds, none that is known, none at all, and the number that would decide.
        if self.estimate.min_n is not None:
            return f"at least {required_n} {unit} are needed"
        if self.estimate.odds is None:
            return "the number that would is not known"
        if required_n is None:
            return f"no number of {unit} would decide, because the measured value is at the limit"
        if self.power is None or self.power < MIN_POWER:
            return f"about {required_n} {unit} would give a chance of {_percent(POWER)} for a decision"
        return f"about {required_n} {unit} would raise it to {_percent(POWER)}"

    @property
    def _said(self) -> str:
        if self.rule in ("floor", "ceiling"):
            return f"{self.title} is {100 * self.value:.2f} % on {self._sample_size}"
        # "Fell by 0 pp" would be true and misleading.
        if abs(self.value) <= TOLERANCE:
            return f"{self.title} did not change on {self._sample_size}"
        worse, better = ("fell", "rose") if self.rule == "drop" else ("rose", "fell")
        return f"{self.title} {worse if self.value >= 0 else better} by {points(abs(self.value))} on {self._sample_size}"

    @property
    def _chance(self) -> str:
        """The bound that decided, in words: what chance may add to the measured value."""
        if self.confidence is None or self.estimate.min_n is not None:
            return ""
        # A failed rail shows the bound on the side of the pass, which is the less bad one: even that misses the limit. All others show the
        # bound on the bad side, which had to stay within the limit.
        shown, confidence = self.outcome == "fail", f"at {100 * self.confidence:.4g} % confidence"
        if self.rule in ("floor", "ceiling"):
            end, word = (self.estimate.high, "most") if shown == (self.rule == "floor") else (self.estimate.low, "least")
            return f" (at {word} {100 * end:.2f} %, {confidence})"
        if shown:
            return f" (a {self.rule} of {points(self.estimate.low)} at the least, {confidence})"
        return f" (a {self.rule} of {points(max(0.0, self.estimate.high))} cannot be ruled out, {confidence})"

    @property
    def _limit(self) -> str:
        return f"the limit is {self.wording}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
