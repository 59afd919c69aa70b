"""Ranges of the values of images per channel, and images whose values reach far beyond those of the rest.

Ranges for int8 are taken from calibration, so one image of extreme values widens the steps of all others, and what reaches beyond the
ranges later is clipped. Values are those the network reads, per channel, without `pad`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats
from optimize.data.arrays import Integers
from optimize.data.dataset import Split

Booleans: TypeAlias = npt.NDArray[np.bool_]

APART, SHARE = 0.5, 0.02
"""How far beyond the range of the rest an image may reach, in widths of it, and the share of images that are not the rest."""


@dataclass(frozen=True, eq=False)
class ChannelRanges:
    """Smallest and largest value of each channel of each image.

    Args:
        lowest: (N, C).
        highest: (N, C).
    """

    lowest: Floats
    highest: Floats

    @classmethod
    def of(cls, split: Split) -> ChannelRanges:
        """Return the extremes of all images of a split, computed a batch at a time."""
        extremes = []
        for batch in split.batches:
            # without the padding, whose zeros would widen every range to 0
            inputs = split.preprocessing.inner(split.inputs(batch))
            flat = inputs.reshape(*inputs.shape[:2], -1)
            extremes.append((flat.min(2), flat.max(2)))
        return cls(np.concatenate([low for low, _ in extremes]), np.concatenate([high for _, high in extremes]))

    def outliers(self) -> Integers:
        """Return images that reach far beyond the rest, the farthest first, as rows.

        Of each channel, the range of the rest is from the smallest to the largest value of all images but the `SHARE` of them, at least
        one, that reach lowest, and as many that reach highest. An outlier reaches beyond it, at either end, by more than `APART` of its
        width: alone, it makes the steps of int8 coarser by half, and costs all other images 0.6 of the 8 bits.
        """
        few = min(max(1, int(SHARE * len(self.lowest))), len(self.lowest) - 1)
        low, high = np.sort(self.lowest, axis=0)[few], np.sort(self.highest, axis=0)[-1 - few]
        # A channel without contrast has no width; there, any step counts.
        width = np.maximum(high - low, np.finfo(np.float32).tiny)
        with np.errstate(over="ignore"):
            beyond = (np.maximum(self.highest - high, low - self.lowest) / width).max(1)
        order = np.argsort(-beyond, kind="stable").astype(np.int64)
        return np.asarray(order[beyond[order] > APART])

    def clips(self, images: ChannelRanges, margin: float = 0.0) -> Booleans:
        """Return which of the other images reach beyond the range of these, by more than `margin` of its width, in any channel, (M,)."""
        low, high = self.lowest.min(0), self.highest.max(0)
        room = margin * (high - low)
        return np.asarray(((images.highest > high + room) | (images.lowest < low - room)).any(1))
