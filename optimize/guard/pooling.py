"""Bounds for the search of a small class's drop, which also use cases of the other classes.

A class of 25 cases that lost one may truly lose 4 % or 15 %. A search that bounds each class alone never goes on after the first lost case.
But the classes of one network lose about as much. So cases of all classes are added to the counts of a class, as many as hold one lost
case,

    b' = b + m B / N,      c' = c + m C / N,      n' = n + m,      m = N / max(1, B)

with b lost and c gained of the n cases of the class, and B, C, N of all classes. Tango's interval (`optimize.guard.score_intervals`) bounds
the sum. Why one lost case: if losses come at random, and the rates of the classes follow an exponential distribution, the prior is worth
one loss (the gamma-Poisson model: Gelman et al., Bayesian Data Analysis, 3rd edition 2013, section 2.6). The upper bound is never below the
measured loss.

Example: a class lost 1 of 25 cases, and all classes together 4 of 1,000. Then m = 250 cases with 1 lost are added: 2 of 275, whose upper
bound at 90 % is about 2 %, where 1 of 25 alone has about 12 %; but never less than the measured 4 %.

Subgroups of one column are pooled in the same way. Cases of the same patient, and figures that are no share of cases, keep their own
bounds. Only the search uses pooled bounds; a statistical verdict judges each class by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optimize.guard.intervals import Estimate, quantile
from optimize.guard.rail import Rail
from optimize.guard.score_intervals import tango

POOLED = ", with cases of the others"


def pooled(rails: Sequence[Rail], confidence: float) -> tuple[Rail, ...]:
    """The rails, those of classes and subgroups with pooled bounds.

    Args:
        rails: all rails of one comparison.
        confidence: confidence of each bound.
    """
    return tuple(_joined(rail, rails, confidence) if _can_pool(rail) else rail for rail in rails)


def _joined(rail: Rail, rails: Sequence[Rail], confidence: float) -> Rail:
    own = rail.estimate
    lost, gained, cases = (sum(counts) for counts in zip(*(_counts(other.estimate) for other in rails if _like(rail, other)), strict=True))
    # With no loss anywhere, all cases are added: then nothing says that this class differs from the others.
    added = cases / max(1, lost)
    b, c, n = (mine + added * whole / cases for mine, whole in zip(_counts(own), (lost, gained, cases), strict=True))
    # Fractions of cases are fine here: Tango's formula needs no whole numbers.
    low, high = tango(b, c, n, quantile(confidence))
    # Pooling may make a bound narrower, but never so narrow that it leaves out what was measured in the class itself.
    joined = replace(own, low=min(own.value, low), high=max(own.value, high), method=own.method + POOLED, odds=None, usual=None)
    return replace(rail, estimate=joined)


def _counts(bounded: Estimate) -> tuple[int, int, int]:
    return bounded.lost or 0, bounded.gained or 0, bounded.n


def _can_pool(rail: Rail) -> bool:
    """Whether the rail is the drop of a share of independent cases, in a class or a subgroup."""
    # The overall rail already uses all cases. Cases of one patient have a design effect of their own, which a sum of counts would lose.
    is_share = rail.estimate.lost is not None and rail.estimate.independent and rail.estimate.n > 0
    return is_share and rail.rule == "drop" and rail.scope != "overall"


def _like(rail: Rail, other: Rail) -> bool:
    # Only rails of one kind share their cases: recall of a class says nothing about the accuracy of a hospital.
    return _can_pool(other) and (rail.scope, rail.column, rail.figure) == (other.scope, other.column, other.figure)
