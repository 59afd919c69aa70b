"""One filter for several channels: make it give the maximum (or a mean) of what they gave.

With the rows x that the layer reads, its outputs y = x W + b and a family of channels F around a kept one, the target is

    "max"              t = max over F of y           as published
    "mean"             t = mean over F of y
    "importance"       t = sum of alpha y,           alpha proportional to mean |y|
    "post-activation"  t = max over F of norm(y)     the maximum of the activations, since f(max z) = max f(z) for any rising f

and the filter that comes nearest is a ridge regression towards the kept one w_k. One Gram matrix serves every family of the layer:

    w = (G + lambda I)^-1 (cov(x, t) + lambda w_k),      bias = mean(t) - mean(x) w

A maximum is larger than its members: the readers take the new channel on behalf of each member times the scale that fits best (`scales`).

The published way trains the filter instead: Adam, 50 steps, on the whole maps of a few batches, and its prediction has no bias although the
target has one. Adam works element by element and every family has a loss of its own, so all families of a layer are trained at once and
each takes the path it would take alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from optimize.candidate import Floats
from optimize.graph.layer_types import linear_submodule
from optimize.graph.replay import calls
from optimize.graph.trace import Index
from optimize.reconstruction.layer_matrix import input_rows, positions_per_sample
from optimize.reconstruction.moments import BATCH
from optimize.reconstruction.ridge import cholesky
from optimize.steps.merging.folding import ProducerLayer

Target: TypeAlias = Literal["max", "mean", "importance", "post-activation"]

PUBLISHED_BATCHES, PUBLISHED_BATCH = 8, 64
STEPS, LEARNING_RATE = 50, 1e-3
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Reading:
    """What a layer reads, at sampled positions.

    Args:
        rows: (n, p), about their mean.
        mean: (p,) float64.
        gram: (p, p) second moment about the mean, float64.
    """

    rows: torch.Tensor
    mean: torch.Tensor
    gram: torch.Tensor

    def covariance(self, targets: torch.Tensor) -> torch.Tensor:
        """With targets (n, K): (p, K), float64."""
        centred = targets - targets.mean(0)
        parts = zip(torch.split(self.rows, CHUNK), torch.split(centred, CHUNK), strict=True)
        # float32 products, float64 sums; started from zero, since a layer may see very few rows
        total = torch.zeros(self.rows.shape[1], targets.shape[1], dtype=torch.float64)
        for x, t in parts:
            total += x.T @ t
        return total / len(self.rows)

    def give(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """What a layer with these weights (p, K) and biases (K,) gives, (n, K)."""
        return self.rows @ weight.to(self.rows.dtype) + (bias + self.mean @ weight).to(self.rows.dtype)


def read(module: nn.Module, name: str, inputs: Floats, *, rows: int, seed: int) -> Reading:
    """Sample about `rows` rows of what the layer reads, evenly over the inputs (N, C, *spatial)."""
    x = sample(module, name, inputs, rows=rows, seed=seed)
    mean = x.mean(0, dtype=torch.float64)
    x = x - mean.to(x.dtype)
    return Reading(x, mean, Reading(x, mean, torch.empty(0)).covariance(x))


def sample(module: nn.Module, name: str, inputs: Floats, *, rows: int, seed: int) -> torch.Tensor:
    """The rows themselves, (n, p); the same places of the same inputs for every network in which the layer's maps are as large."""
    layer = linear_submodule(module, name)
    draw, each = np.random.default_rng(seed), ceil(rows / len(inputs))

    def sampled(_: str, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        order = draw.random((len(given), positions_per_sample(layer, given, output))).argsort(1)
        return input_rows(layer, given, torch.from_numpy(order[:, :each].copy()))

    return torch.cat([part for chunk in torch.split(torch.from_numpy(inputs), BATCH) for _, part in calls(module, [name], chunk, sampled)])


def scales(old: torch.Tensor, new: torch.Tensor, owned: torch.Tensor, heirs: Index) -> torch.Tensor:
    """What a reader must multiply each channel's heir by to read what it read: s = <old, heir> / <heir, heir>, (size,) float64.

    Args:
        old: (n, p) rows the reader read.
        new: (n, p) the same rows after the merge.
        owned: (size, b) columns of each channel.
        heirs: (size,) the kept channel that stands for each.
    """
    along, length = torch.zeros(2, len(owned), dtype=torch.float64)
    for column in range(owned.shape[1]):
        was, stands = old[:, owned[:, column]], new[:, owned[heirs, column]]
        along += (was * stands).sum(0)
        length += stands.square().sum(0)
    return torch.where(length > 0, along / length.clamp_min(1e-300), 1.0)


def families(heirs: Index) -> list[Index]:
    """Each kept channel that others fall to, followed by those others."""
    return [np.concatenate([[k], np.flatnonzero((heirs == k) & (np.arange(len(heirs)) != k))]) for k in _heads(heirs)]


def _heads(heirs: Index) -> Index:
    kept, members = np.unique(heirs, return_counts=True)
    return np.asarray(kept[members > 1])


def wanted(outputs: torch.Tensor, members: Sequence[Index], target: Target) -> torch.Tensor:
    """The target of every family, (n, K), from the layer's outputs (n, size); normalised ones for "post-activation"."""
    return torch.stack([_target(outputs[:, family], target) for family in members], 1)


def _target(outputs: torch.Tensor, target: Target) -> torch.Tensor:
    if target == "mean":
        return outputs.mean(1)
    if target == "importance":
        strength = outputs.abs().mean(0)
        return outputs @ (strength / strength.sum().clamp_min(1e-30))
    return outputs.amax(1)


def closed_form(maker: ProducerLayer, heirs: Index, reading: Reading, *, target: Target, ridge: float) -> nn.Module:
    """The network in which each kept channel with a family has the filter nearest to the family's target.

    Args:
        maker: the layer.
        heirs: (size,) the kept channel that stands for each.
        reading: what the layer reads.
        target: of each family.
        ridge: strength of the pull to the kept filter, as a share of the mean diagonal of the gram matrix.
    """
    members = families(heirs)
    heads = np.array([family[0] for family in members])
    weight, bias = maker.folded() if target == "post-activation" else maker.plain()
    aim = wanted(reading.give(weight, bias), members, target)
    solved, level = solve(reading, aim, weight[:, heads], ridge)
    chosen = maker.only(heads)
    if target == "post-activation":
        return chosen.with_folded(solved, level, reading.mean, reading.gram)
    return chosen.with_plain(solved, level)


def solve(reading: Reading, aim: torch.Tensor, start: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Filters (p, K) and biases (K,) nearest to the targets `aim` (n, K), pulled to the filters `start` (p, K)."""
    pull = ridge * float(reading.gram.diagonal().mean()) + 1e-12
    lifted = reading.gram.clone()
    lifted.diagonal().add_(pull)
    solved = torch.cholesky_solve(reading.covariance(aim) + pull * start, cholesky(lifted))
    return solved, aim.mean(0, dtype=torch.float64) - reading.mean @ solved


def by_gradient(maker: ProducerLayer, heirs: Index, inputs: Floats) -> nn.Module:
    """The published operator: the kept filter trained towards the maximum of its family's outputs; its norm and bias stay as they are."""
    members = families(heirs)
    maps = whole_maps(maker, inputs)
    filters = train(maker, members, maps)
    columns = filters.flatten(1).T.double()
    return maker.only(np.array([family[0] for family in members])).with_plain(columns)


def whole_maps(maker: ProducerLayer, inputs: Floats) -> torch.Tensor:
    """All that the layer reads on the first batches, (N, C_in, *spatial)."""
    parts = torch.split(torch.from_numpy(inputs[: PUBLISHED_BATCHES * PUBLISHED_BATCH]), PUBLISHED_BATCH)
    return torch.cat([given for part in parts for _, given in calls(maker.module, [maker.name], part, lambda _, given, __: given.clone())])


def train(maker: ProducerLayer, members: Sequence[Index], maps: torch.Tensor) -> torch.Tensor:
    """Filters (K, C_in, *kernel) after Adam, one for each family."""
    layer = maker.layer
    bias = {} if layer.bias is None else {"bias": torch.zeros(len(members), dtype=layer.weight.dtype)}
    axis = -1 if isinstance(layer, nn.Linear) else 1
    with torch.inference_mode():
        given = layer(maps)
        aim = torch.stack([given.index_select(axis, torch.from_numpy(maker.rows[family])).amax(axis) for family in members], axis)
    aim, maps = aim.clone(), maps.clone()  # tensors made in inference mode cannot be trained on
    kept = torch.from_numpy(maker.rows[np.array([family[0] for family in members])])
    filters = nn.Parameter(layer.weight.detach()[kept].clone())
    adam = torch.optim.Adam([filters], lr=LEARNING_RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        error = (functional_call(layer, {"weight": filters, **bias}, (maps,)) - aim).square()
        # the mean over each family's own map, summed: no family's gradient depends on how many there are
        torch.autograd.backward(error.mean([a for a in range(error.dim()) if a != axis % error.dim()]).sum())
        adam.step()
    return filters.detach()


def reconstruction_error(reading: Reading, weight: torch.Tensor, bias: torch.Tensor, aim: torch.Tensor) -> float:
    """Squared error of x W + b against targets (n, K), as a share of their variance."""
    off = (reading.give(weight, bias) - aim).double().square().sum()
    return float(off / (aim - aim.mean(0)).double().square().sum().clamp_min(1e-300))
