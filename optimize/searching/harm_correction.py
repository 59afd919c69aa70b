"""Bring predicted harms to the scale of measured ones.

The prediction (`predicted_harm.py`) is the leading term of an expansion in the change of the network, and too small or too large by some
factor where a change is large. So a few changes, spread over all sizes, are measured as well. A straight line of log(measured) against
log(predicted) then corrects all predictions. It keeps their order.

Example: predictions of .001 and .1 that measure .001 and .05 give a slope of .85, and a prediction of .01 becomes .007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MEASURED_PAIRS = 12
SMALLEST = 1e-7
"""Nats; what is smaller is rounding."""
SLOPES = (0.5, 1.25)
"""Bounds of the slope, which is 1 for small changes."""
MAX_FACTOR, MAX_SHARE_OFF = 10.0, 0.25
"""Predictions are not trusted where more than this share of those that were measured is off by more than this factor."""


@dataclass(frozen=True)
class Correction:
    """The line log(harm) = log(factor) + slope * log(prediction).

    Args:
        factor: harm where the prediction is 1 nat.
        slope: slope of the line on logarithmic scales.
        trusted: whether predictions agree with what was measured.
    """

    factor: float = 1.0
    slope: float = 1.0
    trusted: bool = True

    def __call__(self, predicted: float) -> float:
        """Return the corrected harm, in nats."""
        return self.factor * float(np.power(max(predicted, 0.0), self.slope))


def spread_over_sizes(predicted: Sequence[float], most: int = MEASURED_PAIRS) -> list[int]:
    """Return the places of at most `most` predictions, from the smallest to the largest, evenly by rank.

    Example:
        >>> spread_over_sizes([0.3, 0.1, 0.2, 0.5, 0.4], 3)
        [1, 0, 3]
    """
    order = np.argsort(predicted, kind="stable")
    return [int(place) for place in order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).astype(int))]]


def fit_correction(predicted: Sequence[float], measured: Sequence[float]) -> Correction:
    """Return the line through pairs of predicted and measured harm, in nats.

    Example:
        >>> line = fit_correction([0.001, 0.01, 0.1], [0.002, 0.02, 0.2])
        >>> round(line.factor, 6), round(line.slope, 6), line.trusted
        (2.0, 1.0, True)
    """
    pairs = np.maximum(np.asarray([predicted, measured], dtype=np.float64).reshape(2, -1), SMALLEST)
    x, y = np.log(pairs)
    # where both are next to nothing they agree; where one is, the pair says nothing about the line
    telling, usable = (pairs > SMALLEST).any(0), (pairs > SMALLEST).all(0)
    if not telling.any():
        return Correction()
    slope, offset = _line(x[usable], y[usable])
    off = np.abs(y - offset - slope * x)[telling] > np.log(MAX_FACTOR)
    return Correction(float(np.exp(offset)), slope, bool(off.mean() <= MAX_SHARE_OFF))


def _line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and offset of a robust line: the median of the slopes of all pairs of points (Theil and Sen), within bounds."""
    rise, run = (np.subtract.outer(values, values)[np.triu_indices(len(values), 1)] for values in (y, x))
    apart = run != 0
    slope = float(np.clip(np.median(rise[apart] / run[apart]), *SLOPES)) if apart.sum() > 1 else 1.0
    return slope, float(np.median(y - slope * x)) if len(x) else 0.0
