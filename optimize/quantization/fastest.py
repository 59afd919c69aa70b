"""Choose the variant that ships: the fastest that holds the guard-rails, by a measured difference.

The exact precision ships unless another is measurably faster: the lower end of the interval of its speed-up is above 1. int8 costs
accuracy, so it must be measurably faster than every float precision that holds, not only than the exact one.

Example: f32 takes 2.0 ms, bf16 1.5 ms (speed-up 1.33, interval 1.2 to 1.5), int8 1.4 ms (1.43 over f32, 1.3 to 1.6; 1.07 over bf16, .96 to
1.19). bf16 ships: int8 is measurably faster than f32, but not than bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.measure.latency import Latency, ratio


@dataclass(frozen=True)
class TimedVariant:
    """One variant that ran.

    Args:
        name: name in the reasons.
        holds: whether it holds the guard-rails on the guard split.
        int8: whether any of its layers runs in int8.
        latency: its measured latency at batch 1.
    """

    name: str
    holds: bool
    int8: bool
    latency: Latency


def fastest(variants: Sequence[TimedVariant | None]) -> tuple[int, dict[int, str]]:
    """Return the place of the variant that ships, and for each that holds why it does or does not.

    Args:
        variants: the exact precision first, which ships where nothing else holds; None for one that could not run or was not timed.
    """
    best, reasons = 0, dict[int, str]()
    first = variants[0]
    assert first is not None
    winner = first
    floats = [variant for variant in variants if variant is not None and variant.holds and not variant.int8]
    for place, variant in enumerate(variants):
        if not place or variant is None or not variant.holds:
            continue
        # int8 gives up accuracy, so it has to beat every float precision that could ship instead, not only the one that leads now
        opponents = [winner, *(floats if variant.int8 else ())]
        gains = [(ratio(opponent.latency, variant.latency), opponent.name) for opponent in opponents]
        # the hardest opponent: the one against which the lower end of the interval is smallest
        gain, opponent_name = min(gains, key=lambda pair: pair[0].low)
        measured = f"{gain.value:.2f}x the speed of {opponent_name} (95 % interval {gain.low:.2f} to {gain.high:.2f})"
        # a leader that does not hold cannot ship, so any variant that holds takes its place, however slow
        if gain.low > 1 or not winner.holds:
            reasons.setdefault(best, f"{variant.name} is faster and holds the guard-rails")
            best, winner = place, variant
            reasons[place] = measured
        else:
            reasons[place] = f"not measurably faster: {measured}"
    reasons.setdefault(best, "the exact precision; nothing else that holds the guard-rails is measurably faster")
    return best, reasons
