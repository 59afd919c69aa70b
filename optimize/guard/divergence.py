"""How far a model's answers have moved from the original's, without a label.

Of every case (with masks: every pixel) the divergence of Kullback and Leibler between the original's answer p and the model's q is taken,

    KL = sum over classes of p (log p - log q),

averaged over the cases of which the original says the same class, and then over those classes: a rare class counts as much as a common
one. An answer is a softmax over the outputs, or one sigmoid where there is a single output.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax

from optimize.candidate import Floats, Meaning
from optimize.data.output_meaning import logits


def log_shares(outputs: Floats, meaning: Meaning = "logits") -> npt.NDArray[np.float32]:
    """Logarithms of an answer's shares, one row per case or pixel: (N, K) or (N, K, *spatial) -> (rows, classes)."""
    outputs = logits(torch.from_numpy(outputs), meaning, exclusive=outputs.shape[1] > 1).numpy()
    rows = np.moveaxis(np.nan_to_num(outputs), 1, -1).reshape(-1, outputs.shape[1])
    both = np.concatenate([np.zeros_like(rows), rows], axis=1) if rows.shape[1] == 1 else rows
    return np.asarray(log_softmax(both, axis=1), dtype=np.float32)


def divergence(answers: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> float:
    """Mean over the original's classes of the mean divergence, in nats; 0 when nothing has moved.

    Args:
        answers: batches of `log_shares`: the original's and the model's.
    """
    total, count = np.zeros(0), np.zeros(0)
    for original, model in answers:
        apart = (np.exp(original) * (original - model)).sum(1, dtype=np.float64)
        said = original.argmax(1)
        classes = original.shape[1]
        if not len(total):
            total, count = np.zeros(classes), np.zeros(classes)
        total += np.bincount(said, apart, classes)
        count += np.bincount(said, minlength=classes)
    seen = count > 0
    return float(np.mean(np.maximum(total[seen] / count[seen], 0.0))) if seen.any() else 0.0
