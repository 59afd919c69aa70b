"""Bounds of the drop of a figure that is no plain share, such as F1: the paired bootstrap.

As many cases as there are are drawn with replacement, and both models' figures are taken on the same draw. Where patients are known, whole
patients are drawn. Example: of 4 cases a draw may have the weights (2, 0, 1, 1): the first case twice, the second not at all. Both models
are judged on the same draw, so a hard case that both get wrong widens no bound.

The bounds are percentiles of the drawn drops, corrected for bias and skewness (BCa: Efron, Journal of the American Statistical Association
82, 1987): with p the share of draws below the measured drop, z0 = Phi^-1(p) and z the point of the normal
distribution at the bound's level, the percentile is taken at

    Phi(z0 + (z0 + z) / (1 - a (z0 + z))),      a = sum u^3 / (6 (sum u^2)^(3/2)),

where u are the differences of the jackknife: the mean of the figures without one block of cases, minus each. Draws from few cases spread
too little, so the level is that of Student's distribution with n - 1 degrees of freedom, times sqrt(n / (n - 1)) (Hesterberg, The American
Statistician 69, 2015).

What never happened in the sample never happens in a draw either, and a class of a dozen cases that were all right would look beyond doubt.
So each draw of a class's figure also gets, in both directions, Poisson(1) cases that moved (Laplace's one for what was not seen);
with patients, so many times their mean number of cases. A figure that too many draws cannot tell, since they lack the class, has the widest
bounds there are.

The verdict's upper bound is that of the pseudo-values of the jackknife with a worst case (`optimize.guard.worst_case`), where that is
further out: a case that was not seen and is lost. The search goes by the percentiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from optimize.guard.intervals import ANYTHING, Estimate, normal_odds, quantile
from optimize.guard.score_intervals import Doubles, Integers, Interval
from optimize.guard.worst_case import mean_high

DRAWS = 2000
VALUES_AT_ONCE = 2**22
BLOCKS = 400
UNSEEN = 1.0
TIE = 1e-12
BOOTSTRAP = "paired bootstrap of cases (BCa), with a worst case (Gaffke 2005)"
BOOTSTRAP_OF_PATIENTS = "paired bootstrap of patients (BCa), with a worst case (Gaffke 2005)"


@dataclass(frozen=True, eq=False)
class Draws:
    """One block of bootstrap draws.

    Args:
        weights: how often each draw holds each case, (draws, n).
        unseen: numbers of cases that each draw adds to the counts of changed decisions, (draws, 4, K), in the order of
            `ClassComparison`: cases of the class lost and gained, other cases no longer and newly taken for it.
    """

    weights: Doubles
    unseen: Doubles


Pair: TypeAlias = Callable[[Draws], tuple[Doubles, Doubles]]
"""The baseline's and the candidate's figure on each draw, both (draws,); NaN where a draw says nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What the draws and the jackknife said of one figure: before and after, (2, draws) and (2, blocks)."""

    drawn: Doubles
    without: Doubles

    def drops(self) -> Sample:
        """Before minus after, (1, …)."""
        return Sample(*(each[:1] - each[1:] for each in (self.drawn, self.without)))

    def shares_lost(self, before: float) -> Sample:
        """What was lost in shares of the figure before, times that figure as it is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            each = (before * np.where(old > 0, 1 - new / old, np.nan) for old, new in (self.drawn, self.without))
            return Sample(*(values[None] for values in each))


def sample(
    pairs: Mapping[str, Pair], cases: int, classes: int = 1, patients: Integers | None = None, draws: int = DRAWS, seed: int = 0
) -> dict[str, Sample]:
    """Figures on drawn cases, and on all but one block of them.

    Args:
        pairs: the figures by name; all see the same draws.
        cases: n.
        classes: K.
        patients: number of each case's patient, (n,), from 0 without gaps; None where every case stands for itself.
        draws: how many.
        seed: of the draws, and of the blocks.
    """
    generator, extra = np.random.default_rng(seed).spawn(2)
    units = cases if patients is None else int(patients.max()) + 1

    def figures(weights: Doubles, unseen: Doubles) -> dict[str, Doubles]:
        block = Draws(weights if patients is None else weights[:, patients], unseen)
        return {name: np.stack(pair(block)) for name, pair in pairs.items()}

    rows = max(1, VALUES_AT_ONCE // max(1, cases))
    parts: list[dict[str, Doubles]] = []
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        picked = generator.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        weights = np.bincount(picked.reshape(-1), minlength=count * units).reshape(count, units).astype(np.float64)
        unseen: Doubles = extra.poisson(UNSEEN, (count, 4, classes)).astype(np.float64) * (cases / units)
        parts.append(figures(weights, unseen))
    blocks = min(units, BLOCKS)
    left_out = extra.permutation(units) % blocks
    without: list[dict[str, Doubles]] = []
    for start in range(0, blocks, rows):
        kept = (left_out != np.arange(start, min(start + rows, blocks))[:, None]).astype(np.float64)
        without.append(figures(kept, np.zeros((len(kept), 4, classes))))
    return {name: Sample(*(np.concatenate([part[name] for part in each], axis=1) for each in (parts, without))) for name in pairs}


def once(pair: Pair, cases: int, classes: int = 1) -> tuple[float, float]:
    """The figure before and after on the cases as they are; `classes` is K."""
    before, after = pair(Draws(np.ones((1, cases)), np.zeros((1, 4, classes))))
    return float(before[0]), float(after[0])


def bootstrap_estimate(
    samples: Sample,
    value: float,
    confidence: float,
    cases: int,
    patients: Integers | None,
    worst: float = 0.0,
) -> Estimate:
    """The figure with its bounds, see above.

    Args:
        samples: the figure to be bounded, on each draw (1, draws) and without each block (1, blocks); NaN where a draw says nothing.
        value: the figure on the cases as they are.
        confidence: confidence of each bound.
        cases: number of cases that the figure is about.
        patients: patient number of each of those cases, (cases,); None where every case stands for itself.
        worst: by how much one case more may move the figure.
    """
    known = samples.drawn[0][~np.isnan(samples.drawn[0])]
    units = cases if patients is None else len(np.unique(patients))
    method, unit = (BOOTSTRAP, "cases") if patients is None else (BOOTSTRAP_OF_PATIENTS, "patients")
    low, high = ANYTHING
    # A figure that draws often lack is known too badly for percentiles.
    told = len(known) > confidence * samples.drawn.size and units > 1
    if told:
        place = quantile(confidence, units - 1) * (units / (units - 1)) ** 0.5
        low, high = (float(np.quantile(known, _level(known, samples.without[0], value, z))) for z in (-place, place))
    low, high = min(low, value), max(high, value)
    usual = low, high
    if told:
        high = min(1.0, max(high, value + _with_worst(samples.without[0], worst * cases / units, confidence)))

    def interval(times: float) -> Interval:
        return value - (value - low) / times**0.5, value + (high - value) / times**0.5

    odds = normal_odds(interval, float(known.std())) if told else None
    return Estimate(value, low, high, units, unit, method, odds, usual=usual)


def _with_worst(without: Doubles, worst: float, confidence: float) -> float:
    """How far above the figure the mean of the jackknife's pseudo-values may lie, with one unit more that moves the figure by `worst`."""
    left = without[~np.isnan(without)]
    if len(left) < 2:
        return 0.0
    return mean_high((len(left) - 1) * (left.mean() - left), len(left) * worst, 1 - confidence)


def _level(drawn: Doubles, without: Doubles, value: float, place: float) -> float:
    """The percentile that stands for this point of the normal distribution."""
    # Ties count half: figures of few cases take few values.
    below = float((drawn < value - TIE).mean() + (np.abs(drawn - value) <= TIE).mean() / 2)
    middle = float(ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn))))
    left = without[~np.isnan(without)]
    gaps = left.mean() - left if len(left) else left
    spread = float((gaps**2).sum())
    skewness = float((gaps**3).sum()) / (6 * spread**1.5) if spread > TIE**2 else 0.0
    room = 1 - skewness * (middle + place)
    return float(ndtr(middle + (middle + place) / room)) if room > 0 else float(place > 0)
