"""Whether the original memorized the guard split: whether it does better there than on the test split, by more than chance.

A guard split that the original was trained on misleads the search. Compression first loses what was memorized: the figures on the guard
fall although those on new cases do not, and the search stops early. The cases of both splits are compared, or their patients where these
are known, by Welch's one-sided test of unequal variances.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind_from_stats

from optimize.guard.classification_score import ClassificationScore
from optimize.guard.score import Score
from optimize.guard.segmentation_score import SegmentationScore

ALPHA = 1e-3
"""Splits differ for other reasons too, such as hospitals: only a difference far beyond chance is reported."""
LEAST = 5
"""Cases or patients that can be compared."""


def known_by_heart(guard: Score, test: Score) -> str | None:
    """What to say when the original does much better on the guard than on the test split; None when it does not.

    Args:
        guard: the original's score on the guard split.
        test: its score on the test split.
    """
    one, other = _figures(guard), _figures(test)
    if min(len(one), len(other)) < LEAST or not (one.std() or other.std()):
        return None
    # from these, since the other form warns where all cases are alike
    told = [value for units in (one, other) for value in (units.mean(), units.std(ddof=1), len(units))]
    if not ttest_ind_from_stats(*told, equal_var=False, alternative="greater").pvalue < ALPHA:
        return None
    figures = f"{100 * guard.overall:.2f} % on the guard split and {100 * test.overall:.2f} % on the test split"
    return (
        f"the original reaches {figures}: it may have been trained on the guard's cases, and a search that is judged by them stops early: "
        "use cases that it has not seen as val or guard"
    )


def _figures(score: Score) -> npt.NDArray[np.float64]:
    """The figure of each case, or of each patient."""
    if isinstance(score, SegmentationScore):
        told = score.per_patient
        some = ~np.isnan(told).all(1)
        return np.asarray(np.nanmean(told[some], axis=1))
    assert isinstance(score, ClassificationScore)
    right = score.correct.astype(np.float64)
    if score.patients is None:
        return right
    _, owners = np.unique(score.patients, return_inverse=True)
    return np.asarray(np.bincount(owners, right) / np.bincount(owners))
