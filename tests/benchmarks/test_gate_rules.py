"""The rules that the gate is compared with, on made-up pairs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies import gate as study
from benchmarks.studies.gate import Recorded, analysed, row
from benchmarks.studies.gate_models import SIZES
from benchmarks.studies.gate_rules import draw_positions, gate, mean_rule, medians_rule, slower, t_test_rule
from optimize.measure.duet import PairSample


def pairs(*, ratio: float = 1.0, count: int = 12) -> list[PairSample]:
    """Pairs whose processes all take the same, whole microseconds, in rounds that differ by a thousandth."""
    rounds = (5000, 5005, 4995, 5002)
    blocks = tuple(tuple(1000 * round(length * factor) for length in rounds) for factor in (1.0, ratio))
    return [PairSample("interleaved", "baseline", 100, *blocks, 2.0) for _ in range(count)]


@pytest.mark.parametrize(("ratio", "reported"), [(1.0, False), (1.04, False), (1.06, True)])
def test_the_rules_with_a_limit(ratio: float, reported: bool) -> None:
    draw = np.random.default_rng(0)
    assert mean_rule(pairs(ratio=ratio), draw, 0.05) == reported
    assert medians_rule(pairs(ratio=ratio), draw, 0.05) == reported
    assert medians_rule(pairs(ratio=ratio), draw, 0.05, share=0.5) == (ratio > 1.025)


def test_the_t_test_reports_what_is_significant_however_small() -> None:
    draw = np.random.default_rng(0)
    assert t_test_rule(pairs(ratio=1.01), draw, 0.05)
    assert not t_test_rule(pairs(), draw, 0.05)


@pytest.mark.parametrize(("ratio", "outcome", "taken"), [(1.0, "pass", 11), (1.1, "fail", 11)])
def test_the_gate_takes_eleven_equal_pairs_of_two_seconds(ratio: float, outcome: str, taken: int) -> None:
    answer = gate(pairs(ratio=ratio), np.random.default_rng(0), 0.05)
    assert (answer.outcome, answer.pairs, answer.seconds) == (outcome, taken, 2.0 * taken)
    assert gate(pairs(ratio=ratio), np.random.default_rng(0), 0.05, max_seconds=8).outcome == "inconclusive"


def test_stretches_keep_their_order() -> None:
    positions = draw_positions(10, np.random.default_rng(0), 7)
    assert len(positions) == 7
    steps = np.diff(positions) % 10
    assert [int(step) for k, step in enumerate(steps) if k % 3 != 2] == [1] * 4


def test_made_slower_by_a_share() -> None:
    (plain, *_), (slow, *_) = pairs(), slower(pairs(), 0.1)
    assert slow.log_ratio - plain.log_ratio == pytest.approx(np.log(1.1), abs=1e-6)


def test_what_is_written_is_read_again_and_drawn_from() -> None:
    recorded = [Recorded(name, slowdown, pair) for name in SIZES for slowdown in study.PLANTED for pair in pairs(ratio=1 + slowdown)]
    again = [Recorded.of(each.as_dict()) for each in recorded]
    assert again == recorded
    gate_row, *_ = map(row, analysed(again, decisions=3))
    assert gate_row[1] == "gate"
    # none, none, all, none, all of three; 11 pairs of two seconds
    assert [cell.split("[")[0] for cell in gate_row[2:]] == ["0.0 % ", "0.0 % ", "100.0 % ", "0.0 % ", "100.0 % ", "22 / 22"]
