"""What a class's few cases cannot tell, the other classes' can: its counts joined by a share of everybody's.

A class of 25 cases that lost one may have lost 4 % or 15 %, so a search that asks each class alone never goes on after the first lost
case. But classes of one network are much alike in what they lose. So each class's counts are joined by as many cases of all classes as
hold one lost case among them,

    b' = b + m B / N,      c' = c + m C / N,      n' = n + m,      m = N / max(1, B)

with b lost, c gained of n cases of the class and B, C, N of all, and bounded by Tango's interval (`guard/intervals.py`). Where losses come
at random and the classes' rates are spread like an exponential distribution, as wide as it is high, that is the weight to give them: its
prior is worth one loss (the gamma-Poisson model: Gelman et al., Bayesian Data Analysis, 3rd edition 2013, section 2.6). What was measured
is never talked down: the upper bound is the measured loss at least.

Subgroups of one column borrow from one another likewise. Cases of the same patient, and figures that are no share of cases, keep their own
bounds. This is for decisions of the search; a verdict with statistics asks each class by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optimize.guard.intervals import Estimate, quantile
from optimize.guard.rail import Rail
from optimize.guard.score_intervals import tango

BORROWED = ", with cases of the others"


def borrowed(rails: Sequence[Rail], confidence: float) -> tuple[Rail, ...]:
    """The rails, those of classes and subgroups with bounds that the others' cases are in.

    Args:
        rails: of one comparison.
        confidence: of either bound.
    """
    return tuple(_joined(rail, rails, confidence) if _lends(rail) else rail for rail in rails)


def _joined(rail: Rail, rails: Sequence[Rail], confidence: float) -> Rail:
    own = rail.bounded
    lost, gained, cases = (sum(counts) for counts in zip(*(_counts(each.bounded) for each in rails if _like(rail, each)), strict=True))
    added = cases / max(1, lost)
    b, c, n = (mine + added * whole / cases for mine, whole in zip(_counts(own), (lost, gained, cases), strict=True))
    low, high = tango(b, c, n, quantile(confidence))
    joined = replace(own, low=min(own.value, low), high=max(own.value, high), method=own.method + BORROWED, odds=None, usual=None)
    return replace(rail, bounded=joined)


def _counts(bounded: Estimate) -> tuple[int, int, int]:
    return bounded.lost or 0, bounded.gained or 0, bounded.n


def _lends(rail: Rail) -> bool:
    """Whether the rail is one of several about shares of independent cases."""
    shares = rail.bounded.lost is not None and rail.bounded.independent and rail.bounded.n > 0
    return shares and rail.rule == "drop" and rail.scope != "overall"


def _like(rail: Rail, other: Rail) -> bool:
    return _lends(other) and (rail.scope, rail.column, rail.figure) == (other.scope, other.column, other.figure)
