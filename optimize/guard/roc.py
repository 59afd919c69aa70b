"""The area under the ROC curve (AUC) of each class against the rest, and bounds of the drop of its mean over the classes.

The area is the chance that a positive case scores above a negative one; ties count half (Mann and Whitney). The *placement* of a case is
the share of the cases of the other kind that it is ranked correctly against. The area is the mean placement of the positive cases, and also
of the negative ones. Example: positives score 0.9, 0.7, 0.4 and negatives 0.6, 0.3, 0.2. The third positive is above two of three
negatives, so the placements are 1, 1, 2/3, and those of the negatives 2/3, 1, 1. The area is 8/9 by both.

The variance of a difference of two areas follows from the differences of placements (DeLong, DeLong and Clarke-Pearson, Biometrics 44,
1988):

    var = sum over cases of e^2,
    e = ((placement baseline - candidate) - (area baseline - candidate)) / (number of cases of its kind).

It works because an area is a mean over positives of means over negatives: e is what one case adds to the difference, its influence. The
influences are averaged over the classes before they are squared. Those of one patient are added up first (Obuchowski, Biometrics 53, 1997).
Student's distribution takes the place of the normal one, and Hall's interval that of a symmetric one where the e are skewed
(`optimize.guard.intervals`). If both models separate a class without a mistake, every e is 0; then one misplaced positive case that the
sample does not hold is added to the variance. The search uses these bounds.

With few positive cases these bounds are too narrow: one positive in m / 3 may come to lie behind all other cases although none of m does.
So the verdict's bound of the drop includes one more case of the rarest class, which loses all of its placement
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
    """The placement of each case, (N,): the share of the cases of the other kind that it is ranked correctly against; ties count half.

    Args:
        scores: probability of the class, (N,).
        positive: whether each case is of the class, (N,).
    """
    ranks = rankdata(scores)
    placed = np.empty(len(scores))
    for own in (positive, ~positive):
        n_others = max(1, len(scores) - int(own.sum()))
        # Rank among all minus rank among its own kind is the number of cases of the other kind below it.
        below = (ranks[own] - rankdata(scores[own])) / n_others
        # A positive case is right to be above the negatives, and a negative case is right not to be above the positives.
        placed[own] = below if own is positive else 1 - below
    return placed


def macro_auc(probabilities: npt.NDArray[Any], labels: Integers) -> float | None:
    """The mean AUC over the classes that have both positive and negative cases; None where no class has.

    Args:
        probabilities: probability of each class for each case, (N, K).
        labels: true classes, (N,).
    """
    ranked = _ranked_classes(labels, probabilities.shape[1])
    return float(np.mean([placements(probabilities[:, k], labels == k)[labels == k].mean() for k in ranked])) if len(ranked) else None


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
    cases, ranked = len(labels), _ranked_classes(labels, baseline.shape[1])
    if not len(ranked):
        return Estimate(0.0, *ANYTHING, 0, "cases", DELONG, None), 0.0, 0.0
    old, new, unseen = [], [], 0.0
    influences: Doubles = np.zeros(cases)
    for k in ranked:
        positive = labels == k
        placed_by_model = [placements(side[:, k], positive) for side in (baseline, candidate)]
        areas = [float(placed[positive].mean()) for placed in placed_by_model]
        old.append(areas[0])
        new.append(areas[1])
        counts = np.where(positive, positive.sum(), (~positive).sum())
        # With a relative limit of 2 % the candidate must keep 98 % of the baseline's area, so the spread is that of 0.98 * baseline -
        # candidate.
        contrast = (1 - share) * (placed_by_model[0] - areas[0]) - (placed_by_model[1] - areas[1])
        influences += contrast / counts / len(ranked)
        # Both models are perfect here. One misplaced positive of m would move the class's area by up to 1 / m, the mean by 1 / (m K).
        unseen += (areas[0] == areas[1] == 1.0) / (int(positive.sum()) * len(ranked)) ** 2
    n_independent, cluster_size = cases, 1.0
    if patients is not None:
        # The influences of a patient's cases are added before they are squared, so cases that move together count as one.
        influences = np.bincount(patients, weights=influences).astype(np.float64)
        n_independent, sizes = len(influences), np.bincount(patients)
        cluster_size = float((sizes**2).sum() / sizes.sum())
    value = float(np.mean(old) - np.mean(new))
    # Written as the standard deviation of one case or patient, so that spread / sqrt(n) is the standard error, as for any other mean.
    spread = sqrt(float((influences**2).sum()) * n_independent**2 / max(1, n_independent - 1))
    # The skewness of the influences, for Hall's interval.
    third = float((influences**3).mean() / (influences**2).mean() ** 1.5) if spread > NO_SPREAD else 0.0

    def usual(times: float) -> Interval:
        critical = quantile(confidence, times * n_independent - 1)
        # Two independent sources of chance add up as squares: 3 pp and 4 pp make 5 pp.
        below, above = (hypot(spread * far, critical * sqrt(unseen) / times) for far in reach(critical, times * n_independent, third))
        return max(-1.0, value - below), min(1.0, value + above)

    # `with_worst` bounds a mean of n values, which one value moves by 1 / n of itself: hence the factor n. A patient moves it by as much
    # as all of the patient's cases together.
    worst = value + n_independent * cluster_size * _worst(labels, ranked)

    def for_verdict(times: float) -> Interval:
        return with_worst(usual(times), n_independent * (influences - influences.mean()), value, worst, confidence, times)

    method, unit = (DELONG, "cases") if patients is None else (DELONG_OF_PATIENTS, "patients")
    odds = normal_odds(for_verdict, spread / sqrt(n_independent))
    estimate = Estimate(value, *for_verdict(1.0), n_independent, unit, method, odds, usual=usual(1.0))
    return estimate, float(np.mean(old)), float(np.mean(new))


def _worst(labels: Integers, ranked: list[int]) -> float:
    """Largest fall of the mean area by a single case: one of the rarest class that comes to lie behind all others.

    Its own class loses 1 / (cases of the class). For each other class it is a negative case that is now ranked above all positives, which
    costs 1 / (negative cases of that class). Example: 2 classes of 10 and 90 cases lose 1/10 and 1/10, so their mean loses 1/10.
    """
    # For the class of the lost case take its 1 / count; for all others take the cost of a negative case, the sum without its own term.
    counts = np.bincount(labels, minlength=max(ranked) + 1)[ranked]
    per_other = 1 / (len(labels) - counts)
    return float((1 / counts + per_other.sum() - per_other).max() / len(ranked))


def _ranked_classes(labels: Integers, classes: int) -> list[int]:
    """Numbers of the classes that have both positive and negative cases; the others have no AUC."""
    counts = np.bincount(labels, minlength=classes)
    return np.flatnonzero((counts > 0) & (counts < len(labels))).tolist()
