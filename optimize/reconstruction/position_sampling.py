"""Which places of an input tell most: where the network's answer is not the usual one.

In a mask nearly every pixel is background, and a repair fitted on places drawn at random lets the rest go. So half of the places are drawn
where the original sees anything but its most frequent answer. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from optimize.data.output_meaning import THRESHOLD, meaning

_POOLS = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}


def unusual(module: nn.Module, batches: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Where the answers differ from the most frequent one, a bool (n, *spatial) for each batch; None when an answer has no places.

    Args:
        module: the network, (n, C, *spatial) -> (n, K, *spatial), or (n, K).
        batches: of inputs.
    """
    with torch.inference_mode():
        first = module(batches[0].clone())
        if not 3 <= first.dim() <= 5:
            return None
        threshold = THRESHOLD[meaning(first.numpy())]
        outputs = (module(batch.clone()) for batch in batches)
        answers = [(output[:, 0] > threshold if output.shape[1] == 1 else output.argmax(1)).to(torch.int16) for output in outputs]
    every, counts = np.unique(np.concatenate([answer.flatten().numpy() for answer in answers]), return_counts=True)
    usual = int(every[counts.argmax()])
    return [answer != usual for answer in answers]


def drawn(where: torch.Tensor | None, grid: Sequence[int], cases: int, each: int, seed: tuple[int, ...]) -> torch.Tensor:
    """`each` flat positions of a layer's grid for every case, without repetition, (cases, each).

    Drawing without replacement by chance is the exponential race of Efraimidis and Spirakis (2006).

    Args:
        where: unusual places of these cases, at any resolution; None draws all alike.
        grid: spatial size of what is drawn from.
        cases: how many.
        each: positions of each.
        seed: of the draw.
    """
    count = int(np.prod(grid))
    if each == count:
        return torch.arange(count).expand(cases, -1)
    race = np.random.default_rng(seed).random((cases, count))
    if where is not None and where.dim() - 1 == len(grid):
        seen = _POOLS[len(grid)](where[:, None].float(), list(grid)).flatten(1).numpy() > 0
        rare = seen.sum(1, keepdims=True)
        # the unusual places of a case have together the chance of all others
        chance = np.where(seen, np.maximum(1.0, (count - rare) / np.maximum(rare, 1)), 1.0)
        race = -np.log1p(-race) / chance
    return torch.from_numpy(np.argpartition(race, each, axis=1)[:, :each])
