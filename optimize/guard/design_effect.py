"""The design effect: how much less several cases of the same patient say than as many independent cases.

The counts of cases are divided by it (Rao and Scott, Biometrics 48, 1992). It is the variance of the difference over patients (Obuchowski,
Statistics in Medicine 17, 1998) divided by that of independent cases. How alike a patient's cases are shows only where cases have moved. So
half a patient whose cases all moved together is added to both variances: if no case moved, a patient's cases count as wholly alike (then
the effect is Kish's, 1965: sum n_i^2 / n).

Example: 4 patients have 3 cases each. If no case was lost, the effect is 3, and 12 cases count as 4. If one patient lost all 3 cases it is
3.6, and if three patients lost one case each it is 1.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.guard.score_intervals import Doubles, Integers

PRIOR = 0.5
"""Number of added patients whose cases all moved together."""


def design_effect(differences: Doubles, clusters: Integers) -> float:
    """How many times as large the variance of a mean is as if all cases were independent, at least 1.

    Args:
        differences: baseline minus candidate of each case, (n,): -1, 0 or 1.
        clusters: patient number of each case, (n,), from 0 without gaps.
    """
    if not len(clusters):
        return 1.0
    sizes, mean = np.bincount(clusters).astype(float), float(differences.mean())
    sums = np.bincount(clusters, weights=differences)
    # Size of a typical case's patient: of one patient with 1 case and one with 9 it is (1 + 81) / 10 = 8.2, not 5.
    typical = float((sizes**2).sum() / sizes.sum())
    # The usual n / (n - 1): a spread around the sample's own mean is a little too small.
    spare = len(sizes) / max(1, len(sizes) - 1)
    clustered = spare * float(((sums - mean * sizes) ** 2).sum()) + PRIOR * typical**2
    independent = float(((differences - mean) ** 2).sum()) + PRIOR * typical
    # Below 1 the patients would differ less than chance allows. That is chance itself, and must not make 12 cases count as 15.
    return max(1.0, clustered / independent)


def as_numbers(ids: npt.NDArray[Any]) -> Integers:
    """Ids as numbers from 0 without gaps: ["b", "a", "b"] -> [1, 0, 1]."""
    return np.unique(ids, return_inverse=True)[1].reshape(-1).astype(np.int64)
