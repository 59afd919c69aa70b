"""Whether a model is as sure as it is right, and where its operating point went.

The expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015): cases are put into 15 bins of equal width by the share of the
class they were given; it is the mean over the cases of |share of right answers - mean share| of their bin.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.guard.score_intervals import Booleans, Integers

BINS = 15
USUAL = 0.5
"""The threshold of an operating point where the run names none."""


def bins_of(confidence: npt.NDArray[Any]) -> Integers:
    """Number of each case's bin, (N,)."""
    return np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


def expected_calibration_error(confidence: npt.NDArray[Any], right: Booleans) -> float:
    """The expected calibration error, see above.

    Args:
        confidence: share of the predicted class, (N,).
        right: whether it is the true one, (N,).
    """
    numbers = bins_of(confidence)
    sums = [np.bincount(numbers, weights=each.astype(np.float64), minlength=BINS) for each in (confidence, right)]
    return float(np.abs(sums[0] - sums[1]).sum() / max(1, len(confidence)))


def reliability(confidence: npt.NDArray[Any], right: Booleans) -> dict[str, Any]:
    """The error and the bins, in the form that a report shows."""
    numbers, bins = bins_of(confidence), []
    for number in range(BINS):
        inside = numbers == number
        edges: dict[str, Any] = {"low": number / BINS, "high": (number + 1) / BINS, "cases": int(inside.sum())}
        means = {"confidence": _share(confidence[inside]), "accuracy": _share(right[inside])}
        bins.append(edges | means)
    return {"ece": expected_calibration_error(confidence, right), "bins": bins}


@dataclass(frozen=True)
class OperatingPoint:
    """One class against the rest at one threshold; figures are fractions, None where there is no case to tell.

    `restoring_threshold` is the largest at which the artifact finds as many positive cases as the original does at `threshold`.
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
    baseline: npt.NDArray[Any], candidate: npt.NDArray[Any], positive: Booleans, threshold: float = USUAL
) -> OperatingPoint:
    """Sensitivity and specificity of one class against the rest, of both models.

    Args:
        baseline: the original's probability of the class, (N,).
        candidate: the candidate's probability of the class, (N,).
        positive: whether each case is of the class, (N,).
        threshold: a case counts as positive when the probability is at least this.
    """
    found, restoring = int((baseline[positive] >= threshold).sum()), None
    if positive.any():
        # No threshold finds none of the cases on purpose: just above the largest share does.
        restoring = float(np.sort(candidate[positive])[::-1][found - 1]) if found else float(np.nextafter(candidate[positive].max(), 2))
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
    return float(hits.mean()) if len(hits) else None
