"""Tell logits from probabilities: whether a network ends with a softmax or a sigmoid of its own.

A mask is cut where a logit is above 0 and where a probability is above 0.5. Cut at 0, every pixel of a network that ends in a sigmoid would
be foreground. The meaning is found once, from the values that the original gives, and holds for everything that is made of it: the outputs
of an int8 model are coarser, and would be a worse place to look.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from optimize.candidate import Floats, Meaning

MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
THRESHOLD: dict[Meaning, float] = {"logits": 0.0, "probabilities": 0.5}
"""An output that is a yes or no by itself says yes above this value."""
SUMS = (0.05, 0.5)
"""How far the median row may be from a sum of 1 and still be of probabilities: more with many classes, each rounded to 8 bits."""
_TINY = 1e-6
"""The smallest probability whose logarithm is taken."""
_ROUNDING = 1e-5


def meaning(outputs: Floats) -> Meaning:
    """Return what outputs (N, K) or (N, K, *spatial) mean, by their values; outputs that are not finite are passed over.

    Classes (N, K) are probabilities where rows sum to 1, masks where every value lies in 0..1.

    Example:
        >>> meaning(np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32))
        'probabilities'
        >>> meaning(np.array([[[[-3.0, 0.4]]]], dtype=np.float32))
        'logits'
    """
    if outputs.ndim == 2:
        return "probabilities" if sum_to_one(outputs[np.isfinite(outputs).all(1)]) else "logits"
    values = outputs[np.isfinite(outputs)]
    inside = len(values) > 0 and values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING
    return "probabilities" if inside else "logits"


def sum_to_one(rows: npt.NDArray[Any]) -> bool:
    """Return whether rows (N, K) of finite numbers are each the probabilities of K classes."""
    near = min(SUMS[1], max(SUMS[0], rows.shape[1] / 255))
    return len(rows) > 0 and bool(rows.min() >= 0) and bool(np.median(np.abs(rows.sum(1) - 1)) < near)


def logits(outputs: torch.Tensor, meaning: Meaning, *, exclusive: bool) -> torch.Tensor:
    """Return outputs (N, K) or (N, K, *spatial) as logits, which they may be already.

    The softmax, or the sigmoid of each where they are not exclusive, of what is returned gives the probabilities back.

    Args:
        outputs: outputs of the network.
        meaning: meaning of the outputs, "logits" or "probabilities".
        exclusive: whether a case, or a pixel, has one class of several; otherwise each output is a yes-or-no decision.
    """
    if meaning == "logits":
        return outputs
    probabilities = outputs.clamp(_TINY, 1 - _TINY)
    return probabilities.log() if exclusive else probabilities.logit()
