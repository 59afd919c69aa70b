"""Bounds of the drop of a figure that is not a share of cases, such as F1, by the paired bootstrap.

A draw takes n of the n cases with replacement, and both models' figures are taken on the same draw. Where patients are known, a draw takes
whole patients. Example: of 4 cases a draw may have the weights (2, 0, 1, 1): the first case twice, the second not at all. Both models
are judged on the same draw, so a hard case that both get wrong widens no bound.

The bounds are percentiles of the drops on the draws, corrected for bias and skewness (BCa: Efron, Journal of the American Statistical
Association 82, 1987): with p the share of draws below the measured drop, z0 = Phi^-1(p) and z the point of the normal distribution at the
bound's level, the percentile is taken at

    Phi(z0 + (z0 + z) / (1 - a (z0 + z))),      a = sum u^3 / (6 (sum u^2)^(3/2)),

where u are the differences of the jackknife: the mean of the figures without one block of cases, minus each such figure. Draws from few
cases spread too little, so the level is that of Student's distribution with n - 1 degrees of freedom, times sqrt(n / (n - 1)) (Hesterberg,
The American Statistician 69, 2015).

What does not happen in the sample does not happen in a draw either. A class of 12 cases that were all right would have a bound of exactly
0. So each draw of a class's figure also gets Poisson(1) changed decisions in each direction (as Laplace's rule adds one case); with
patients, that number times their mean number of cases. A draw that holds no case of the class has no figure. Where this happens too often,
the figure has the widest bounds there are, from -1 to 1.

The verdict's upper bound is the larger of two: the percentile, and the bound of the mean of the jackknife's pseudo-values with a worst case
(`optimize.guard.worst_case`), that is one more case, which is lost. The search uses the percentiles.
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
"""Weights that are held in memory at a time: 32 MiB of doubles."""
BLOCKS = 400
"""Largest number of blocks that the jackknife leaves out one by one; more would cost time and change the skewness little."""
UNSEEN = 1.0
TIE = 1e-12
BOOTSTRAP = "paired bootstrap of cases (BCa), with a worst case (Gaffke 2005)"
BOOTSTRAP_OF_PATIENTS = "paired bootstrap of patients (BCa), with a worst case (Gaffke 2005)"


@dataclass(frozen=True, eq=False)
class Draws:
    """One block of bootstrap draws.

    Args:
        weights: number of times that each draw holds each case, (draws, n).
        unseen: numbers of cases that each draw adds to the counts of changed decisions, (draws, 4, K), in the order of
            `ClassComparison`: cases of the class lost and gained, other cases no longer and newly taken for it.
    """

    weights: Doubles
    unseen: Doubles


PairedFigure: TypeAlias = Callable[[Draws], tuple[Doubles, Doubles]]
"""The baseline's and the candidate's figure on each draw, both (draws,); NaN where a draw says nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One figure of both models on the draws and on the jackknife's samples.

    Args:
        replicates: the figure on each draw, (2, draws): baseline, candidate. Of a difference, (1, draws).
        jackknife: the figure without each block of cases, (2, blocks) or (1, blocks).
    """

    replicates: Doubles
    jackknife: Doubles

    def drops(self) -> Sample:
        """The drops, baseline minus candidate: (1, draws) and (1, blocks)."""
        return Sample(*(figures[:1] - figures[1:] for figures in (self.replicates, self.jackknife)))

    def relative_drops(self, baseline: float) -> Sample:
        """The relative losses, times the baseline's figure on all cases, so that they have the unit of a drop.

        Example: the figure is 0.9 on all cases. A draw on which it falls from 0.8 to 0.6 loses a quarter, which is 0.225 of 0.9.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            # A draw on which the original got nothing right has no ratio. NaN takes the draw out; 0 would say that nothing was lost.
            losses = (baseline * np.where(old > 0, 1 - new / old, np.nan) for old, new in (self.replicates, self.jackknife))
            return Sample(*(values[None] for values in losses))


def sample(
    pairs: Mapping[str, PairedFigure], cases: int, classes: int = 1, patients: Integers | None = None, draws: int = DRAWS, seed: int = 0
) -> dict[str, Sample]:
    """The figures on the bootstrap's draws, and on all cases but one block (the jackknife).

    Args:
        pairs: the figures by name; all are taken on the same draws.
        cases: number of cases n.
        classes: number of classes K.
        patients: patient number of each case, (n,), from 0 without gaps; None where every case stands for itself.
        draws: number of draws.
        seed: seed of the draws, and of the assignment of cases to blocks.
    """
    # Two generators, so that the number of classes does not change which cases are drawn.
    generator, extra = np.random.default_rng(seed).spawn(2)
    n_independent = cases if patients is None else int(patients.max()) + 1

    def figures(weights: Doubles, unseen: Doubles) -> dict[str, Doubles]:
        # A patient's weight goes to each of its cases: patients [0, 0, 1] with weights (2, 0) give the cases (2, 2, 0).
        block = Draws(weights if patients is None else weights[:, patients], unseen)
        return {name: np.stack(pair(block)) for name, pair in pairs.items()}

    # 10,000 cases take 419 draws at a time; all 2,000 at once would take 160 MB for the weights alone.
    rows = max(1, VALUES_AT_ONCE // max(1, cases))
    parts: list[dict[str, Doubles]] = []
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        # Row i has the numbers i * n … i * n + n - 1, so that one bincount counts all rows. Of 3 cases, row 1: {3, 5, 5} -> (1, 0, 2).
        picked = generator.integers(0, n_independent, (count, n_independent)) + n_independent * np.arange(count)[:, None]
        weights = np.bincount(picked.reshape(-1), minlength=count * n_independent).reshape(count, n_independent).astype(np.float64)
        unseen: Doubles = extra.poisson(UNSEEN, (count, 4, classes)).astype(np.float64) * (cases / n_independent)
        parts.append(figures(weights, unseen))
    # With up to 400 cases each is a block of its own, the usual jackknife; else cases are dealt to 400 blocks at random.
    blocks = min(n_independent, BLOCKS)
    # In random order, since cases often stand in the order of their classes, and a block of one class would look like a skewed figure.
    left_out = extra.permutation(n_independent) % blocks
    without: list[dict[str, Doubles]] = []
    for start in range(0, blocks, rows):
        kept = (left_out != np.arange(start, min(start + rows, blocks))[:, None]).astype(np.float64)
        without.append(figures(kept, np.zeros((len(kept), 4, classes))))
    return {name: Sample(*(np.concatenate([part[name] for part in each], axis=1) for each in (parts, without))) for name in pairs}


def on_all_cases(pair: PairedFigure, cases: int, classes: int = 1) -> tuple[float, float]:
    """The baseline's and the candidate's figure on all cases, each taken once.

    Args:
        pair: the figure of both models.
        cases: number of cases n.
        classes: number of classes K.
    """
    baseline, candidate = pair(Draws(np.ones((1, cases)), np.zeros((1, 4, classes))))
    return float(baseline[0]), float(candidate[0])


def bootstrap_estimate(
    samples: Sample,
    value: float,
    confidence: float,
    cases: int,
    patients: Integers | None,
    worst: float = 0.0,
) -> Estimate:
    """The figure with its bounds, by the method of this module.

    Args:
        samples: the figure to be bounded, on each draw (1, draws) and without each block (1, blocks); NaN where a draw has no figure.
        value: the figure on all cases.
        confidence: confidence of each bound.
        cases: number of cases that the figure is about.
        patients: patient number of each of those cases, (cases,); None where every case stands for itself.
        worst: largest change of the figure by one more case.
    """
    known = samples.replicates[0][~np.isnan(samples.replicates[0])]
    n_independent = cases if patients is None else len(np.unique(patients))
    method, unit = (BOOTSTRAP, "cases") if patients is None else (BOOTSTRAP_OF_PATIENTS, "patients")
    low, high = ANYTHING
    # With 5 % or more of the draws missing, a 95 % percentile of the rest could be the 90 % percentile of all.
    enough = len(known) > confidence * samples.replicates.size and n_independent > 1
    if enough:
        # Draws spread by sqrt((n - 1) / n) too little, and Student's point takes the place of the normal one: together 17 % for n = 10.
        critical = quantile(confidence, n_independent - 1) * (n_independent / (n_independent - 1)) ** 0.5
        low, high = (float(np.quantile(known, _level(known, samples.jackknife[0], value, z))) for z in (-critical, critical))
    # With few cases the corrected percentile can end on the wrong side of the measured figure, which must lie between its own bounds.
    low, high = min(low, value), max(high, value)
    usual = low, high
    if enough:
        # A patient of average size moves the figure by as many times as much as a case as the patient has cases.
        high = min(1.0, max(high, value + _with_worst(samples.jackknife[0], worst * cases / n_independent, confidence)))

    def interval(times: float) -> Interval:
        # How far the bounds of more cases would lie, without new draws: the present distances shrink with the root of the cases.
        return value - (value - low) / times**0.5, value + (high - value) / times**0.5

    odds = normal_odds(interval, float(known.std())) if enough else None
    return Estimate(value, low, high, n_independent, unit, method, odds, usual=usual)


def _with_worst(jackknife: Doubles, worst: float, confidence: float) -> float:
    """How far above the figure its true value may lie, if one more case or patient would move the figure by `worst`.

    The pseudo-values (n - 1) (mean - figure without i) turn the figure into a mean of n values, to which the bound of a mean applies. For
    a share they are the cases themselves: 1 lost of 4 cases gives 0.75, -0.25, -0.25, -0.25 around the share 0.25.
    """
    known = jackknife[~np.isnan(jackknife)]
    # One pseudo-value has no spread, and so says nothing about a further case.
    if len(known) < 2:
        return 0.0
    return mean_high((len(known) - 1) * (known.mean() - known), len(known) * worst, 1 - confidence)


def _level(replicates: Doubles, jackknife: Doubles, value: float, z: float) -> float:
    """The level of the percentile for point z of the normal distribution: the formula of BCa in the module's docstring."""
    # Ties count half, since figures of few cases take few values: with 40 % of draws below and 20 % equal, p is 50 % and z0 is 0.
    below = float((replicates < value - TIE).mean() + (np.abs(replicates - value) <= TIE).mean() / 2)
    # With all 2,000 draws on one side p would be 0 or 1, and z0 infinite; one draw is taken to lie on the other side.
    bias = float(ndtri(np.clip(below, 1 / len(replicates), 1 - 1 / len(replicates))))
    known = jackknife[~np.isnan(jackknife)]
    gaps = known.mean() - known if len(known) else known
    spread = float((gaps**2).sum())
    # Where leaving out cases changes nothing there is no skewness to correct; the division would be 0 / 0.
    skewness = float((gaps**3).sum()) / (6 * spread**1.5) if spread > TIE**2 else 0.0
    # Beyond this pole the formula turns round; the limit on either side is the end of the draws.
    denominator = 1 - skewness * (bias + z)
    return float(ndtr(bias + (bias + z) / denominator)) if denominator > 0 else float(z > 0)
