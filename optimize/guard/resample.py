"""What chance may have done to a figure that is no plain share: the paired bootstrap.

Cases are drawn again, with replacement and as many as there are, and both models' figures are taken on the same draw (Efron and Tibshirani,
An Introduction to the Bootstrap, 1993); where patients are known, whole patients are drawn. The bounds are percentiles of the drawn drops,
taken a little further out, since draws from few cases spread too little (expanded percentiles: Hesterberg, The American Statistician 69,
2015): at the level Phi(t sqrt(n / (n - 1))), with t of Student's distribution with n - 1 degrees of freedom. A figure that chance alone makes
larger, such as a calibration error, is moved back by twice the drawn bias.

What never happened in the sample never happens in a draw either, and a class of a dozen cases that were all right would look beyond doubt.
So each draw of a class's figure also gets, in both directions, Poisson(1/2) cases that moved (half a case is the weight that Jeffreys'
prior gives to what was not seen); with patients, so many times their mean number of cases. A figure that no draw can tell, since the class
is in none, has the widest bounds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr

from optimize.guard.paired import Bounded, Doubles, Integers, Interval, quantile

DRAWS = 2000
VALUES_AT_ONCE = 2**22
UNSEEN = 0.5
BOOTSTRAP = "paired bootstrap of cases"
BOOTSTRAP_OF_PATIENTS = "paired bootstrap of patients"

Weights: TypeAlias = Doubles
"""How often each case was drawn, (draws, n)."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One block of draws.

    Args:
        weights: how often each case was drawn, (draws, n).
        unseen: four numbers of unseen cases for each draw, (draws, 4), to be added to counts of cases that moved.
    """

    weights: Weights
    unseen: Doubles


Pair: TypeAlias = Callable[[Drawn], tuple[Doubles, Doubles]]
"""A figure before and after on each draw, both (draws,); NaN where a draw says nothing."""


def draw(pairs: Mapping[str, Pair], cases: int, patients: Integers | None = None, draws: int = DRAWS, seed: int = 0) -> dict[str, Doubles]:
    """Figures on drawn cases, (2, draws) each: before and after.

    Args:
        pairs: the figures by name; all see the same draws.
        cases: n.
        patients: number of each case's patient, (n,), from 0 without gaps; None where every case stands for itself.
        draws: how many.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    units = cases if patients is None else int(patients.max()) + 1
    rows = max(1, VALUES_AT_ONCE // max(1, cases))
    parts: dict[str, list[Doubles]] = {name: [] for name in pairs}
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        picked = generator.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        weights = np.bincount(picked.reshape(-1), minlength=count * units).reshape(count, units).astype(np.float64)
        unseen: Doubles = generator.poisson(UNSEEN, (count, 4)).astype(np.float64) * (cases / units)
        block = Drawn(weights if patients is None else weights[:, patients], unseen)
        for name, pair in pairs.items():
            parts[name].append(np.stack(pair(block)))
    return {name: np.concatenate(each, axis=1) for name, each in parts.items()}


def once(pair: Pair, cases: int) -> tuple[float, float]:
    """The figure before and after on the cases as they are."""
    before, after = pair(Drawn(np.ones((1, cases)), np.zeros((1, 4))))
    return float(before[0]), float(after[0])


def bounded(
    values: Doubles,
    value: float,
    confidence: float,
    cases: int,
    patients: Integers | None,
    worst: Interval = (-1.0, 1.0),
    *,
    biased: bool = False,
) -> Bounded:
    """Percentile bounds.

    Args:
        values: the drawn ones, (draws,); NaN where a draw says nothing.
        value: on the cases as they are.
        confidence: of either bound.
        cases: how many of them the figure is about.
        patients: of those cases, or None.
        worst: the bounds where the draws cannot tell.
        biased: chance alone moves the figure to one side.
    """
    known = values[~np.isnan(values)]
    # A figure that draws often lack is known too badly for percentiles.
    units = cases if patients is None else len(np.unique(patients))
    low, high = worst
    if len(known) > confidence * len(values) and units > 1:
        level = float(ndtr(quantile(confidence, units - 1) * (units / (units - 1)) ** 0.5))
        shift = 2 * (float(known.mean()) - value) if biased else 0.0
        low, high = (float(end) - shift for end in np.quantile(known, [1 - level, level]))
    low, high = min(low, value), max(high, value)

    def widened(times: float) -> Interval:
        return value - (value - low) / times**0.5, value + (high - value) / times**0.5

    if patients is None:
        return Bounded(value, low, high, cases, "cases", BOOTSTRAP, widened)
    return Bounded(value, low, high, units, "patients", BOOTSTRAP_OF_PATIENTS, widened)


def total(weights: Weights, columns: Sequence[Doubles] | Doubles) -> Doubles:
    """Weighted sums of columns (n,) or (n, m) over the cases, (draws, m)."""
    return weights @ (np.stack(list(columns), axis=1) if isinstance(columns, Sequence) else columns)
