"""Moments of many layers in as few passes over the inputs as the memory for their Gram matrices allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from optimize.candidate import Floats
from optimize.graph.layer_types import linear_submodule
from optimize.reconstruction.layer_matrix import unknowns
from optimize.reconstruction.moments import Moments, OriginalOutputs

GRAM_BYTES = 1 << 30
"""Bytes of Gram matrices that are held at a time."""


def moments_in_passes(module: nn.Module, inputs: Floats, names: Sequence[str], rows: int, seed: int) -> Iterator[tuple[str, Moments]]:
    """Yield each layer with the moments of what it reads and of its own outputs, in the order of the names.

    Args:
        module: the network.
        inputs: what it reads, (N, C, *spatial).
        names: the layers.
        rows: rows of each layer, as far as there are so many.
        seed: seed of the choice of rows.
    """
    waiting: list[str] = []
    size = 0
    for place, name in enumerate(names):
        waiting.append(name)
        size += 8 * unknowns(linear_submodule(module, name)) ** 2
        if size < GRAM_BYTES and place < len(names) - 1:
            continue
        own = OriginalOutputs(module, inputs, waiting, rows=rows, seed=seed)
        yield from own.moments(module, waiting).items()
        waiting, size = [], 0
