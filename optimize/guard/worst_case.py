"""An upper bound of a mean that includes one worst case, which the sample does not contain.

Example: none of 50 patients lost anything, and a patient may lose 0.5 at most. The bound at 95 % confidence is not 0: with one patient
more, who loses 0.5, and random weights, it is 0.5 * (1 - 0.05^(1/50)) = 0.029.

Of n values x_i, none of which can be above w, the bound is the point that

    (E_1 x_1 + ... + E_n x_n + E w) / (E_1 + ... + E_n + E)

exceeds with chance alpha, where all E are exponential: the Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981) with one more value,
the worst there can be (Gaffke, Mathematical Methods of Statistics 14, 2005). Of values 0 and 1 it is the bound of Clopper and Pearson,
with many values it is the normal one, and it asks for no distribution between these. That its coverage holds for every distribution is
proved for the case of 0 and 1 only; no exception is known (Phan, Thomas and Learned-Miller, ICML 2021), and
`benchmarks/studies/coverage.py` looks for some.

The chance that sum E_i (x_i - u) is positive is taken by the saddlepoint formula of Lugannani and Rice (Advances in Applied Probability 12,
1980), which needs no draws and errs by less than one hundredth here.
"""

from __future__ import annotations

from math import copysign, log, pi, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from optimize.guard.score_intervals import Doubles

TOLERANCE = 1e-9
"""Relative precision of the bound."""
NEAR_MEAN = 1e-4
"""Below this, the formula is 0 / 0 in floats, and its limit is used."""


def mean_high(values: Doubles, worst: float, alpha: float, times: float = 1.0) -> float:
    """The upper bound of the mean of `values`.

    Args:
        values: value of each case, (n,).
        worst: largest value that a case outside the sample may have.
        alpha: chance that the bound is too low.
        times: bound for `times` as many cases with the same values.
    """
    # A value in the sample may already be worse than the assumed worst case, and then shows that the assumption was too mild.
    worst = max(worst, float(values.max(initial=worst)))
    points, weights = np.append(values, worst), np.append(np.full(len(values), times), 1.0)
    # All values are divided by their range, so that the root search works the same for shares and for percentages.
    scale = max(worst - float(points.min()), TOLERANCE)

    def beyond(bound: float) -> float:
        return _chance((points - bound) / scale, weights) - alpha

    # The bound lies between the mean with the worst case and the worst case itself.
    low, high = float((weights * points).sum() / weights.sum()), worst - TOLERANCE * scale
    if high <= low or beyond(high) >= 0:
        return worst
    if beyond(low) <= 0:
        return low
    return float(brentq(beyond, low, high, xtol=TOLERANCE * scale, rtol=1e-7))


def _chance(steps: Doubles, weights: Doubles) -> float:
    """The chance that the sum of E_i * steps_i is positive, where E_i is a sum of weights_i independent exponential variables.

    Args:
        steps: values minus the bound, (n + 1,).
        weights: number of cases with each value, (n + 1,).
    """
    top, bottom = float(steps.max()), float(steps.min())
    # No value is above the bound, so the sum cannot be positive. Where none is below, it cannot be negative.
    if top <= 0:
        return 0.0
    if bottom >= 0:
        return 1.0

    def slope(at: float) -> float:
        return float((weights * steps / (1 - at * steps)).sum())

    # The cumulant generating function is K(t) = -sum w log(1 - t step). It is finite between the poles 1 / bottom < 0 and 1 / top > 0, and
    # the saddlepoint is the root of its derivative there, which rises from minus to plus infinity.
    ends = 1 / bottom, 1 / top
    # At the poles themselves the slope is infinite, so the search stays just inside them.
    inset = TOLERANCE**1.5 * (ends[1] - ends[0])
    saddle = float(brentq(slope, ends[0] + inset, ends[1] - inset, xtol=1e-14, rtol=1e-12))
    # Lugannani and Rice: 1 - Phi(r - log(r / v) / r), here with r = sign(t) sqrt(-2 K(t)) and v = t sqrt(K''(t)), in its form by
    # Barndorff-Nielsen, which stays within 0 and 1.
    depth = float((weights * np.log1p(-saddle * steps)).sum())
    curve = float((weights * (steps / (1 - saddle * steps)) ** 2).sum())
    root = copysign(sqrt(max(0.0, 2 * depth)), saddle)
    # Near the mean both r and v go to 0. The limit holds the skewness only: 1/2 - K''' / (6 sqrt(2 pi) K''^(3/2)).
    if abs(root) < NEAR_MEAN:
        second, third = float((weights * steps**2).sum()), 2 * float((weights * steps**3).sum())
        return float(0.5 - third / (6 * sqrt(2 * pi) * second**1.5))
    return float(ndtr(-root - log(saddle * sqrt(curve) / root) / root))
