"""Sampling of positions: half of them where the network's output differs from its most frequent one.

In a mask nearly every pixel is background, and a repair fitted on uniformly sampled positions neglects the rest. So half of the positions
are sampled where the original predicts anything but its most frequent class. No label is looked at.

Example: a 20x20 map with 40 tumour pixels among 400. Each of these has (400 - 40) / 40 = 9 times the chance of a background pixel, so that
the 40 together have the same chance as the other 360.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from optimize.data.output_meaning import THRESHOLD, meaning

_POOLS = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}


def unusual_positions(module: nn.Module, batches: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """Return where the predictions differ from the most frequent one, bool (n, *spatial) per batch; None without positions.

    Args:
        module: the network, (n, C, *spatial) -> (n, K, *spatial), or (n, K).
        batches: inputs, each (n, C, *spatial).
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


def sample_positions(unusual: torch.Tensor | None, grid: Sequence[int], cases: int, per_case: int, seed: tuple[int, ...]) -> torch.Tensor:
    """Return `per_case` flat positions of a layer's grid for every case, without repetition, (cases, per_case).

    Weighted sampling without replacement is the exponential race of Efraimidis and Spirakis (2006): every position gets an exponential
    waiting time with its weight as the rate, and the shortest times win.

    Args:
        unusual: unusual positions of these cases at any resolution, (cases, *spatial) of bool; None samples uniformly.
        grid: spatial size of the layer's grid.
        cases: number of cases.
        per_case: number of positions of each case.
        seed: seed of the sample.
    """
    count = int(np.prod(grid))
    if per_case == count:
        return torch.arange(count).expand(cases, -1)
    # without weights the order of uniform numbers is as good as that of waiting times
    race = np.random.default_rng(seed).random((cases, count))
    if unusual is not None and unusual.dim() - 1 == len(grid):
        # the mask at the layer's own resolution: a position is unusual where any output pixel that it covers is
        is_unusual = _POOLS[len(grid)](unusual[:, None].float(), list(grid)).flatten(1).numpy() > 0
        rare = is_unusual.sum(1, keepdims=True)
        # the unusual positions of a case together have the chance of all others
        chance = np.where(is_unusual, np.maximum(1.0, (count - rare) / np.maximum(rare, 1)), 1.0)
        # -log(1 - u) of a uniform u is exponential with rate 1; dividing by the weight makes that the rate
        race = -np.log1p(-race) / chance
    return torch.from_numpy(np.argpartition(race, per_case, axis=1)[:, :per_case])
