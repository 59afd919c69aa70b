"""Whether a model stays within its guard-rails, against the *original*, so that small drops cannot add up unseen.

`judge` gives the final verdict: accepted only when every rail passes, rejected when one fails, and otherwise "inconclusive"
(`optimize.guard.rail` says what a rail asks).

A search asks for more: that the final verdict will probably be "pass" (`optimize.guard.acceptance_rule`). Where no size of a test split is
known, or where it can accept nothing, `accept_proposal` answers instead: is a proposal good enough to go on with? Many proposals are judged
on the same cases, and the boldest one that passes looks better than it is. So the bound of each loss must stay within its limit, at the
confidence that `search_confidence` gives. The bounds are the usual large-sample intervals: what a guard of ten patients cannot exclude is
left to the final verdict. A rail that lost nothing passes, however few its cases. Where the final verdict will compare measured values, the
bounds of a class also use the cases of the other classes (`optimize.guard.pooling`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist

from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import POWER, Limits, points
from optimize.guard.pooling import pooled
from optimize.guard.rail import Outcome, Rail
from optimize.guard.score import Score

SEARCH_CONFIDENCE, MAX_CONFIDENCE = 0.9, 0.9999


@dataclass(frozen=True)
class Verdict:
    """An outcome with its reasons; true only when it is "pass".

    Args:
        outcome: outcome of all rails together.
        reasons: the rails that decided, in words.
        rails: every judged rail; empty where none was judged.
        chance: chance that the final verdict will be "pass", as the guard split shows it; None where it was not asked for.

    Example:
        >>> bool(Verdict("pass", ("all limits hold",))), bool(Verdict("inconclusive", ("12 cases are too few",)))
        (True, False)
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    rails: tuple[Rail, ...] = ()
    chance: float | None = None

    def __bool__(self) -> bool:
        return self.outcome == "pass"


def judge(limits: Limits, baseline: Score, candidate: Score) -> Verdict:
    """The final verdict on a candidate: "pass" when every guard-rail holds, "fail" when one does not, else "inconclusive".

    Args:
        limits: the guard-rails.
        baseline: score of the original, see `evaluate`.
        candidate: score of the candidate on the same cases in the same order.

    Example:
        >>> import numpy as np
        >>> from optimize.data.dataset import Preprocessing, Split
        >>> from optimize.guard.evaluate import evaluate
        >>> labels = np.arange(200) % 2
        >>> split = Split("test", np.eye(2, dtype=np.float32)[labels], labels, Preprocessing())
        >>> exact, inverted = (evaluate(lambda inputs, sign=sign: sign * inputs, split) for sign in (1, -1))
        >>> judge(Limits(), exact, exact).outcome, judge(Limits(), exact, inverted).outcome
        ('pass', 'fail')
    """
    rails = tuple(judged_rails(limits, baseline, candidate))
    failed = [str(rail) for rail in rails if rail.outcome == "fail"]
    undecided = [rail.doubt for rail in rails if rail.outcome == "inconclusive"]
    # A failed rail decides by itself. The undecided ones are still named, so that a reader sees all that more cases would have to settle.
    if failed or undecided:
        return Verdict("fail" if failed else "inconclusive", tuple([*failed, *undecided]), rails)
    return Verdict("pass", (summary(rails),), rails)


def accept_proposal(limits: Limits, baseline: Score, candidate: Score, confidence: float = SEARCH_CONFIDENCE) -> Verdict:
    """Whether the search may go on with `candidate`, measured on the same cases as `baseline`.

    Args:
        limits: the limits of the run.
        baseline: the original's score.
        candidate: the proposal's score.
        confidence: confidence of the bounds that must lie within the limits.
    """
    judged = judged_rails(replace(limits, confidence=confidence), baseline, candidate)
    # Many proposals are judged, so the bounds must be quick, and narrow enough that a small guard split lets anything pass at all.
    rails = tuple(replace(rail, estimate=rail.estimate.for_search) for rail in judged)
    # A verdict by points asks nothing of small classes but their measured values: there the search may use cases of other classes.
    if limits.verdict == "point":
        rails = pooled(rails, confidence)
    reasons = tuple(reason_of_refusal(rail) for rail in rails if not (rail.lossless or rail.surely_held))
    if reasons:
        return Verdict("fail", reasons, rails)
    undecided = sum(not rail.surely_held for rail in rails)
    # The reader of the log must not take "passed" for "shown": with 10 cases and no loss the limit is not shown to hold.
    has, limits_hold = ("has", "its limit holds") if undecided == 1 else ("have", "their limits hold")
    few = f"; {undecided} of {len(rails)} guard-rails lost nothing, but {has} too few cases to show that {limits_hold}"
    return Verdict("pass", (summary(rails) + (few if undecided else ""),), rails)


def search_confidence(limits: Limits, guard: int, test: int, power: float = POWER) -> float:
    """The confidence that the search asks for.

    What passes on the guard must pass anew on other cases, so the guard's bound holds the chance of both, with the asked power:
    z = z_c s + z_p sqrt(1 + s^2), where s^2 is the guard's cases over the test's, and z_c and z_p are the points of the normal distribution
    at the verdict's confidence and the power (the usual calculation of a sample's size, turned round). Where the verdict compares measured
    values, z_c is 0, and 90 % the least.

    Args:
        limits: the guard-rails.
        guard: how many cases or patients the guard has.
        test: how many the test split has.
        power: the chance that is asked for.
    """
    normal, ratio = NormalDist(), guard / max(1, test)
    # Guard and test of 1,000 cases each at 95 % and a power of 90 %: z = 1.64 + 1.28 * 1.41 = 3.46. By points z is 1.81: 96 %.
    reserve = normal.inv_cdf(power) * sqrt(1 + ratio)
    if limits.verdict == "point":
        return min(MAX_CONFIDENCE, max(SEARCH_CONFIDENCE, normal.cdf(reserve)))
    # A guard much larger than the test would ask for 100 %, which no bound gives.
    return min(MAX_CONFIDENCE, normal.cdf(normal.inv_cdf(limits.confidence) * sqrt(ratio) + reserve))


def worst_class(baseline: Score, candidate: Score) -> tuple[str, float]:
    """The class whose figure fell most, and by how much (negative: even the worst one rose); of those that were seen at all."""
    old, new = baseline.figures, candidate.figures
    # A class that one model has no figure for cannot have fallen. Without any class, 0 is given for all, so that there is a worst one.
    drops = {name: old[name] - new[name] for name in old if name in new} or dict.fromkeys(baseline.classes, 0.0)
    name = max(drops, key=lambda class_name: drops[class_name])
    return name, drops[name]


def reason_of_refusal(rail: Rail) -> str:
    """Why the search does not go on: the loss, and how much larger the true loss may be."""
    # Without a confidence the rail prints its measured value alone; the distance to the bound follows in the search's own words.
    plain = str(replace(rail, confidence=None))
    if not rail.held_by_value:
        return plain
    if rail.rule == "floor":
        return f"{plain}; the true value may be {points(rail.value - rail.estimate.low)} lower by chance"
    true = "the true loss may be {} larger" if rail.rule == "drop" else "the true value may be {} higher"
    return f"{plain}; {true.format(points(rail.estimate.high - rail.value))} by chance"


def summary(rails: tuple[Rail, ...]) -> str:
    """What was measured, in a line."""
    first = rails[0]
    worst = max((rail for rail in rails if rail.scope == "class" and rail.rule == "drop" and rail.estimate.n), key=_value, default=None)
    most, confidence = points(max(0.0, first.estimate.high)), first.confidence
    bound = "" if confidence is None else f" (the {_word(first)} is at most {most}, with {100 * confidence:.4g} % confidence)"
    overall = f"{first.title} {100 * first.candidate:.2f} % against {100 * (first.baseline or 0.0):.2f} %{bound}, limit {first.wording}"
    if worst is None:
        return overall
    return f"{overall}; {worst.figure} of the worst class {worst.name} {_signed(-worst.value)}, limit {worst.wording}"


def _word(rail: Rail) -> str:
    return rail.rule if rail.rule in ("drop", "rise") else "value"


def _value(rail: Rail) -> float:
    return rail.value


def _signed(share: float) -> str:
    return f"{100 * share + 0.0:+.2f} pp".replace("-", "−")  # no minus before a zero
