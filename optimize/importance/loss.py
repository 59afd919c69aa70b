"""The loss behind the gradient signals: cross entropy against the class the *original* predicts, so that no label is needed.

    loss of a case = - log softmax(outputs)[class with the original's largest output], averaged over positions of dense outputs

Where the original is sure, this is close to zero and so is its gradient. Such signals depend mostly on the cases of which it is unsure: a
case with probability .999 has the loss .001, one with .5 has .69.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from optimize.candidate import Meaning, Reference
from optimize.data.output_meaning import THRESHOLD, logits, of_two_classes, stand_alone
from optimize.errors import InputError

BATCH = 32
"""A backward pass holds every activation, where streaming forward holds a layer's: a quarter of what `moments.py` takes at once."""


def batches(reference: Reference) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield calibration inputs by 32, (n, C, *spatial), and the original's classes for them, (n,) or (n, *spatial).

    A single output decides between the classes 0 and 1, and so does each of several labels; their classes are (n K,).
    """
    for start in range(0, len(reference.calibration), BATCH):
        inputs = reference.calibration[start : start + BATCH].copy()  # the network may work in place
        outputs = reference.original.predict(inputs)
        meaning = reference.original.outputs
        if meaning == "values":
            raise InputError("`importance`: gradient signals are for classes, and this network gives numbers: take 'output_error'.")
        if outputs.shape[1] > 1 and stand_alone(outputs.shape, meaning):
            classes = (outputs > THRESHOLD[meaning]).astype(np.int64).reshape(-1)
        else:
            classes = of_two_classes(outputs, meaning).argmax(1)
        yield torch.from_numpy(inputs), torch.from_numpy(classes)


def total_loss(outputs: torch.Tensor, classes: torch.Tensor, meaning: Meaning = "logits") -> torch.Tensor:
    """Return the sum over cases of their cross entropy, (n, K) or (n, K, *spatial) -> (); positions of dense outputs are averaged."""
    alone = stand_alone(outputs.shape, meaning)
    scores = logits(outputs, meaning, exclusive=not alone)
    if alone and outputs.shape[1] > 1:
        scores = scores.reshape(-1, 1)
    # a logit that stands alone is that of the second class against 0
    both = torch.cat([torch.zeros_like(scores), scores], 1) if alone else scores
    losses = functional.cross_entropy(both, classes, reduction="none")
    # summed over cases: the caller divides by the number of all cases, since batches may differ in size
    return losses.reshape(len(outputs), -1).mean(1).sum()
