"""How far the values of images reach, and which single images reach far beyond the rest.

Ranges for int8 are taken from calibration, so one image of extreme values widens the steps of all others, and what reaches beyond the
ranges later is clipped. Values are those the network reads, per channel, without `pad`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.arrays import Integers
from optimize.candidate import Floats
from optimize.data import Split

Booleans: TypeAlias = npt.NDArray[np.bool_]

FAR, APART = 10.0, 0.2
"""Robust standard deviations from the median that an image's extreme may lie, and share of the range of the rest that may separate it."""
SIGMA = 1.4826
"""Standard deviations per median absolute deviation, of normally distributed values."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """Smallest and largest value of each channel of each image.

    Args:
        lowest: (N, C).
        highest: (N, C).
    """

    lowest: Floats
    highest: Floats

    @classmethod
    def of(cls, split: Split) -> Extremes:
        """Of all images of a split; a batch at a time."""
        found = []
        for batch in split.batches:
            inputs = split.preprocessing.inner(split.inputs(batch))
            flat = inputs.reshape(*inputs.shape[:2], -1)
            found.append((flat.min(2), flat.max(2)))
        return cls(np.concatenate([low for low, _ in found]), np.concatenate([high for _, high in found]))

    def outliers(self) -> Integers:
        """Images that reach far beyond the rest, the farthest first, as rows.

        Of each channel, the extremes of all images have a median and a median absolute deviation (MAD). An image lies far out where its
        largest value is above, or its smallest below, their median by more than `FAR` x `SIGMA` x MAD, and by more than a quarter of the
        typical range, median of the largest - median of the smallest: less than that on both sides costs int8 0.6 bits. Of these, an image is
        an outlier that also lies apart: outside the range of all others by more than `APART` of its width.
        """
        typical = (np.median(self.highest, axis=0) - np.median(self.lowest, axis=0)).astype(np.float32)
        far = _far(self.highest, typical) | _far(-self.lowest, typical)
        if far.all():
            return np.zeros(0, dtype=np.int64)
        low, high = self.lowest[~far].min(0), self.highest[~far].max(0)
        # A channel without contrast has no width; there, any step counts.
        width = np.maximum(high - low, np.finfo(np.float32).tiny)
        beyond = (np.maximum(self.highest - high, low - self.lowest) / width).max(1)
        order = np.argsort(-beyond, kind="stable").astype(np.int64)
        return np.asarray(order[beyond[order] > APART])

    def clips(self, others: Extremes, slack: float = 0.0) -> Booleans:
        """Which of the other images reach beyond the range of these, by more than `slack` of its width, in any channel, (M,)."""
        low, high = self.lowest.min(0), self.highest.max(0)
        room = slack * (high - low)
        return np.asarray(((others.highest > high + room) | (others.lowest < low - room)).any(1))


def _far(extremes: Floats, typical: Floats) -> Booleans:
    """Whose extreme, in any channel, lies far above the median."""
    middle = np.median(extremes, axis=0)
    mad = np.median(np.abs(extremes - middle), axis=0)
    return np.asarray((extremes - middle > np.maximum(FAR * SIGMA * mad, typical / 4)).any(1))
