"""Whether a model stays within its guard-rails, against the *original*, so that small drops cannot add up unseen.

`judge` gives the final verdict: it compares drops with their limits as they are. It knows a third answer, "inconclusive", for too few
cases (`optimize.guard.drop` says how many are enough).

`admit` is the search's question: is the proposal good enough to go on with? Many proposals are judged on the same cases, and the boldest
that passes looks better than it is. So a loss must stay within its limit even with the chance in it. Where nothing was lost there is
nothing to doubt, however few the cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from optimize.guard.drop import TOLERANCE, Drop, Outcome
from optimize.guard.limits import Limits, points
from optimize.guard.score import Score


@dataclass(frozen=True)
class Verdict:
    """An outcome with its reasons; true only when it is "pass"."""

    outcome: Outcome
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.outcome == "pass"


def judge(limits: Limits, before: Score, after: Score) -> Verdict:
    """The final verdict on `after`, measured on the same cases as the original's `before`."""
    drops = _drops(limits, before, after)
    failed = [str(drop) for drop in drops if drop.outcome == "fail"]
    unsure = [drop.doubt for drop in drops if drop.outcome == "inconclusive"]
    failed.extend(_missed(limits, before, after))
    if failed:
        return Verdict("fail", tuple(failed + unsure))
    if unsure:
        return Verdict("inconclusive", tuple(unsure))
    return Verdict("pass", (_summary(limits, before, after),))


def admit(limits: Limits, before: Score, after: Score) -> Verdict:
    """Whether the search may go on with `after`, measured on the same cases as `before`."""
    reasons = [
        f"{drop}, and chance alone may add {points(drop.bound - drop.fall)}"
        for drop in _drops(limits, before, after)
        if drop.fall > 0 and drop.bound > drop.limit + TOLERANCE
    ]
    for floor in after.floors(before, limits):
        if not floor.surely_held:
            reasons.append(f"{floor}, and chance alone may take {points(floor.chance)}" if floor.held else str(floor))
    return Verdict("fail", tuple(reasons)) if reasons else Verdict("pass", (_summary(limits, before, after),))


def worst_class(before: Score, after: Score) -> tuple[str, float]:
    """The class that fell most, and by how much (negative: even the worst one rose); of those that were seen at all."""
    drops = after.class_drops(before, Limits())
    falls = {name: drop.fall for name, drop in drops.items() if drop.seen} or dict.fromkeys(drops, 0.0)
    name = max(falls, key=lambda each: falls[each])
    return name, falls[name]


def _drops(limits: Limits, before: Score, after: Score) -> list[Drop]:
    return [after.drop(before, limits), *after.class_drops(before, limits).values()]


def _missed(limits: Limits, before: Score, after: Score) -> list[str]:
    return [str(floor) for floor in after.floors(before, limits) if not floor.held]


def _summary(limits: Limits, before: Score, after: Score) -> str:
    name, fall = worst_class(before, after)
    drop = after.drop(before, limits)
    overall = f"{drop.figure} {100 * after.overall:.2f} % against {100 * before.overall:.2f} %, limit {points(limits.max_drop)}"
    return f"{overall}; worst class {name} {_signed(-fall)}, limit {points(limits.max_class_drop)}"


def _signed(share: float) -> str:
    return f"{100 * share + 0.0:+.2f} pp"  # no minus before a zero
