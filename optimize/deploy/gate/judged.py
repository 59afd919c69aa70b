"""One judged figure of a comparison: both values, the change with its interval, the limit and the outcome.

A change is positive where the candidate is worse: larger, slower, less accurate. So one rule holds for every criterion:

    limit 5 %, interval −1 to 3 %     pass: the whole interval is within the limit
    limit 5 %, interval 6 to 9 %      fail: the whole interval is beyond the limit
    limit 5 %, interval 3 to 9 %      inconclusive: the limit lies inside
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["pass", "fail", "inconclusive", "not judged"]
Rule = Literal["growth", "drop"]
TOLERANCE = 1e-9
"""Two changes closer than this are the same number: a growth of exactly the limit passes."""


@dataclass(frozen=True)
class Judged:
    """One judged figure.

    Args:
        criterion: name of the limit, such as "max_slowdown".
        name: what was measured, such as "latency, batch 1"; no two figures of one comparison have the same.
        unit: unit of both values: "ms", "s", "bytes", "MACs" or "share".
        rule: whether `change` is a growth, as a share of the baseline's value, or a drop, as a difference of two shares.
        baseline: value of the baseline; None where it is not known.
        candidate: value of the candidate; None where it is not known.
        change: how much worse the candidate is; negative where it is better, None where that is not known.
        low: lower end of the interval of the change; None where there is no interval.
        high: upper end of the interval of the change; None where there is no interval.
        limit: largest change that passes; None where no limit was asked for.
        outcome: "pass", "fail", "inconclusive", or "not judged" where there is no limit.
        reason: the outcome in a sentence, with what would decide it.
        n: number of repetitions behind each value.
        samples: what was measured, one entry for each repetition; empty where a figure is counted.
    """

    criterion: str
    name: str
    unit: str
    rule: Rule
    baseline: float | None
    candidate: float | None
    change: float | None
    low: float | None
    high: float | None
    limit: float | None
    outcome: Outcome
    reason: str
    n: int = 1
    samples: Sequence[Any] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows."""
        return {**asdict(self), "samples": list(self.samples)}

    def as_summary(self) -> dict[str, Any]:
        """Return the form that a history keeps: without the samples and the sentence."""
        return {name: value for name, value in self.as_dict().items() if name not in ("samples", "reason")}


def outcome_of(low: float, high: float, limit: float | None) -> Outcome:
    """Return what an interval of a change says about a limit.

    >>> [outcome_of(low, high, 0.05) for low, high in ((-0.01, 0.03), (0.06, 0.09), (0.03, 0.09))]
    ['pass', 'fail', 'inconclusive']
    """
    if limit is None:
        return "not judged"
    if high <= limit + TOLERANCE:
        return "pass"
    return "fail" if low > limit + TOLERANCE else "inconclusive"


def whole_outcome(judged: Sequence[Judged]) -> Outcome:
    """Return the outcome of all figures together: "fail" where one fails, else "inconclusive" where one is, else "pass"."""
    outcomes = {figure.outcome for figure in judged}
    return "fail" if "fail" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"


def unknown(criterion: str, name: str, unit: str, rule: Rule, limit: float | None, why: str, **values: float | None) -> Judged:
    """Return a figure that could not be compared: inconclusive where a limit was asked for.

    Args:
        criterion: name of the limit.
        name: what was to be measured.
        unit: unit of both values.
        rule: whether the change is a growth or a drop.
        limit: the limit; None where none was asked for.
        why: why it could not be compared, and what to do.
        values: `baseline` or `candidate`, where that one is known.
    """
    sides = values.get("baseline"), values.get("candidate")
    return Judged(criterion, name, unit, rule, *sides, None, None, None, limit, "not judged" if limit is None else "inconclusive", why, 0)


def change_in_words(change: float, rule: Rule) -> str:
    """Return a change with its sign and unit.

    >>> change_in_words(0.0423, "growth"), change_in_words(-0.005, "drop")
    ('+4.23 %', '−0.5 pp')
    """
    size = f"{100 * abs(change):.3g} {'%' if rule == 'growth' else 'pp'}"
    # a change that rounds to nothing has no sign
    return size if float(f"{100 * change:.3g}") == 0 else f"{'+' if change > 0 else '−'}{size}"


def limit_in_words(limit: float, rule: Rule) -> str:
    """Return a limit with its unit.

    >>> limit_in_words(0.05, "growth"), limit_in_words(0.01, "drop")
    ('5 %', '1 pp')
    """
    return f"{100 * limit:.6g} {'%' if rule == 'growth' else 'pp'}"
