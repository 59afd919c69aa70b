"""The loss behind the gradient signals: cross entropy against the class the *original* predicts, so that no label is needed.

    loss of a case = - log softmax(outputs)[class with the original's largest output], averaged over positions of dense outputs

Where the original is sure this is close to zero and so is its gradient: such signals hear mostly the cases it doubts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from optimize.candidate import Meaning, Reference
from optimize.data.output_meaning import logits

BATCH = 32
"""A backward pass holds every activation, where streaming forward holds a layer's: a quarter of what `moments.py` takes at once."""


def batches(reference: Reference) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Calibration inputs by 32, (n, C, *spatial), and the original's classes for them, (n,) or (n, *spatial)."""
    for start in range(0, len(reference.calibration), BATCH):
        inputs = reference.calibration[start : start + BATCH].copy()  # the network may work in place
        yield torch.from_numpy(inputs), torch.from_numpy(reference.original.predict(inputs).argmax(1))


def total_loss(outputs: torch.Tensor, classes: torch.Tensor, meaning: Meaning = "logits") -> torch.Tensor:
    """Sum over cases of each one's cross entropy, (n, K) or (n, K, *spatial) -> ()."""
    each = functional.cross_entropy(logits(outputs, meaning, exclusive=True), classes, reduction="none")
    return each.reshape(len(outputs), -1).mean(1).sum()
