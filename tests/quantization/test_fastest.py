"""Which variant ships: scripted latencies, with noise that an interval must see through."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.measure.latency import Latency, ratio
from optimize.quantization.fastest import TimedVariant, fastest


def entrant(name: str, milliseconds: float, *, spread: float = 0.0, seed: int = 0, holds: bool = True) -> TimedVariant:
    noise = np.random.default_rng(seed).normal(0, spread, 40) if spread else np.zeros(40)
    return TimedVariant(name, holds, name.startswith("int8"), Latency(tuple(milliseconds * np.exp(noise))))


def test_int8_must_beat_a_float_that_only_looks_faster_than_the_exact() -> None:
    steady, int8 = entrant("f32", 1.0), entrant("int8", 0.985)
    noisy = (entrant("bf16", 0.95, spread=0.4, seed=seed) for seed in range(100))
    bf16 = next(each for each in noisy if (gain := ratio(steady.latency, each.latency)).low <= 1 < gain.value - 0.05)
    best, whys = fastest([steady, bf16, int8])
    assert ratio(steady.latency, int8.latency).low > 1
    assert best == 0
    assert whys[2].startswith("not measurably faster: ")
    assert "the speed of bf16" in whys[2]
    assert fastest([steady, None, int8])[0] == 2, "nothing is in its way where there is no bf16"
    refused = TimedVariant("bf16", False, False, bf16.latency)
    assert fastest([steady, refused, int8])[0] == 2, "nor where bf16 loses too much"


def test_a_float_must_beat_the_winner_alone() -> None:
    best, whys = fastest([entrant("f32", 4.0), entrant("bf16", 2.0), entrant("int8", 1.0), entrant("f16", 1.5)])
    assert best == 2
    assert whys == {
        0: "bf16 is faster and holds the guard-rails",
        1: "2.00x the speed of f32 (95 % interval 2.00 to 2.00)",
        2: "1.50x the speed of f16 (95 % interval 1.50 to 1.50)",
        3: "not measurably faster: 0.67x the speed of int8 (95 % interval 0.67 to 0.67)",
    }


@pytest.mark.parametrize("milliseconds", [1.0, 2.0, 5.0])
def test_what_holds_ships_where_the_exact_does_not(milliseconds: float) -> None:
    assert fastest([entrant("f32", 2.0, holds=False), entrant("int8", milliseconds)])[0] == 1


def test_the_exact_ships_where_nothing_holds() -> None:
    best, whys = fastest([entrant("f32", 2.0, holds=False), entrant("bf16", 1.0, holds=False), None])
    assert (best, list(whys)) == (0, [0])
