"""Know when a median is precise enough, so that a measurement ends as soon as more samples would hardly change its figures.

The interval of a median is taken from order statistics: of n sorted samples those about 1.96 * sqrt(n) / 2 places below and above the
middle. A measurement is long enough when the interval of every contender is narrow, and its block medians agree: samples that follow each
other are not independent, and a disturbance that lasts moves whole blocks (`measure/reliability.py`).

The rule looks at the width of intervals alone, never at which contender is faster. Sampling until an interval is as narrow as asked for
keeps its coverage (Chow and Robbins 1965); sampling until a difference is significant would not.

Worked example: 100 samples. The interval goes from the 41st to the 60th sorted sample. These are 1.98 and 2.02 ms, and the median is 2.00:
half of the width is 1 % of the median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optimize.measure.reliability import MOST_BLOCK_VARIATION
from optimize.measure.warmup import block_variation

Z = 1.96
MIN_SAMPLES = 20


def half_width(samples: Sequence[float]) -> float:
    """Return half of the width of the 95 % interval of the median, as a share of the median; infinite for fewer than `MIN_SAMPLES`.

    Example:
        >>> half_width([2.0] * 50), half_width([2.0] * 3)
        (0.0, inf)
    """
    n = len(samples)
    if n < MIN_SAMPLES:
        return math.inf
    ordered, reach = np.sort(samples), Z * math.sqrt(n) / 2
    low, high = ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach) - 1)]
    return float((high - low) / 2 / np.median(ordered))


def precise(within: float, min_samples: int = MIN_SAMPLES) -> Callable[[Mapping[str, Sequence[float]]], bool]:
    """Return a function that says whether the medians of all contenders are known precisely enough.

    Args:
        within: largest half of the width of an interval, as a share of the median.
        min_samples: fewest samples of a contender, for figures besides its median.
    """

    def enough(samples: Mapping[str, Sequence[float]]) -> bool:
        if any(len(taken) < min_samples for taken in samples.values()):
            return False
        return all(half_width(taken) <= within and block_variation(taken) <= MOST_BLOCK_VARIATION for taken in samples.values())

    return enough
