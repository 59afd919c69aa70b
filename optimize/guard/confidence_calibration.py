"""Whether a model's confidence is as high as its accuracy, and how its sensitivity and specificity at a threshold changed.

The confidence of a case is the probability of the predicted class. For the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI
2015), cases are put into 15 bins of equal width by their confidence. The error is the mean over the cases of |accuracy - mean confidence|
of their bin. Example: 10 cases of confidence 0.9, of which 7 are right, have an error of |0.7 - 0.9| = 0.2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.guard.score_intervals import Booleans, Integers

BINS = 15
DEFAULT_THRESHOLD = 0.5
"""Threshold of an operating point where the run sets none."""


def bins_of(confidence: npt.NDArray[Any]) -> Integers:
    """Number of each case's bin, (N,)."""
    # A bin holds its upper edge and not its lower one: 1/15 is in bin 0. Bin 0 holds 0 as well.
    return np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


def expected_calibration_error(confidence: npt.NDArray[Any], correct: Booleans) -> float:
    """The expected calibration error, in 0..1.

    Args:
        confidence: probability of the predicted class, (N,).
        correct: whether the predicted class is the true one, (N,).
    """
    # N_bin |accuracy - mean confidence| is |sum of correct - sum of confidences|, so no bin has to be divided by its count.
    numbers = bins_of(confidence)
    sums = [np.bincount(numbers, weights=values.astype(np.float64), minlength=BINS) for values in (confidence, correct)]
    return float(np.abs(sums[0] - sums[1]).sum() / max(1, len(confidence)))


def reliability(confidence: npt.NDArray[Any], correct: Booleans) -> dict[str, Any]:
    """The error and the bins, in the form that a report shows."""
    # Empty bins stay in the list, without figures, so that the bins of two models can be put side by side.
    numbers, bins = bins_of(confidence), []
    for number in range(BINS):
        inside = numbers == number
        edges: dict[str, Any] = {"low": number / BINS, "high": (number + 1) / BINS, "cases": int(inside.sum())}
        means = {"confidence": _share(confidence[inside]), "accuracy": _share(correct[inside])}
        bins.append(edges | means)
    return {"ece": expected_calibration_error(confidence, correct), "bins": bins}


@dataclass(frozen=True)
class OperatingPoint:
    """One class against the rest at one threshold. Figures are fractions; None where there is no case to measure one on.

    `restoring_threshold` is the largest threshold at which the candidate finds as many positive cases as the original does at `threshold`.
    """

    threshold: float
    sensitivity_before: float | None
    sensitivity_after: float | None
    specificity_before: float | None
    specificity_after: float | None
    restoring_threshold: float | None
    specificity_restored: float | None

    def as_dict(self) -> dict[str, Any]:
        """The form that a report shows."""
        return asdict(self)


def operating_point(
    baseline: npt.NDArray[Any], candidate: npt.NDArray[Any], positive: Booleans, threshold: float = DEFAULT_THRESHOLD
) -> OperatingPoint:
    """Sensitivity and specificity of one class against the rest, of both models.

    Args:
        baseline: the original's probability of the class, (N,).
        candidate: the candidate's probability of the class, (N,).
        positive: whether each case is of the class, (N,).
        threshold: a case counts as positive when the probability is at least this.
    """
    hits, restoring = int((baseline[positive] >= threshold).sum()), None
    if positive.any():
        # The original found `hits` of the cases. The candidate finds as many at the hits-th largest probability of its own: with hits = 2
        # and 0.9, 0.6, 0.4 that is 0.6. To find none, the threshold lies just above the largest probability.
        restoring = float(np.sort(candidate[positive])[::-1][hits - 1]) if hits else float(np.nextafter(candidate[positive].max(), 2))
    return OperatingPoint(
        threshold,
        sensitivity_before=_share(baseline[positive] >= threshold),
        sensitivity_after=_share(candidate[positive] >= threshold),
        specificity_before=_share(baseline[~positive] < threshold),
        specificity_after=_share(candidate[~positive] < threshold),
        restoring_threshold=restoring,
        specificity_restored=None if restoring is None else _share(candidate[~positive] < restoring),
    )


def _share(hits: npt.NDArray[Any]) -> float | None:
    # None and not 0: no positive case in the split is something else than no positive case found.
    return float(hits.mean()) if len(hits) else None
