"""The comparison: made-up pairs for every outcome, and one real pair of processes after another on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.backends import backend
from optimize.deploy.gate.latency import LatencyComparison, compare, compare_latency
from optimize.errors import InputError
from optimize.measure.duet import PairSample
from tests.measure import small


def pair(ratio: float, *, baseline_ns: int = 4_000_000, calls: int = 100) -> PairSample:
    """Three rounds of equal blocks, a made-up second each."""
    return PairSample("interleaved", "baseline", calls, (baseline_ns,) * 3, (round(baseline_ns * ratio),) * 3, 1.0)


def compared(take: Callable[[int], PairSample], *, max_slowdown: float = 0.05, max_seconds: float = 30.0) -> LatencyComparison:
    """By a made-up clock that moves on by a second with every pair."""
    now = [0.0]

    def timed(seed: int) -> PairSample:
        now[0] += 1
        return take(seed)

    return compare(timed, max_slowdown=max_slowdown, max_seconds=max_seconds, timer=lambda: now[0])


@pytest.mark.parametrize(
    ("ratio", "outcome", "reason"),
    [
        (
            1.0,
            "pass",
            "takes 1.000 times as long as the baseline, at 11 pairs of processes; at most 1.000 times, less than the 5 % allowed.",
        ),
        (
            1.06,
            "fail",
            "takes 1.060 times as long as the baseline, at 11 pairs of processes; at least 1.060 times, more than half of the 5 % allowed",
        ),
    ],
)
def test_equal_pairs_stop_at_the_eleventh(ratio: float, outcome: str, reason: str) -> None:
    answer = compared(lambda _: pair(ratio))
    assert (answer.outcome, answer.pairs, answer.processes, answer.seconds) == (outcome, 11, 22, 11.0)
    assert answer.reason.startswith(f"the candidate {reason}")
    assert answer.baseline_ms == pytest.approx(0.04)
    assert answer.candidate_ms == pytest.approx(0.04 * ratio)


def test_out_of_time_decides_nothing() -> None:
    """Every second pair is 50 % slower: bounds of the median lie on both sides of the limit."""
    answer = compared(lambda seed: pair(1.5 if seed % 2 else 1.0))
    assert (answer.outcome, answer.pairs, answer.low, answer.high) == ("inconclusive", 30, pytest.approx(1.0), pytest.approx(1.5))
    remedy = "allow more time, measure with one thread, or on a quieter machine."
    assert answer.reason.endswith(f"1.000 to 1.500 times after 30 s decides neither: {remedy}")


def test_without_time_there_is_one_pair_and_no_bound() -> None:
    answer = compared(lambda _: pair(1.0), max_seconds=0.0)
    assert (answer.outcome, answer.pairs, answer.low, answer.high) == ("inconclusive", 1, 0.0, math.inf)
    assert "no bound yet" in answer.reason
    result = json.loads(json.dumps(answer.as_dict(), allow_nan=False))
    assert (result["low"], result["high"], result["processes"], len(result["samples"])) == (None, None, 2, 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.8, 1.25), min_size=11, max_size=30), st.floats(0.01, 100))
def test_the_unit_of_time_has_no_effect(ratios: list[float], scale: float) -> None:
    plain = compared(lambda seed: pair(ratios[seed % len(ratios)], baseline_ns=10**12))
    scaled = compared(lambda seed: pair(ratios[seed % len(ratios)], baseline_ns=round(scale * 10**12)))
    assert (plain.outcome, plain.pairs) == (scaled.outcome, scaled.pairs)
    assert scaled.ratio == pytest.approx(plain.ratio, rel=1e-9)
    assert scaled.candidate_ms == pytest.approx(scale * plain.candidate_ms, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_slowdown": 0.0}, r"^`max_slowdown` \(=0\.0\) must be above 0"),
        ({"max_seconds": -1.0}, r"^`max_seconds` \(=-1\.0\) must be 0 or more: "),
        ({"batch": 0}, r"^`batch` \(=0\) must be 1 or more: "),
    ],
)
def test_settings_are_checked_before_a_process_is_opened(settings: dict[str, float], error: str) -> None:
    model = SimpleNamespace(name="nowhere", model={"path": "nowhere.pt"})
    with pytest.raises(InputError, match=error):
        compare_latency(model, model, **settings)  # type: ignore[arg-type]


def test_a_real_pair(tmp_path: Path) -> None:
    """Without time for a second one. The candidate is made to take twice its own time, and no neighbour makes a block that slow."""
    artifact = backend("onnxruntime").convert(small.write(tmp_path / "m.onnx"), tmp_path / "artifact", "f32")
    model = SimpleNamespace(name="small", model=artifact)
    answer = compare_latency(model, model, threads=1, max_seconds=0.0, slowdown=1.0, pair_seconds=0.05)
    assert (answer.outcome, answer.pairs, answer.threads) == ("inconclusive", 1, 1)
    assert answer.mode in ("interleaved", "duet")
    (sample,) = answer.samples
    assert len(sample.baseline_ns) == len(sample.candidate_ns) > 1
    assert sample.log_ratio == pytest.approx(math.log(answer.ratio))
