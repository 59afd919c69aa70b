"""The chance that the final verdict will accept a candidate, from what the guard split shows of it and from the size of the test split.

A search that looks only at the guard split stops at the boldest candidate that passes there, and the test split then decides anew: with
ten limits to hold, each with few cases, that often ends "inconclusive". So the search asks what the verdict will say:

1. The rates at which each class loses and gains cases are drawn from their posterior distribution, given the guard split
   (`optimize.guard.change_rates`).
2. From each draw of the rates the counts of a test split are drawn, as many cases of each class as the test split has.
3. The verdict's own rule says which of these test splits pass all limits (`optimize.guard.passing_counts`). Their share is the chance.

The classes' counts add up to those of the overall figure, so these limits are judged on the same draws. Limits of other figures (a
subgroup, F1, Dice, AUC) are judged one by one: the true value is drawn from the guard's interval, and the chance that the verdict's bound
then holds is that of `Estimate.odds`. The chances are multiplied, as if they were independent. A candidate that loses little passes them
all more easily, so the chance of all together is hardly smaller than this product, and may be larger.

Example: 8 classes, 855 guard images, 1,711 test images, limits of 2 pp overall and 6 pp in any class. A candidate that changes nothing on
the guard split has a chance of 99 %. With one lost case in the rarest class it is 93 %, with four in four small classes 81 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, stdtrit

from optimize.guard.change_rates import sampled_rates
from optimize.guard.intervals import MIN_ALPHA, NO_SPREAD, quantile
from optimize.guard.limits import Limits
from optimize.guard.passing_counts import passing_counts
from optimize.guard.rail import TOLERANCE, Rail
from optimize.guard.score_intervals import Booleans, Integers

RailKey: TypeAlias = tuple[str, str | None, str | None, str, str]
"""Scope, column, name, figure and rule: what is the same of a rail on the guard split and on the test split."""

SEED = 0
MAX_DRAWS, MIN_DRAWS, MAX_COUNTS = 4096, 1024, 400_000
"""Number of draws of the test split, and of counts in all of them: with a thousand classes fewer splits are drawn."""
NODES = (np.arange(15) + 0.5) / 15
"""Points of the distribution of a true value, each with the same weight."""
MANY_CASES = 1e6
MIN_ROWS = 32
"""Number of gained cases that a table covers at least; it covers a tenth of the cases where these are more."""


def rail_key(rail: Rail) -> RailKey:
    """What tells a rail from the others of its run."""
    return rail.scope, rail.column, rail.name, rail.figure, rail.rule


@dataclass(frozen=True, eq=False)
class Chances:
    """Chances that the final verdict will pass.

    Args:
        joint: chance that every limit passes.
        rails: chance that each rail passes, in the order of the rails; None where the guard split says nothing about it.
    """

    joint: float
    rails: tuple[float | None, ...]


def acceptance_chances(rails: Sequence[Rail], test_sizes: Mapping[RailKey, int], limits: Limits, times: float = 1.0) -> Chances:
    """The chances that a candidate passes the final verdict.

    Args:
        rails: the candidate's rails on the guard split, judged by `limits`.
        test_sizes: number of cases or patients behind each rail on the test split, by `rail_key`.
        limits: the limits at the confidence of the final verdict.
        times: factor by which the guard split is imagined larger, at the same rates.
    """
    chances: dict[int, float | None] = {}
    joint = 1.0
    for family in _families(rails, test_sizes):
        passed = _passed(family, test_sizes, limits, times)
        # One column for each rail: all of a draw must pass.
        joint *= float(passed.all(1).mean())
        chances |= {id(rail): float(share) for rail, share in zip(family, passed.mean(0), strict=True)}
    for rail in rails:
        if id(rail) not in chances:
            chance = _chance_of_figure(rail, test_sizes.get(rail_key(rail), 0), limits, times)
            chances[id(rail)] = chance
            if _follows(rail, rails[0]):
                continue
            # Where the guard split has no case, a rail that lost nothing is left to the verdict, as nothing could be asked of it.
            joint *= (1.0 if rail.lossless else 0.0) if chance is None else chance
    return Chances(joint, tuple(chances[id(rail)] for rail in rails))


def _families(rails: Sequence[Rail], test_sizes: Mapping[RailKey, int]) -> list[list[Rail]]:
    """The rails of shares of cases that share draws: those of one kind, where they add up to all cases together with the overall rail."""
    kinds: dict[tuple[str, str | None, str], list[Rail]] = {}
    for rail in rails:
        if rail.rule == "drop" and rail.estimate.lost is not None and test_sizes.get(rail_key(rail)):
            kinds.setdefault((rail.scope, rail.column, rail.figure), []).append(rail)
    overall = next((family for (scope, _, _), family in kinds.items() if scope == "overall"), None)
    families = [family for family in kinds.values() if family is not overall]
    if overall is None:
        return families
    # Recall of the classes and accuracy are about the same cases. With several cases of a patient their effective numbers do not add up.
    home = next((family for family in families if family[0].scope == "class" and _adds_up(overall[0], family, test_sizes)), None)
    if home is None:
        return [overall, *families]
    return [[*family, overall[0]] if family is home else family for family in families]


def _follows(rail: Rail, overall: Rail) -> bool:
    """Whether a rail holds where the overall one does: the Dice of the only class is the overall Dice, mostly under a looser limit."""
    same = (rail.figure.lower(), rail.rule, rail.value, rail.estimate.n) == (
        overall.figure.lower().removeprefix("overall "),
        overall.rule,
        overall.value,
        overall.estimate.n,
    )
    return same and rail is not overall and rail.scope == "class" and rail.rule == "drop" and rail.limit >= overall.limit


def _adds_up(overall: Rail, classes: Sequence[Rail], test_sizes: Mapping[RailKey, int]) -> bool:
    if not all(rail.estimate.independent for rail in (overall, *classes)):
        return False
    guard = [sum(getattr(rail.estimate, count) or 0 for rail in classes) for count in ("n", "lost", "gained")]
    same = guard == [overall.estimate.n, overall.estimate.lost, overall.estimate.gained]
    return same and sum(test_sizes[rail_key(rail)] for rail in classes) == test_sizes[rail_key(overall)]


def _passed(family: Sequence[Rail], test_sizes: Mapping[RailKey, int], limits: Limits, times: float) -> Booleans:
    """Whether each rail passes in each drawn test split, (draws, rails); the last rail is the sum of the others where it is overall."""
    whole = len(family) > 1 and family[-1].scope == "overall"
    parts = family[:-1] if whole else family
    rng = np.random.default_rng(SEED)
    draws = int(np.clip(MAX_COUNTS // len(parts), MIN_DRAWS, MAX_DRAWS))
    # Several cases of a patient count as fewer: lost, gained and all cases shrink by the design effect, which the test split shares.
    widening = np.array([rail.estimate.widening for rail in parts])
    counts = np.array([(rail.estimate.n, rail.estimate.lost or 0, rail.estimate.gained or 0) for rail in parts], dtype=np.float64)
    cases, lost, gained = times * counts.T / widening
    future = np.maximum(1, np.array([test_sizes[rail_key(rail)] for rail in parts]) / widening).round().astype(np.int64)
    lose = sampled_rates(lost, cases, draws, rng)
    # A case is gained only if it was not lost: the second rate is one of the remaining cases.
    gain = sampled_rates(gained, cases - lost, draws, rng)
    drawn_lost = rng.binomial(future, lose)
    drawn_gained = rng.binomial(future - drawn_lost, gain)
    columns = [
        _passes(rail, int(future[place]), drawn_lost[:, place], drawn_gained[:, place], test_sizes[rail_key(rail)], limits)
        for place, rail in enumerate(parts)
    ]
    if whole:
        size = test_sizes[rail_key(family[-1])]
        columns.append(_passes(family[-1], size, drawn_lost.sum(1), drawn_gained.sum(1), size, limits))
    return np.stack(columns, axis=1)


def _passes(rail: Rail, effective: int, lost: Integers, gained: Integers, cases: int, limits: Limits) -> Booleans:
    alpha = None if limits.bound_confidence is None else _alpha(rail, cases, limits)
    # A round number of rows, so that the tables of many candidates are found again in the cache.
    most = min(16 * (1 + int(gained.max(initial=0)) // 16), max(MIN_ROWS, effective // 10))
    return passing_counts(effective, rail.limit, alpha, most).passes(lost, gained)


def _alpha(rail: Rail, cases: int, limits: Limits) -> float:
    """The chance beyond the verdict's critical value on the test split; with patients it is Student's, for as many as there will be."""
    freedom = rail.estimate.freedom
    if freedom is None:
        return 1 - limits.confidence
    # Twice as many cases of 30 guard patients are of about 60 patients.
    patients = (freedom + 1) * cases / max(1, rail.estimate.n)
    return max(MIN_ALPHA, float(ndtr(-quantile(limits.confidence, max(1.0, patients - 1)))))


def _chance_of_figure(rail: Rail, future: int, limits: Limits, times: float) -> float | None:
    """The chance that a rail passes whose figure is no plain drop of a share; None where the guard split has too few cases for it."""
    estimate = rail.estimate
    if not future:
        return 0.0
    if not estimate.n or estimate.min_n is not None or (estimate.odds is None and limits.bound_confidence is not None):
        return None
    searched, floor = estimate.for_search, rail.rule == "floor"
    freedom = float(estimate.n - 1) if estimate.unit == "patients" else MANY_CASES
    # The bound's distance from the figure, in units of the critical value, is the standard error.
    distance = estimate.value - searched.low if floor else searched.high - estimate.value
    error = max(distance / quantile(limits.confidence, freedom), NO_SPREAD) / np.sqrt(times)
    if limits.bound_confidence is None:
        margin = estimate.value - rail.limit if floor else rail.limit - estimate.value
        spread = error * np.sqrt(1 + times * estimate.n / future)
        return float(ndtr((margin + TOLERANCE) / spread))
    assert estimate.odds is not None
    true = error * stdtrit(freedom, NODES)
    # The odds are those of the measured figure. A true figure that is higher by 1 pp is as good as a limit that is lower by 1 pp.
    return float(np.mean([estimate.odds(future / estimate.n, rail.limit - shift)[1 if floor else 0] for shift in true]))


def enlarged_guard(
    rails: Sequence[Rail], test_sizes: Mapping[RailKey, int], limits: Limits, power: float, most: float = 64.0
) -> float | None:
    """How many times as many guard cases would raise the chance to `power`, at the same rates; None where not even `most` times would.

    Args:
        rails: rails on the guard split, usually of the original against itself.
        test_sizes: number of cases or patients behind each rail on the test split, by `rail_key`.
        limits: the limits at the confidence of the final verdict.
        power: the chance that is asked for.
        most: largest factor that is tried.
    """
    times = 1.0
    while acceptance_chances(rails, test_sizes, limits, times).joint < power:
        times *= 1.25
        if times > most:
            return None
    return times
