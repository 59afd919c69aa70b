"""Warm up until the machine has settled, and measure how much medians still vary afterwards.

Warm-up goes on in windows of interleaved rounds. It ends when, for every contender, the medians of two successive windows differ by less
than 2 % of the former; or after so many windows or seconds; it then counts as unsettled.

Worked example: the medians of windows are 4.00, 3.20, 3.10 and 3.08 ms. The changes are 20 %, 3.1 % and 0.6 %: it ends after the fourth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimize.backends.session import gc_paused
from optimize.measure.latency import interleave

WITHIN = 0.02
WINDOW_S, WINDOW_ROUNDS, MOST_WINDOWS = 0.2, 5, 12
BRIEF_S = 3.0
"""Most time for warm-up in a run, which times several things."""
BLOCKS = 10


@dataclass(frozen=True)
class Warmup:
    """Medians that were measured while warming up.

    Args:
        medians_ms: contender -> median of each window.
    """

    medians_ms: Mapping[str, tuple[float, ...]]

    @property
    def unsettled(self) -> tuple[str, ...]:
        """The contenders whose medians of the last two windows do not agree."""
        return tuple(name for name, taken in self.medians_ms.items() if not _stands(taken))

    @property
    def settled(self) -> bool:
        """Whether all agree."""
        return not self.unsettled

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a result shows."""
        return {"settled": self.settled, "within": WITHIN, "medians_ms": {name: list(taken) for name, taken in self.medians_ms.items()}}


def warm_up(
    contenders: Mapping[str, Callable[[], object]],
    *,
    window_s: float = WINDOW_S,
    window_rounds: int = WINDOW_ROUNDS,
    most_windows: int = MOST_WINDOWS,
    most_s: float = math.inf,
    settle_s: float = 0.002,
    timer: Callable[[], float] = time.perf_counter,
) -> Warmup:
    """Run the contenders in turns until their medians stand still.

    Args:
        contenders: name -> a call, as in `interleave`.
        window_s: shortest time of one window, seconds.
        window_rounds: fewest rounds of one window.
        most_windows: give up after so many.
        most_s: give up after so many seconds too, once there are two windows.
        settle_s: seconds of untimed calls before each timed one, as in `interleave`.
        timer: function that returns seconds, as in `interleave`.
    """
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    end = timer() + most_s
    # once for all windows: with a large network in memory, a collection takes as long as a window
    with gc_paused():
        for done in range(1, most_windows + 1):
            window = interleave(contenders, seconds=window_s, min_rounds=window_rounds, warmup=0, settle_s=settle_s, timer=timer)
            for name, latency in window.items():
                # medians, since single slow calls are no sign that the machine has not settled
                medians[name].append(latency.p50)
            # all at once: while one contender still warms up, it may disturb the others
            if all(map(_stands, medians.values())) or (done > 1 and timer() >= end):
                break
    return Warmup({name: tuple(taken) for name, taken in medians.items()})


def block_variation(samples: Sequence[float], blocks: int = BLOCKS) -> float:
    """Return the standard deviation of the medians of successive blocks of equal length, as a share of their mean.

    Noise of single calls hardly moves a block's median; what moves it lasted: a foreign process, a clock that changed, heat.
    0 where there are fewer than two samples.
    """
    medians = block_medians(samples, blocks)
    return float(np.std(medians, ddof=1) / np.mean(medians)) if len(medians) > 1 else 0.0


def block_medians(samples: Sequence[float], blocks: int = BLOCKS) -> tuple[float, ...]:
    """Return the medians of successive blocks of equal length, as many as there are samples for; none of no samples."""
    if not samples:
        return ()
    return tuple(float(np.median(block)) for block in np.array_split(np.asarray(samples), min(blocks, len(samples))))


def variation(samples: Sequence[float]) -> float:
    """Return the coefficient of variation: standard deviation of single samples, as a share of their mean; 0 for fewer than two."""
    return float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else 0.0


def _stands(medians: Sequence[float]) -> bool:
    # of the former median, so that a change from 4.00 to 3.92 ms, exactly 2 %, does not count as settled
    return len(medians) > 1 and abs(medians[-1] - medians[-2]) < WITHIN * medians[-2]
