"""Whether a model stays within its guard-rails, against the *original*, so that small drops cannot add up unseen.

`judge` gives the final verdict. It knows a third answer: with n cases one case weighs 1/n, so a drop limit L can be told from a single
unlucky case only where n >= 1/L; below that the answer is "inconclusive", with the number of cases that would do, unless the loss is so
large that a drop within the limit would hardly ever show it (exact one-sided binomial test, p < 0.05: then it fails on any n).

`admit` is the search's question: is the proposal good enough to go on with? Many proposals are judged on the same cases, and the boldest
that passes looks better than it is. So a loss must stay within its limit even with the chance in it: the upper end of the one-sided 75 %
Wilson interval (Wilson 1927) of the share of cases lost. Where nothing was lost there is nothing to doubt, however few the cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from optimize.guard.limits import Limits
from optimize.guard.score import Score

Outcome = Literal["pass", "fail", "inconclusive"]
SURE = 0.05
LIKELY = 0.75
TOLERANCE = 1e-9
"""Two drops closer than this are the same number: a drop of exactly the limit passes."""


@dataclass(frozen=True)
class Verdict:
    """An outcome with its reasons; true only when it is "pass"."""

    outcome: Outcome
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.outcome == "pass"


@dataclass(frozen=True)
class _Drop:
    """How much one share (overall accuracy, or one class's recall) fell."""

    what: str
    cases: int
    lost: int
    limit: float

    @property
    def share(self) -> float:
        return self.lost / max(1, self.cases)

    @property
    def needed(self) -> int:
        return ceil(Fraction(1) / Fraction(str(self.limit))) if self.limit else 1

    def __str__(self) -> str:
        return f"{self.what} fell by {points(self.share)} on {self.cases} cases; the limit is {points(self.limit)}"


def judge(limits: Limits, before: Score, after: Score) -> Verdict:
    """The final verdict on `after`, measured on the same cases as the original's `before`."""
    failed: list[str] = []
    unsure: list[str] = []
    for drop in _drops(limits, before, after):
        if drop.cases >= drop.needed:
            if drop.share > drop.limit + TOLERANCE:
                failed.append(str(drop))
        elif drop.lost > 0 and _shown(drop):
            failed.append(str(drop))
        else:
            unsure.append(f"{drop.what} has {drop.cases} cases; at least {drop.needed} are needed to tell a drop of {points(drop.limit)}")
    failed.extend(_low_f1(limits, after))
    if failed:
        return Verdict("fail", tuple(failed + unsure))
    if unsure:
        return Verdict("inconclusive", tuple(unsure))
    return Verdict("pass", (_summary(limits, before, after),))


def admit(limits: Limits, before: Score, after: Score) -> Verdict:
    """Whether the search may go on with `after`, measured on the same cases as `before`."""
    reasons = [
        f"{drop}, and chance alone may add {points(_bound(drop) - drop.share)}"
        for drop in _drops(limits, before, after)
        if drop.lost > 0 and _bound(drop) > drop.limit + TOLERANCE
    ]
    reasons.extend(_low_f1(limits, after))
    return Verdict("fail", tuple(reasons)) if reasons else Verdict("pass", (_summary(limits, before, after),))


def worst_class(before: Score, after: Score) -> tuple[str, float]:
    """The class whose recall fell most, and by how much (negative: even the worst one rose)."""
    old, new = before.per_class, after.per_class
    drops = {name: old[name].recall - new[name].recall for name in old if old[name].cases}
    name = max(drops, key=lambda each: drops[each])
    return name, drops[name]


def points(share: float) -> str:
    """A share as percentage points."""
    return f"{100 * share:.4g} pp"


def _drops(limits: Limits, before: Score, after: Score) -> list[_Drop]:
    drops = [_Drop("overall accuracy", before.cases, before.correct - after.correct, limits.max_drop)]
    for k, name in enumerate(before.classes):
        lost = int(before.confusion[k, k] - after.confusion[k, k])
        drops.append(_Drop(f"recall of {name}", int(before.confusion[k].sum()), lost, limits.max_class_drop))
    return drops


def _low_f1(limits: Limits, after: Score) -> list[str]:
    return [
        f"F1 of {name} is {100 * each.f1:.2f} %; the limit is {100 * limits.min_class_f1:.2f} %"
        for name, each in after.per_class.items()
        if each.cases and each.f1 < limits.min_class_f1 - TOLERANCE
    ]


def _shown(drop: _Drop) -> bool:
    from scipy.stats import binomtest

    return bool(binomtest(drop.lost, drop.cases, drop.limit, alternative="greater").pvalue < SURE)


def _bound(drop: _Drop) -> float:
    from scipy.stats import binomtest

    # the interval is two-sided: its upper end at 50 % is the one-sided one at 75 %
    interval = binomtest(drop.lost, drop.cases).proportion_ci(2 * LIKELY - 1, method="wilson")
    return max(float(interval.high), drop.share)


def _summary(limits: Limits, before: Score, after: Score) -> str:
    name, drop = worst_class(before, after)
    overall = f"overall accuracy {100 * after.accuracy:.2f} % against {100 * before.accuracy:.2f} %, limit {points(limits.max_drop)}"
    return f"{overall}; worst class {name} {_signed(-drop)}, limit {points(limits.max_class_drop)}"


def _signed(share: float) -> str:
    return f"{100 * share + 0.0:+.2f} pp"  # no minus before a zero
