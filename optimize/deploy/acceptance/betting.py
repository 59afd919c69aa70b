"""Upper bound of the mean of values in 0..1 that holds for every distribution and every number of values.

The bound is that of betting (Waudby-Smith and Ramdas, Journal of the Royal Statistical Society B 86, 2024), with fixed bets. If the true
mean is m, then for every share g in 0..1

    W_g(m) = product over i of (1 + g (m - x_i) / (1 - m))

is the wealth of a player who starts with 1, plays a fair game on each value, and never owes anything: no factor is below 0, since x_i is at
most 1. Its expectation is 1. The same holds for the mean W(m) of several such players, so W(m) is 1 / alpha or more with chance alpha at
most (Markov). W grows with m. The bound is the m where it reaches 1 / alpha: a larger mean would need luck of a chance below alpha.

Nothing is assumed but independent values in 0..1. No spread is estimated, and there is no least number of values.

Example: 200 values of 0, alpha = 5 %. Half of the wealth is with the player g = 1, whose factors are 1 / (1 - m). The bound is near the m
where 0.5 / (1 - m)^200 = 20, which is 1 - 40^(-1/200) = 1.83 %; with the other players it is 1.78 %. That of Clopper and Pearson, which
is for values of 0 and 1 only, is 1.49 %.
"""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt

BETS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.0875, 0.0625, 0.03125)
"""Shares g of the players: large bets are good where all values are near 0, small ones where they spread."""
WEIGHTS = (0.5, *(0.5 / (len(BETS) - 1),) * (len(BETS) - 1))
"""Share of the first wealth that each player has; they sum to 1."""
PRECISION = 1e-9
TINY = 1e-300


def mean_upper_bound(values: npt.NDArray[np.float64], alpha: float, times: float = 1.0) -> float:
    """Return the upper bound of a mean; 1 where there are no values.

    Args:
        values: independent values in 0..1, (n,).
        alpha: chance that the bound is too low, at most.
        times: bound for `times` as many values that are distributed as these.

    Example:
        >>> round(mean_upper_bound(np.zeros(200), 0.05), 4)
        0.0178
    """
    if not len(values):
        return 1.0
    low, high = float(np.mean(values)), 1.0
    # W is 1 or less at the mean of the values (by the concavity of the logarithm), and without end near 1: the root lies in between.
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if log_wealth(values, middle, times) >= -log(alpha) else (middle, high)
    # the upper end, so that the bound errs on the safe side
    return high


def log_wealth(values: npt.NDArray[np.float64], mean: float, times: float = 1.0) -> float:
    """Return log W(m) of the module's docstring, for `times` as many values."""
    if mean >= 1:
        return float("inf")
    gains = (mean - values) / (1 - mean)  # (n,), -1 at the least
    factors = np.maximum(1 + np.asarray(BETS)[:, None] * gains, TINY)  # (players, n)
    return float(np.logaddexp.reduce(np.log(WEIGHTS) + times * np.log(factors).sum(1)))
