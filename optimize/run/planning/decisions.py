"""Which limits a split can decide at all, with the number of cases that each needs.

Only labels, patients and subgroups are counted; no model runs. The best possible result is judged: a candidate without any error, against
an original without any error. A rail that is open even then stays open whatever is compressed.

Example: 20 test cases of a class and a limit of 6 pp. Where none of n cases is lost, the upper bound of the drop at 95 % confidence is
1 - .049^(1/n) (`guard/exact.py` takes a fiftieth off 5 %): 14.0 pp for 20 cases. It is within 6 pp from n = log(.049) / log(.94) = 48.7 on,
so 49 cases are needed, and 29 have to be added.

That number is the least that can decide. A candidate that loses a case needs more, so a rail of a share also says how many of the present
cases may be lost: 6 of 200 at this limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from optimize.data.dataset import Split
from optimize.guard.intervals import DIFFERENCE, drop_of_share
from optimize.guard.limits import Limits
from optimize.guard.rail import MAX_REQUIRED_N, POWER, TOLERANCE, Rail
from optimize.run.decisive import best_possible_rails

ONE_CASE = 1
_SHARES = ("overall", "accuracy", "recall")
"""First words of the figures that are shares of cases."""


@dataclass(frozen=True)
class Decision:
    """One guard-rail on one split: the cases that there are, and the cases that a decision needs.

    Args:
        split: "guard" or "test".
        title: the figure with its class or subgroup, such as "recall of basophil".
        scope: "overall", "class" or "group".
        column: column of the subgroup; None for other scopes.
        name: name of the class or of the subgroup; None for the overall figure.
        limit: the limit in words, such as "6 pp".
        n: number of cases or patients of this rail.
        unit: "cases" or "patients".
        required_n: smallest number that can decide, where nothing is lost; None where it is not known.
        decidable: whether the present number can decide.
        may_lose: largest number of cases that may be lost without a gain elsewhere; None where it is not known, or nothing is decidable.
    """

    split: str
    title: str
    scope: str
    column: str | None
    name: str | None
    limit: str
    n: int
    unit: str
    required_n: int | None
    decidable: bool
    may_lose: int | None

    @property
    def missing(self) -> int | None:
        """Number of cases or patients that have to be added; 0 where none, None where it is not known."""
        if self.decidable:
            return 0
        return None if self.required_n is None else max(1, self.required_n - self.n)

    @property
    def remedy(self) -> str | None:
        """What has to be added, in words; None where nothing has."""
        if self.decidable:
            return None
        whose = {"overall": "", "class": f" of {self.name}", "group": f" where {self.column} is {self.name}"}[self.scope]
        if self.missing is None:
            return f"add {self.split} {self.unit}{whose}; how many is not known"
        unit = self.unit.removesuffix("s") if self.missing == 1 else self.unit
        return f"add {self.missing} {self.split} {unit}{whose}"

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as plain JSON."""
        return {
            **{name: getattr(self, name) for name in ("split", "title", "scope", "column", "name", "limit", "unit", "decidable")},
            "cases": self.n,
            "needed": self.required_n,
            "missing": self.missing,
            "may_lose": self.may_lose,
            "remedy": self.remedy,
        }


def decisions(split: Split, classes: Sequence[str], limits: Limits, *, in_search: bool = False) -> tuple[Decision, ...]:
    """Return what a split can decide, one entry for each guard-rail.

    Args:
        split: the split whose size is in question; only its labels, patients and subgroups are read.
        classes: names of the labels.
        limits: the guard-rails, at the confidence that counts for this split.
        in_search: whether the split decides by the bounds of the search, which are narrower than those of the verdict.

    Example:
        >>> from optimize.data.dataset import Preprocessing
        >>> labels = np.repeat([0, 1], [200, 20])
        >>> split = Split("test", np.zeros((220, 2, 2), np.uint8), labels, Preprocessing())
        >>> for decision in decisions(split, ("healthy", "ill"), Limits(max_drop=0.02, max_class_drop=0.06)):
        ...     print(decision.title, decision.n, decision.required_n, decision.decidable, decision.may_lose)
        overall accuracy 220 150 True 0
        recall of healthy 200 49 True 6
        recall of ill 20 49 False None
    """
    rails = best_possible_rails(split, classes, limits)
    made = tuple(_decision(split.name, rail, in_search=in_search) for rail in rails)
    # a class without a case has no bounds of its own: it needs what its neighbours under the same limit need
    known = {
        (decision.scope, decision.limit, decision.unit): decision.required_n
        for decision in made
        if decision.required_n is not None and decision.n
    }
    return tuple(
        replace(decision, required_n=known.get((decision.scope, decision.limit, decision.unit))) if not decision.n else decision
        for decision in made
    )


def smallest_limit(decision: Decision, confidence: float) -> float | None:
    """Return the smallest drop that the present cases of a rail can decide, in 0..1; None where that is not known.

    Args:
        decision: a rail of a share of cases.
        confidence: confidence of its bound.
    """
    known = decision.n and decision.required_n is not None and decision.unit == "cases" and decision.title.split(" ")[0] in _SHARES
    return math.ceil(1000 * _upper_bound(0, decision.n, confidence, in_search=False)) / 1000 if known else None


def _decision(split: str, rail: Rail, *, in_search: bool) -> Decision:
    estimate = rail.estimate.for_search if in_search else rail.estimate
    judged = replace(rail, estimate=estimate)
    decidable = bool(estimate.n) and (rail.confidence is None or judged.surely_held if in_search else judged.outcome != "inconclusive")
    share = estimate.method.startswith(DIFFERENCE) and rail.rule == "drop" and estimate.independent and rail.confidence is not None
    may_lose, required_n = None, None
    if share and estimate.n:
        end = cache(lambda lost, n: _upper_bound(lost, n, rail.confidence, in_search=in_search))
        required_n = _smallest(lambda n: end(0, n) <= rail.limit + TOLERANCE)
        if decidable:
            may_lose = _largest(lambda lost: end(lost, estimate.n) <= rail.limit + TOLERANCE, estimate.n)
    elif not in_search:
        required_n = _required_n(rail)
    words = rail.title, rail.scope, rail.column, rail.name, rail.wording
    return Decision(split, *words, estimate.n, estimate.unit, required_n, decidable, may_lose)


def _upper_bound(lost: int, n: int, confidence: float | None, *, in_search: bool) -> float:
    """Return the upper bound of the drop where `lost` of `n` cases are lost and none is gained."""
    baseline = np.ones(n, bool)
    estimate = drop_of_share(baseline, np.arange(n) >= lost, confidence or 0.5)
    return estimate.for_search.high if in_search else estimate.high


def _required_n(rail: Rail) -> int | None:
    """Return the smallest number of cases with which the rail is decided at these rates; None where that is not known."""
    odds, n = rail.estimate.odds, rail.estimate.n
    if rail.confidence is None:
        return ONE_CASE  # measured values are compared, and one case has a value
    if odds is None or not n:
        return rail.estimate.min_n
    fewest = _smallest(lambda count: sum(odds(count / n, rail.limit)) >= POWER)
    return None if fewest is None else max(fewest, rail.estimate.min_n or 0)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """Return the smallest whole number, from 1, for which a condition holds that holds for all larger ones; None where none is found."""
    few, many = 0, 1
    while not holds(many):
        few, many = many, 2 * many
        if many > MAX_REQUIRED_N:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if holds(middle) else (middle, many)
    return many


def _largest(holds: Callable[[int], bool], highest: int) -> int:
    """Return the largest whole number, from 0, for which a condition holds that holds for all smaller ones."""
    low, step = 0, 1
    while low + step <= highest and holds(low + step):
        low, step = low + step, 2 * step
    while step > 1:
        step //= 2
        if low + step <= highest and holds(low + step):
            low += step
    return low
