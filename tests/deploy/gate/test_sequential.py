"""The sequential decision: its wealth against exact integrals, its error rates by enumeration, its bounds against the definition."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.deploy.gate.sequential import ALPHA, bounds, decide, required_heads, wealth
from optimize.errors import InputError

LOG_RATIOS = st.lists(st.floats(-0.2, 0.2, allow_subnormal=False), max_size=25)


def exact_wealth(heads: int, n: int) -> Fraction:
    """2 * integral over p from 1/2 to 1 of (2p)^heads (2(1-p))^tails: the power of (1-p) multiplied out, each term integrated by hand."""
    tails, total = n - heads, Fraction(0)
    for k in range(tails + 1):
        power = heads + k + 1
        total += math.comb(tails, k) * (-1) ** k * (1 - Fraction(1, 2**power)) / power
    return 2 * 2**n * total


@pytest.mark.parametrize(("heads", "n"), [(0, 0), (0, 1), (1, 1), (10, 10), (7, 10), (0, 10), (17, 20), (40, 60)])
def test_the_wealth_is_the_integral(heads: int, n: int) -> None:
    assert wealth(heads, n) == pytest.approx(float(exact_wealth(heads, n)), rel=1e-9)


@pytest.mark.parametrize(("heads", "n"), [(0, 0), (3, 5), (9, 9), (2, 30)])
def test_a_fair_coin_wins_and_loses_nothing_in_the_mean(heads: int, n: int) -> None:
    after = (wealth(heads + 1, n + 1) + wealth(heads, n + 1)) / 2
    assert after == pytest.approx(wealth(heads, n), rel=1e-9)


def ever_rejected(horizon: int, alpha: float) -> float:
    """Chance that a fair coin is ever rejected up to the horizon: the chances of all counts of heads that were not, step by step."""
    alive, rejected = {0: 1.0}, 0.0
    for n in range(1, horizon + 1):
        spread: Counter[int] = Counter()
        for heads, chance in alive.items():
            spread[heads] += chance / 2
            spread[heads + 1] += chance / 2
        required = required_heads(n, alpha)
        rejected += sum(chance for heads, chance in spread.items() if required is not None and heads >= required)
        alive = {heads: chance for heads, chance in spread.items() if required is None or heads < required}
    return rejected


@pytest.mark.parametrize("alpha", [0.3, 0.05, ALPHA])
def test_a_fair_coin_is_hardly_ever_rejected_however_long_one_looks(alpha: float) -> None:
    chance = ever_rejected(400, alpha)
    # not only below alpha, as Ville's inequality says: a test that never rejects would be below it too
    assert alpha / 4 < chance <= alpha


def test_the_chance_is_that_of_all_sequences_of_coins() -> None:
    """Every one of 2^12 sequences, with the bounds of the module itself: rejected where 0 lies below the lower bound."""
    sequences = list(itertools.product([-1.0, 1.0], repeat=12))
    rejected = sum(bounds(sequence, 0.05)[0] > 0 for sequence in sequences)
    assert rejected / len(sequences) == pytest.approx(ever_rejected(12, 0.05), abs=1e-12)


@settings(deadline=None)
@given(LOG_RATIOS)
def test_the_lower_bound_is_the_largest_value_that_was_rejected(log_ratios: list[float]) -> None:
    """By the definition: c is rejected when the wealth of the signs of d - c ever reached 1/alpha, for c just below a value."""
    alpha = 0.05
    rejected = [-math.inf]
    for value in log_ratios:
        at_least = [other >= value for other in log_ratios]
        if any(wealth(sum(at_least[:n]), n) >= 1 / alpha for n in range(1, len(log_ratios) + 1)):
            rejected.append(value)
    assert bounds(log_ratios, alpha)[0] == max(rejected)


@settings(deadline=None)
@given(LOG_RATIOS)
def test_swapping_the_two_gives_the_reciprocal(log_ratios: list[float]) -> None:
    there, back = decide(log_ratios, alpha=0.05), decide([-each for each in log_ratios], alpha=0.05)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.high == pytest.approx(1 / there.low if there.low else math.inf)
    assert back.low == pytest.approx(1 / there.high)


@settings(deadline=None)
@given(LOG_RATIOS, st.floats(-0.2, 0.2))
def test_the_bounds_only_ever_come_closer(log_ratios: list[float], value: float) -> None:
    before, after = bounds(log_ratios, 0.05), bounds([*log_ratios, value], 0.05)
    assert after[0] >= before[0]
    assert after[1] <= before[1]


@pytest.mark.parametrize(
    ("log_ratio", "n", "outcome"),
    [(0.0, 10, "inconclusive"), (0.0, 11, "pass"), (0.05, 10, "inconclusive"), (0.05, 11, "fail"), (-1.0, 11, "pass"), (1.0, 11, "fail")],
)
def test_equal_pairs_decide_with_the_eleventh(log_ratio: float, n: int, outcome: str) -> None:
    """2^12 / 12 = 341 is the first wealth above 1/0.005 = 200; 2^11 / 11 = 186 is not."""
    assert decide([log_ratio] * n).outcome == outcome


@pytest.mark.parametrize(("slowdown", "outcome"), [(0.026, "pass"), (0.0374, "pass"), (0.0375, "fail"), (0.0499, "fail")])
def test_between_half_the_limit_and_the_limit_the_nearer_one_is_said(slowdown: float, outcome: str) -> None:
    """The middle of log 1.025 and log 1.05 is log 1.03743."""
    assert decide([math.log1p(slowdown)] * 11).outcome == outcome


@pytest.mark.parametrize("bad", [0.0, -0.05, math.nan])
def test_a_limit_of_nothing_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match=r"^`max_slowdown` \(=.*\) must be above 0: pass 0\.05 for 5 %\.$"):
        decide([], max_slowdown=bad)


def outcomes(slowdown: float, *, decisions: int = 300, horizon: int = 50) -> Counter[str]:
    """Outcomes of simulated decisions; Cauchy noise of 1 %, whose mean and variance do not even exist."""
    draw = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for noise in draw.standard_cauchy((decisions, horizon)):
        log_ratios = (math.log1p(slowdown) + 0.01 * noise).tolist()
        first = (decide(log_ratios[:n]).outcome for n in range(1, horizon + 1))
        counts[next((outcome for outcome in first if outcome != "inconclusive"), "inconclusive")] += 1
    return counts


def test_error_rates_under_heavy_tails() -> None:
    """At most 0.5 % are promised for each; 5 of 300 would be beyond the chance of the simulation (1.5 expected, P = 1.9 %)."""
    assert outcomes(0.0)["fail"] == 0
    assert outcomes(0.025)["fail"] < 5
    assert outcomes(0.05)["pass"] < 5
    assert outcomes(0.05)["fail"] > 270
