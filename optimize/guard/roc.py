"""The area under the curve of each class against the rest, and what chance may have done to the drop of its mean over the classes.

The area is the chance that a positive case scores above another, ties counting half (Mann and Whitney). A case's *placement* is the share
of cases of the other kind that it is on the right side of; the area is the mean of the placements of either kind, and the variance of a
difference of areas follows from the differences of placements (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988):

    var = sum over cases of e^2,      e = ((placement before - after) - (area before - after)) / (number of its kind),

averaged over the classes before it is squared; for cases of the same patient the e are added up first (Obuchowski, Biometrics 53, 1997),
Student's distribution takes the place of the normal one, and Hall's interval that of a symmetric one where the e are skewed
(`optimize.guard.intervals`). Where a class was told apart without a mistake before and after, one positive case out of place that was not
seen is added to the variance. The search goes by these bounds.

With few positive cases they promise too much: one positive in m / 3 may come to lie behind every other case without any such among m. So
the verdict's bound of the drop holds one more case of the rarest class against the model, which loses all of its placement
(`optimize.guard.worst_case`). No number of positives below 3 / limit can pass then, as with a recall.
"""

from __future__ import annotations

from math import hypot, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from optimize.guard.intervals import ANYTHING, NO_SPREAD, Estimate, normal_odds, quantile, reach, with_worst
from optimize.guard.score_intervals import Booleans, Doubles, Integers, Interval

DELONG = "placements with a worst case (DeLong 1988, Gaffke 2005)"
DELONG_OF_PATIENTS = "placements of patients with a worst case (Obuchowski 1997, Gaffke 2005)"


def placements(scores: npt.NDArray[Any], positive: Booleans) -> Doubles:
    """Share of the cases of the other kind that each case is on the right side of, ties counting half, (N,)."""
    ranks = rankdata(scores)
    placed = np.empty(len(scores))
    for own in (positive, ~positive):
        others = max(1, len(scores) - int(own.sum()))
        below = (ranks[own] - rankdata(scores[own])) / others
        placed[own] = below if own is positive else 1 - below
    return placed


def macro_auc(shares: npt.NDArray[Any], labels: Integers) -> float | None:
    """Mean over the classes that can be told from the rest; None where none can.

    Args:
        shares: of each answer, (N, K).
        labels: true classes, (N,).
    """
    told = _ranked_classes(labels, shares.shape[1])
    return float(np.mean([placements(shares[:, k], labels == k)[labels == k].mean() for k in told])) if len(told) else None


def auc_drop(
    baseline: npt.NDArray[Any],
    candidate: npt.NDArray[Any],
    labels: Integers,
    confidence: float,
    patients: Integers | None = None,
    share: float = 0.0,
) -> tuple[Estimate, float, float]:
    """The drop of `macro_auc`, the baseline's figure, and the candidate's figure.

    Args:
        baseline: the original's probabilities, (N, K).
        candidate: the candidate's probabilities, (N, K).
        labels: true classes, (N,).
        confidence: confidence of each bound.
        patients: patient number of each case, (N,); None where every case stands for itself.
        share: share of the baseline's figure that may be lost; the spread is then that of (1 - share) * baseline - candidate.
    """
    cases, told = len(labels), _ranked_classes(labels, baseline.shape[1])
    if not len(told):
        return Estimate(0.0, *ANYTHING, 0, "cases", DELONG, None), 0.0, 0.0
    old, new, unseen = [], [], 0.0
    pulls: Doubles = np.zeros(cases)
    for k in told:
        positive = labels == k
        each = [placements(side[:, k], positive) for side in (baseline, candidate)]
        areas = [float(placed[positive].mean()) for placed in each]
        old.append(areas[0])
        new.append(areas[1])
        counts = np.where(positive, positive.sum(), (~positive).sum())
        contrast = (1 - share) * (each[0] - areas[0]) - (each[1] - areas[1])
        pulls += contrast / counts / len(told)
        unseen += (areas[0] == areas[1] == 1.0) / (int(positive.sum()) * len(told)) ** 2
    units, together = cases, 1.0
    if patients is not None:
        pulls = np.bincount(patients, weights=pulls).astype(np.float64)
        units, sizes = len(pulls), np.bincount(patients)
        together = float((sizes**2).sum() / sizes.sum())
    value = float(np.mean(old) - np.mean(new))
    spread = sqrt(float((pulls**2).sum()) * units**2 / max(1, units - 1))
    third = float((pulls**3).mean() / (pulls**2).mean() ** 1.5) if spread > NO_SPREAD else 0.0

    def usual(times: float) -> Interval:
        place = quantile(confidence, times * units - 1)
        below, above = (hypot(spread * far, place * sqrt(unseen) / times) for far in reach(place, times * units, third))
        return max(-1.0, value - below), min(1.0, value + above)

    worst = value + units * together * _worst(labels, told)

    def sure(times: float) -> Interval:
        return with_worst(usual(times), units * (pulls - pulls.mean()), value, worst, confidence, times)

    method, unit = (DELONG, "cases") if patients is None else (DELONG_OF_PATIENTS, "patients")
    odds = normal_odds(sure, spread / sqrt(units))
    found = Estimate(value, *sure(1.0), units, unit, method, odds, usual=usual(1.0))
    return found, float(np.mean(old)), float(np.mean(new))


def _worst(labels: Integers, told: list[int]) -> float:
    """By how much a single case can make the mean area fall: one of the rarest class that comes to lie behind all others.

    It loses its placement among its own class, and all other classes lose it among the rest.
    """
    counts = np.bincount(labels, minlength=max(told) + 1)[told]
    others = 1 / (len(labels) - counts)
    return float((1 / counts + others.sum() - others).max() / len(told))


def _ranked_classes(labels: Integers, classes: int) -> list[int]:
    """Classes that some cases have and some have not."""
    counts = np.bincount(labels, minlength=classes)
    return np.flatnonzero((counts > 0) & (counts < len(labels))).tolist()
