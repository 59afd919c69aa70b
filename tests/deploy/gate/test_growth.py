"""Intervals of a growth: how often they hold what they should, by simulation; and the outcomes that follow."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.deploy.gate.growth import PROCESSES, Growth, judged_count, judged_growth, paired_growth, unpaired_growth
from optimize.deploy.gate.judged import change_in_words, outcome_of, whole_outcome
from tests.deploy.gate.tiny import judged


def test_pairs_hold_the_true_growth_as_often_as_the_closed_formula_says() -> None:
    rng = np.random.default_rng(0)
    n, repeats, growth = PROCESSES, 4000, 0.04
    # heavy tails, and a machine that differs from pair to pair: both sides of a pair meet it
    machine = np.exp(rng.normal(0, 0.5, (repeats, n)))
    old, new = (machine * np.exp(0.02 * rng.standard_t(2, (repeats, n))) for _ in range(2))
    inside = [(found := paired_growth(a, b * (1 + growth))).low <= growth <= found.high for a, b in zip(old, new, strict=True)]
    assert np.mean(inside) == pytest.approx(1 - 0.5 ** (n - 1), abs=0.005)


def test_without_pairs_the_interval_is_wider_and_holds_more() -> None:
    rng = np.random.default_rng(1)
    old, new = np.exp(rng.normal(0, 0.02, (2, 1000, PROCESSES)))
    found = [(unpaired_growth(a, b), paired_growth(a, b)) for a, b in zip(old, new, strict=True)]
    assert all(alone.low <= pair.low and alone.high >= pair.high for alone, pair in found)
    assert np.mean([alone.low <= 0 <= alone.high for alone, _ in found]) >= 0.984


@pytest.mark.parametrize("drift", [0.1, -0.1])
def test_a_machine_that_changed_widens_both_sides(drift: float) -> None:
    quiet, drifted = (unpaired_growth([100, 101], [102, 103], change) for change in (0.0, drift))
    assert drifted.low < quiet.low < quiet.high < drifted.high
    # the model followed the machine fully: its own growth is what is left
    assert drifted.low <= 102.5 / 100.5 / (1 + drift) - 1 <= drifted.high


@pytest.mark.parametrize(
    ("low", "high", "limit", "outcome"),
    [
        (-0.01, 0.05, 0.05, "pass"),
        (0.0501, 0.2, 0.05, "fail"),
        (0.0, 0.06, 0.05, "inconclusive"),
        (0.0, 9.0, None, "not judged"),
        (0.0, 0.0, 0.0, "pass"),
        (1e-6, 1e-6, 0.0, "fail"),
    ],
)
def test_outcomes(low: float, high: float, limit: float | None, outcome: str) -> None:
    assert outcome_of(low, high, limit) == outcome


def test_one_failure_decides_the_whole() -> None:
    assert whole_outcome([judged(), judged(outcome="not judged")]) == "pass"
    assert whole_outcome([judged(), judged(outcome="inconclusive")]) == "inconclusive"
    assert whole_outcome([judged(outcome="inconclusive"), judged(outcome="fail")]) == "fail"


def test_a_figure_that_is_only_shown_has_no_interval() -> None:
    shown = judged_growth("max_memory_growth", "peak memory", "bytes", (1, 2), Growth(1.0, 0.9, 1.1), None, 3)
    assert (shown.low, shown.high, shown.outcome) == (None, None, "not judged")
    asked = judged_growth("max_memory_growth", "peak memory", "bytes", (1, 2), Growth(1.0, 0.9, 1.1), 1.0, 8, "again")
    assert (asked.low, asked.outcome, asked.reason) == (0.9, "inconclusive", "+100 % (+90 % to +110 %); the limit is 100 %: again")


def test_counts() -> None:
    assert judged_count("max_size_growth", "size", "bytes", 100, 100, 0.0).outcome == "pass"
    assert judged_count("max_size_growth", "size", "bytes", 100, 101, 0.0).outcome == "fail"
    for old, new, side in ((None, 5, "baseline"), ("6", 5, "baseline"), (5, None, "candidate")):
        unknown = judged_count("max_mac_growth", "MACs", "MACs", old, new, 0.01)
        assert unknown.outcome == "inconclusive"
        assert f"not known for the {side}" in unknown.reason
    assert judged_count("max_mac_growth", "MACs", "MACs", None, 5, None).outcome == "not judged"


def test_changes_in_words() -> None:
    assert [change_in_words(value, "growth") for value in (0.0, -1e-9, 0.1234, -0.02)] == ["0 %", "−1e-07 %", "+12.3 %", "−2 %"]
