"""How far a model's probabilities have moved from the original's; needs no labels.

For every case (with masks: every pixel), p are the original's probabilities and q the model's. Their Kullback-Leibler divergence is

    KL = sum over classes of p (log p - log q).

It is averaged over the cases for which the original predicts the same class, and then over these classes, so that a rare class counts as
much as a common one. Example: p = (0.9, 0.1) and q = (0.8, 0.2) give 0.9 * 0.118 - 0.1 * 0.693 = 0.037 nats. Probabilities are the softmax
of the outputs, or one sigmoid for each output that stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax

from optimize.candidate import Floats, Meaning
from optimize.data.output_meaning import logits, stand_alone


def log_shares(outputs: Floats, meaning: Meaning = "logits") -> npt.NDArray[np.float32]:
    """Log-probabilities of the classes, one row for each case or pixel: (N, K) or (N, K, *spatial) -> (rows, classes)."""
    alone = stand_alone(outputs.shape, meaning)
    outputs = logits(torch.from_numpy(outputs), meaning, exclusive=not alone).numpy()
    # Outputs that stand alone give a row each: of 5 cases and 3 labels there are 15 decisions.
    rows = np.moveaxis(np.nan_to_num(outputs), 1, -1).reshape(-1, 1 if alone else outputs.shape[1])
    # One output is the logit of the positive class against 0, and sigmoid(z) is softmax((0, z)).
    both = np.concatenate([np.zeros_like(rows), rows], axis=1) if rows.shape[1] == 1 else rows
    return np.asarray(log_softmax(both, axis=1), dtype=np.float32)


def divergence(answers: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> float:
    """The divergence in nats, averaged over the classes that the original predicts; 0 when both models agree.

    Args:
        answers: batches of `log_shares`, as (the original's, the model's).
    """
    total, count = np.zeros(0), np.zeros(0)
    for original, model in answers:
        # Summed in double precision: a mask split has millions of pixels, and single precision would lose the small terms.
        apart = (np.exp(original) * (original - model)).sum(1, dtype=np.float64)
        classes_of_original = original.argmax(1)
        classes = original.shape[1]
        # The number of classes is only known from the first batch; for one output it is 2.
        if not len(total):
            total, count = np.zeros(classes), np.zeros(classes)
        total += np.bincount(classes_of_original, apart, classes)
        count += np.bincount(classes_of_original, minlength=classes)
    occurs = count > 0
    # A divergence is never negative; rounding can make that of two equal models -1e-9.
    return float(np.mean(np.maximum(total[occurs] / count[occurs], 0.0))) if occurs.any() else 0.0
