"""What a test split can accept at all: the largest true loss with which a rail still passes with the power that is asked for.

Only the sizes of the test split are used; no image and no answer is read. A rail passes when the verdict's bound of the measured loss stays
within the limit, and the measured loss varies by chance. So a candidate must truly lose less than the limit, and the fewer cases there are,
the less.

Cases also change for the better. It is assumed that `GAINED` of all cases are gained, and that so many more are lost than the net loss. A
rail with few cases may not even allow that: then it passes only where nearly nothing changes.

Example: 122 cases of a class, a limit of 6 pp, 95 % confidence, a power of 90 %. Up to 2 lost cases pass where none is gained. With a true
loss of 0.6 pp this happens in nine of ten test splits, so that much may be lost, of the 6 pp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, prod
from typing import Any

import numpy as np
from scipy.special import bdtr, gammaln, ndtr, xlog1py, xlogy

from optimize.guard.intervals import MIN_ALPHA, quantile
from optimize.guard.limits import Limits
from optimize.guard.passing_counts import passing_counts
from optimize.guard.rail import Rail

GAINED = 0.005
"""Share of the cases that is assumed to be gained."""
PRECISION = 1e-5
MAX_SEARCHED_N = 20_000
"""Largest number of cases that is tried when the required number is sought."""


@dataclass(frozen=True, eq=False)
class LargestLoss:
    """What one rail of the test split can accept.

    Args:
        rail: the rail of a perfect candidate on the test split.
        loss: the largest true loss that passes with the power, as a fraction; None where none does, or where it is not known.
        most_lost: largest number of lost cases that passes where none is gained; None where it is not known, -1 where none passes.
        known: whether the figure is a share of cases, for which all this can be computed before a run.
        required_n: number of cases with which no net loss passes with the power; None where they are enough, or where it is not known.
    """

    rail: Rail
    loss: float | None
    most_lost: int | None
    known: bool
    required_n: int | None

    @property
    def nearly_no_change(self) -> bool:
        """Whether the rail passes with the power only where nearly nothing changes."""
        return self.known and self.loss is None

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        rail = self.rail
        return {
            "title": rail.title,
            "scope": rail.scope,
            "column": rail.column,
            "name": rail.name,
            "stated": rail.wording,
            "cases": rail.estimate.n,
            "unit": rail.estimate.unit,
            "largest_loss": self.loss,
            "most_lost": self.most_lost,
            "nearly_no_change": self.nearly_no_change,
            "required": self.required_n,
        }


def largest_losses(rails: Sequence[Rail], limits: Limits, power: float) -> tuple[LargestLoss, ...]:
    """What each rail of the test split can accept.

    Args:
        rails: the rails of a perfect candidate on the test split (`run/decisive.py: best_possible_rails`).
        limits: the limits at the confidence of the final verdict.
        power: the chance of acceptance that is asked for.

    Example:
        >>> from optimize.guard.classification_score import answers
        >>> from optimize.guard.judged_rails import judged_rails
        >>> labels = np.repeat([0, 1], [600, 122])
        >>> perfect = answers(np.eye(2)[labels], labels, ("common", "rare"))
        >>> for found in largest_losses(judged_rails(Limits(), perfect, perfect), Limits(), 0.9):
        ...     print(found.rail.title, found.most_lost, f"{100 * (found.loss or 0):.1f} pp")
        overall accuracy 8 0.5 pp
        recall of common 26 3.2 pp
        recall of rare 2 0.6 pp
    """
    # Many classes have one limit, and some have one size: nothing is computed twice.
    found = cache(lambda cases, limit, alpha: _of_share(cases, limit, alpha, power))
    required = cache(lambda limit, alpha: _required_n(limit, alpha, power))
    made = []
    for rail in rails:
        if rail.rule != "drop" or rail.estimate.lost is None or not rail.estimate.n:
            made.append(LargestLoss(rail, None, None, False, None))
            continue
        size = _size(rail, limits)
        loss, most_lost = found(*size)
        number = None if loss is not None else required(*size[1:])
        # Several cases of a patient count as fewer, so more of them are needed.
        made.append(LargestLoss(rail, loss, most_lost, True, number and ceil(number * rail.estimate.widening)))
    return tuple(made)


def loss_of_all(losses: Sequence[LargestLoss], limits: Limits, power: float) -> float | None:
    """The largest true loss, the same in every class and overall, with which all rails pass together with the power; None where none does.

    Args:
        losses: what each rail can accept, from `largest_losses`.
        limits: the limits at the confidence of the final verdict.
        power: the chance of acceptance that is asked for.
    """
    sizes = [_size(found.rail, limits) for found in losses if found.known]
    if not sizes:
        return None

    def chance(loss: float) -> float:
        return prod(pass_chance_of(loss, *size) for size in sizes)

    return _largest_passing(chance, min(limit for _, limit, _ in sizes), power)


def pass_chance_of(loss: float, cases: int, limit: float, alpha: float | None) -> float:
    """The chance that a share passes whose true loss is `loss`, with `GAINED` of the cases gained.

    Args:
        loss: the true loss.
        cases: number of cases of the test split.
        limit: the largest drop that passes.
        alpha: chance that the verdict's bound misses; None where the measured drop is compared with the limit.
    """
    most = int(cases * GAINED + 6 * np.sqrt(cases * GAINED) + 6)
    table = passing_counts(cases, limit, alpha, most).most_lost
    gained = np.arange(len(table))
    weights = np.exp(
        gammaln(cases + 1) - gammaln(gained + 1) - gammaln(cases - gained + 1) + xlogy(gained, GAINED) + xlog1py(cases - gained, -GAINED)
    )
    lost = np.minimum((loss + GAINED) / (1 - GAINED), 1.0)
    passed = np.where(table < 0, 0.0, bdtr(np.maximum(np.minimum(table, cases - gained), 0), cases - gained, lost))
    return float((weights * passed).sum())


def _size(rail: Rail, limits: Limits) -> tuple[int, float, float | None]:
    """Effective number of cases, limit, and chance that the bound misses."""
    estimate = rail.estimate
    effective = max(1, round(estimate.n / estimate.widening))
    if limits.bound_confidence is None:
        return effective, rail.limit, None
    return effective, rail.limit, max(MIN_ALPHA, float(ndtr(-quantile(limits.confidence, estimate.freedom))))


def _of_share(cases: int, limit: float, alpha: float | None, power: float) -> tuple[float | None, int]:
    """The largest true loss that passes with the power, and the largest number of lost cases where none is gained."""
    most_lost = int(passing_counts(cases, limit, alpha, 0).most_lost[0])
    return _largest_passing(lambda true: pass_chance_of(true, cases, limit, alpha), limit, power), most_lost


def _largest_passing(chance: Callable[[float], float], limit: float, power: float) -> float | None:
    """The largest loss from 0 to the limit whose chance is at least the power, by bisection; None where that of 0 is not."""
    low, high = 0.0, limit
    if chance(low) < power:
        return None
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) >= power else (low, middle)
    return low


def _required_n(limit: float, alpha: float | None, power: float) -> int | None:
    """The number of cases with which no net loss passes with the power; None where it is above `MAX_SEARCHED_N`."""
    few, many = 1, 2
    while pass_chance_of(0.0, many, limit, alpha) < power:
        few, many = many, 2 * many
        if many > MAX_SEARCHED_N:
            return None
    while many - few > max(1, few // 50):
        middle = (few + many) // 2
        few, many = (few, middle) if pass_chance_of(0.0, middle, limit, alpha) >= power else (middle, many)
    return many
