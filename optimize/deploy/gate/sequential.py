"""The sequential decision: pass, fail, or measure another pair, from the confidence sequence of a ratio.

The data are log ratios d_1, d_2, …, one for each pair of fresh processes. Their median θ is what is decided on. For any value c the
signs of d_i - c are coins: when θ <= c, at most every second one shows d_i > c. Bet on them with an unknown share p of heads, uniform
between 1/2 and 1 (Robbins 1970, method of mixtures):

    W(s, n) = 2 * integral over p from 1/2 to 1 of (2 p)^s (2 (1 - p))^(n - s)         s of n pairs lie above c

W starts at 1 and is a supermartingale when θ <= c, so the chance that it *ever* reaches 1/α is at most α (Ville 1939). Hence "θ <= c"
is rejected as soon as W >= 1/α, whenever one looks, and nothing is assumed of the distribution: heavy tails do no harm. All values c
that are not rejected are the confidence sequence. Its bounds are order statistics: with r(n) the fewest of n heads that reach 1/α, the
lower bound after n pairs is the r(n)-th largest of them.

    n = 10, all above c:   W = 2 * 2^10 * (1 - 2^-11) / 11 = 186          α = 0.01: r(10) = 10, the lower bound is the smallest of ten

S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification", Bernoulli 2022.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal

from optimize.errors import InputError

Outcome = Literal["pass", "fail", "inconclusive"]
ALPHA = 0.005
"""Chance of each bound to be ever wrong: of "fail" for a candidate within half the limit, of "pass" for one beyond the limit."""


@dataclass(frozen=True)
class Decision:
    """What the pairs so far decide.

    Args:
        outcome: "pass", "fail", or "inconclusive" as long as neither is decided.
        ratio: median of candidate over baseline.
        low: lower bound of the ratio; 0 where there is none yet.
        high: upper bound of the ratio; infinite where there is none yet.
        n: number of pairs.
    """

    outcome: Outcome
    ratio: float
    low: float
    high: float
    n: int


def decide(log_ratios: Sequence[float], *, max_slowdown: float = 0.05, alpha: float = ALPHA) -> Decision:
    """Decide from the log ratios of all pairs so far, in the order they were taken.

    Passes when the upper bound lies below `1 + max_slowdown`; fails when the lower bound lies above `1 + max_slowdown / 2`.

    Args:
        log_ratios: log of candidate over baseline, one for each pair of processes.
        max_slowdown: largest share by which the candidate may be slower.
        alpha: chance of each bound to be ever wrong.

    Raises:
        InputError: when a setting is out of its range.

    Examples:
        >>> decide([0.001, -0.002] * 6).outcome, decide([0.05, 0.052] * 6).outcome, decide([0.03] * 5).outcome
        ('pass', 'fail', 'inconclusive')
    """
    if not max_slowdown > 0:
        raise InputError(f"`max_slowdown` (={max_slowdown}) must be above 0: pass 0.05 for 5 %.")
    low, high = bounds(log_ratios, alpha)
    limit, half = math.log1p(max_slowdown), math.log1p(max_slowdown / 2)
    center = median(log_ratios) if log_ratios else 0.0
    outcome: Outcome = "inconclusive"
    if high < limit or low > half:
        # Both at once can only come between half the limit and the limit, where both answers are right: the nearer one is given.
        nearer_half = center < (limit + half) / 2
        outcome = "pass" if high < limit and (nearer_half or low <= half) else "fail"
    return Decision(outcome, math.exp(center), math.exp(low), math.exp(high), len(log_ratios))


def bounds(log_ratios: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """Return the confidence sequence of the median after the last value: the best bounds up to then; infinite where there are none."""
    low, high = -math.inf, math.inf
    ordered: list[float] = []
    for value in log_ratios:
        bisect.insort(ordered, value)
        required = required_heads(len(ordered), alpha)
        if required is not None:
            low, high = max(low, ordered[-required]), min(high, ordered[required - 1])
    return low, high


@cache
def required_heads(n: int, alpha: float = ALPHA) -> int | None:
    """Return the fewest of n heads whose wealth reaches 1/alpha; None where not even n do.

    Examples:
        >>> required_heads(8, 0.01), required_heads(9, 0.01), required_heads(20, 0.01)
        (None, 9, 18)
    """
    reached = [heads for heads in range(n + 1) if wealth(heads, n) >= 1 / alpha]
    return min(reached, default=None)


def wealth(heads: int, n: int) -> float:
    """Return what a stake of 1 has become after so many heads of n, bet with a share of heads that is uniform between 1/2 and 1.

    Examples:
        >>> wealth(0, 0), round(wealth(10, 10), 1)
        (1.0, 186.1)
    """
    from scipy.special import betaincc, betaln

    tails = n - heads
    log_whole = (n + 1) * math.log(2) + float(betaln(heads + 1, tails + 1))
    return math.exp(log_whole) * float(betaincc(heads + 1, tails + 1, 0.5))
