"""Which of what was judged and timed ships: the fastest that holds the guard-rails, by what is measured for sure.

The exact precision ships unless another is faster for certain: the lower end of the interval of its gain is above 1. int8, which costs
accuracy, must be faster for certain than every float precision that holds, also than one that may itself only look faster than the exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.measure.latency import Latency, ratio


@dataclass(frozen=True)
class TimedVariant:
    """One variant that ran.

    Args:
        name: for the reasons.
        holds: whether the guard lets it pass.
        int8: whether any of it is in int8.
        latency: what was measured.
    """

    name: str
    holds: bool
    int8: bool
    latency: Latency


def fastest(entrants: Sequence[TimedVariant | None]) -> tuple[int, dict[int, str]]:
    """The place of the one that ships, and why each that holds does or does not.

    Args:
        entrants: the exact precision first, which ships where nothing holds; None for what could not run or was not timed.
    """
    best, whys = 0, dict[int, str]()
    first = entrants[0]
    assert first is not None
    winner = first
    floats = [each for each in entrants if each is not None and each.holds and not each.int8]
    for place, entrant in enumerate(entrants):
        if not place or entrant is None or not entrant.holds:
            continue
        rivals = [winner, *(floats if entrant.int8 else ())]
        gains = [(ratio(rival.latency, entrant.latency), rival.name) for rival in rivals]
        gain, rival = min(gains, key=lambda each: each[0].low)
        measured = f"{gain.value:.2f}x the speed of {rival} (95 % interval {gain.low:.2f} to {gain.high:.2f})"
        if gain.low > 1 or not winner.holds:
            whys.setdefault(best, f"{entrant.name} is faster and holds the guard-rails")
            best, winner = place, entrant
            whys[place] = measured
        else:
            whys[place] = f"not measurably faster: {measured}"
    whys.setdefault(best, "the exact precision; nothing else that holds the guard-rails is measurably faster")
    return best, whys
