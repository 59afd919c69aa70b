"""Batches of inputs in random order, copied one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from optimize.candidate import Floats


class ShuffledBatches(Sequence[torch.Tensor]):
    """Inputs in random order as batches; each is copied when it is asked for, so that the inputs are not in memory twice.

    Args:
        inputs: inputs, (N, C, *spatial); they are not changed.
        size: number of inputs of a batch; the last may have fewer.
        seed: seed of the order.

    Example:
        >>> batches = ShuffledBatches(np.arange(5, dtype=np.float32)[:, None], size=2, seed=0)
        >>> [len(batch) for batch in batches], sorted(torch.cat(list(batches)).flatten().tolist())
        ([2, 2, 1], [0.0, 1.0, 2.0, 3.0, 4.0])
    """

    def __init__(self, inputs: Floats, *, size: int, seed: int) -> None:
        self._inputs = inputs
        self._order = np.random.default_rng(seed).permutation(len(inputs))
        self._size = size

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    def __getitem__(self, number: Any) -> Any:
        """Return batch `number`, counted from 0, or from -1 backwards."""
        first = range(len(self))[number] * self._size
        return torch.from_numpy(self._inputs[self._order[first : first + self._size]])
