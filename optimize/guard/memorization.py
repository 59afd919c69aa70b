"""Whether the original memorized the guard split: whether it does better there than on the test split, by more than chance.

A guard split that the original was trained on misleads the search. Compression first loses what was memorized: the figures on the guard
fall although those on new cases do not, and the search stops early. The cases of both splits are compared, or their patients where these
are known, by Welch's one-sided test of unequal variances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind_from_stats

from optimize.guard.score import Score
from optimize.guard.tasks import kinds

ALPHA = 1e-3
"""Splits differ for other reasons too, such as hospitals: only a difference far beyond chance is reported."""
MIN_UNITS = 5
"""Smallest number of cases or patients of a split that can be compared."""


def memorization_warning(guard: Score, test: Score) -> str | None:
    """A warning when the original does much better on the guard split than on the test split; None when it does not.

    Args:
        guard: the original's score on the guard split.
        test: the original's score on the test split.
    """
    on_guard, on_test = (np.asarray(kinds()[score.task].case_figures(score)) for score in (guard, test))
    # Without any spread, as with two perfect splits, the test would divide by 0.
    if min(len(on_guard), len(on_test)) < MIN_UNITS or not (on_guard.std() or on_test.std()):
        return None
    # From means and variances, since the form that takes all values warns where all are equal, as where every case is right.
    statistics = [value for values in (on_guard, on_test) for value in (values.mean(), values.std(ddof=1), len(values))]
    if not ttest_ind_from_stats(*statistics, equal_var=False, alternative="greater").pvalue < ALPHA:
        return None
    figures = f"{100 * guard.overall:.2f} % on the guard split and {100 * test.overall:.2f} % on the test split"
    return (
        f"the original reaches {figures}: it may have been trained on the guard's cases. "
        "A search that is judged by such cases stops early. Use cases as val or guard that the original was not trained on"
    )


def by_patient(figures: npt.NDArray[Any], patients: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """The mean figure of each patient, (patients,), or each case's own, (N,), where patients are not known."""
    values = figures.astype(np.float64)
    if patients is None:
        return values
    # Cases of one patient are not independent, which Welch's test needs; the means of patients are.
    _, owners = np.unique(patients, return_inverse=True)
    return np.asarray(np.bincount(owners, values) / np.bincount(owners))
