"""How far one figure fell against the original's, and what so few cases can tell about it.

Two kinds of figure, one shape. A *share* counts cases: with n of them one case weighs 1/n, so a drop limit L can be told from a single
unlucky case only where n >= 1/L; below that nothing can be told, unless the loss is so large that a drop within the limit would hardly
ever show it (exact one-sided binomial test, p < 0.05: then it fails on any n). A *mean* is taken over patients, each measured before and
after; from fewer than two patients nothing can be told.

`bound` is the drop with the chance in it, the upper end of its one-sided 90 % interval. For a share it is Tango's (1998) score interval of
a paired difference: with b cases that were right and are wrong, c that were wrong and are right, it is the largest d for which

    (b - c - n d) / sqrt(n (2 q + d (1 - d)))  >=  -z,      q = (sqrt(B^2 - 8 n C) - B) / 4 n,
    B = (2 n - b + c) d - b - c,      C = -c d (1 - d)

with z the 90 % point of the normal distribution (q estimates the share of c given d). With c = 0 it is Wilson's (1927). For a mean it is

    drop + t * s / sqrt(n)

with s the standard deviation of the n paired differences and t the 90 % point of Student's distribution with n - 1 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from optimize.guard.limits import points

Outcome = Literal["pass", "fail", "inconclusive"]
SURE = 0.05
LIKELY = 0.9
PATIENTS = 2
"""A mean over fewer has no spread."""
TOLERANCE = 1e-9
"""Two drops closer than this are the same number: a drop of exactly the limit passes."""


@dataclass(frozen=True)
class Drop:
    """How much one figure fell; all figures are fractions.

    Args:
        figure: what it is, in words.
        limit: how much it may fall.
        fall: how much it did; negative where it rose.
        bound: how much it may have fallen with the chance in it, never less than `fall`.
        seen: how many cases or patients it was measured on.
        needed: how many it takes to tell a drop of `limit`.
        unit: "case" or "patient".
        certain: the loss is too large for chance, however few they are.
    """

    figure: str
    limit: float
    fall: float
    bound: float
    seen: int
    needed: int
    unit: str
    certain: bool = False

    @property
    def outcome(self) -> Outcome:
        """Whether the limit is held."""
        if self.seen < self.needed and not self.certain:
            return "inconclusive"
        return "fail" if self.fall > self.limit + TOLERANCE else "pass"

    @property
    def doubt(self) -> str:
        """Why nothing can be told."""
        return f"{self.figure} has {self._seen}; at least {self.needed} are needed to tell a drop of {points(self.limit)}"

    @property
    def _seen(self) -> str:
        return f"{self.seen} {self.unit}{'' if self.seen == 1 else 's'}"

    def __str__(self) -> str:
        return f"{self.figure} fell by {points(self.fall)} on {self._seen}; the limit is {points(self.limit)}"


@dataclass(frozen=True)
class Floor:
    """A figure that must reach a limit, whatever the original's is; all are fractions, a limit of 0 asks for nothing.

    Args:
        figure: what it is, in words.
        value: what it is, in figures.
        limit: what it must reach.
        chance: how much less it may be with the chance in it.
    """

    figure: str
    value: float
    limit: float
    chance: float = 0.0

    @property
    def held(self) -> bool:
        """Whether it does."""
        return self.value >= self.limit - TOLERANCE

    @property
    def surely_held(self) -> bool:
        """Whether it does even with the chance in it."""
        return self.value - self.chance >= self.limit - TOLERANCE

    def __str__(self) -> str:
        return f"{self.figure} is {100 * self.value:.2f} %; the limit is {100 * self.limit:.2f} %"


def share_drop(figure: str, limit: float, cases: int, lost: int, moved: int | None = None) -> Drop:
    """The drop of a share of `cases`, of which `lost` are right no more.

    Args:
        figure: what it is, in words.
        limit: how much it may fall.
        cases: how many there are.
        lost: how many fewer are right.
        moved: how many are wrong now and were right, or the other way; None where only the sums are known, and there are as few as can be.
    """
    needed = ceil(Fraction(1) / Fraction(str(limit))) if limit else 1
    fall = lost / max(1, cases)
    certain = lost > 0 and cases < needed and _too_many(lost, cases, limit)
    bound = _score_bound(lost, abs(lost) if moved is None else moved, cases)
    return Drop(figure, limit, fall, max(fall, bound), cases, needed, "case", certain)


def mean_drop(figure: str, limit: float, fall: float, differences: Sequence[float]) -> Drop:
    """The drop of a mean over patients, each of whom lost one of `differences`."""
    bound = fall + mean_chance(differences) if len(differences) >= PATIENTS else max(1.0, fall)  # the most there can be
    return Drop(figure, limit, fall, bound, len(differences), PATIENTS, "patient")


def mean_chance(values: Sequence[float]) -> float:
    """How far chance may take a mean over patients to one side, see above; two are needed."""
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, LIKELY)) * float(np.std(values, ddof=1)) / sqrt(len(values))


def _too_many(lost: int, cases: int, limit: float) -> bool:
    from scipy.stats import binomtest

    return bool(binomtest(lost, cases, limit, alternative="greater").pvalue < SURE)


def _score_bound(lost: int, moved: int, cases: int) -> float:
    """Upper end of Tango's interval, see above."""
    if lost <= 0:
        return 0.0
    if lost >= cases:
        return 1.0
    from scipy.optimize import brentq

    z, fixed = NormalDist().inv_cdf(LIKELY), (moved - lost) // 2

    def beyond(drop: float) -> float:
        linear = (2 * cases - lost) * drop - moved
        constant = -fixed * drop * (1 - drop)
        share = (sqrt(linear**2 - 8 * cases * constant) - linear) / (4 * cases)
        return lost - cases * drop + z * sqrt(cases * (2 * share + drop * (1 - drop)))

    return float(brentq(beyond, lost / cases, 1.0))
