"""One filter for several channels: make it give the maximum (or a mean) of what they gave.

With the rows x that the layer reads, its outputs y = x W + b and a family of channels F around a kept one, the target is

    "max"              t = max over F of y           as published
    "mean"             t = mean over F of y
    "importance"       t = sum of alpha y,           alpha proportional to mean |y|
    "post-activation"  t = max over F of norm(y)     the maximum of the activations, since f(max z) = max f(z) for any rising f

and the filter that comes nearest is a ridge regression towards the kept one w_k. One Gram matrix serves every family of the layer:

    w = (G + lambda I)^-1 (cov(x, t) + lambda w_k),      bias = mean(t) - mean(x) w

A maximum is larger than its members: the readers take the new channel on behalf of each member times the scale that fits best (`scales`).

Example: two channels give y1 = (1, -1) and y2 = (-1, 1) on two inputs x = (1, -1). Their maximum is (1, 1), which no multiple of x gives:
cov(x, t) = 0, so w = 0 and the bias is 1, the mean of the maximum. Where both are alike, y1 = y2 = x, then t = x, cov(x, t) = G = 1 and
w = (1 + lambda) / (1 + lambda) = 1: the kept filter stays as it is, whatever lambda.

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
from optimize.graph.layer_calls import calls
from optimize.graph.layer_types import linear_submodule
from optimize.graph.trace import Index
from optimize.reconstruction.layer_matrix import input_rows, positions_per_sample
from optimize.reconstruction.moments import BATCH
from optimize.reconstruction.ridge import cholesky
from optimize.steps.merging.folding import ProducerLayer

Target: TypeAlias = Literal["max", "mean", "importance", "post-activation"]

PUBLISHED_BATCHES, PUBLISHED_BATCH = 8, 64
ADAM_STEPS, LEARNING_RATE = 50, 1e-3
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class SampledInputs:
    """Inputs of a layer at sampled positions.

    Args:
        rows: (n, p) inputs less their mean.
        mean: (p,) mean of the inputs, float64.
        gram: (p, p) second moment of the inputs about their mean, float64.
    """

    rows: torch.Tensor
    mean: torch.Tensor
    gram: torch.Tensor

    def covariance(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the covariance of the inputs with targets (n, K): (p, K), float64."""
        centred = targets - targets.mean(0)
        parts = zip(torch.split(self.rows, CHUNK), torch.split(centred, CHUNK), strict=True)
        # float32 products, float64 sums; started from zero, since a layer may see very few rows
        total = torch.zeros(self.rows.shape[1], targets.shape[1], dtype=torch.float64)
        for x, t in parts:
            total += x.T @ t
        return total / len(self.rows)

    def outputs(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return the outputs (n, K) of a layer with these weights (p, K) and biases (K,)."""
        return self.rows @ weight.to(self.rows.dtype) + (bias + self.mean @ weight).to(self.rows.dtype)


def sample_inputs(module: nn.Module, name: str, inputs: Floats, *, rows: int, seed: int) -> SampledInputs:
    """Return about `rows` rows of what the layer reads, drawn evenly over the inputs (N, C, *spatial), with their moments."""
    x = sample_rows(module, name, inputs, rows=rows, seed=seed)
    mean = x.mean(0, dtype=torch.float64)
    x = x - mean.to(x.dtype)
    return SampledInputs(x, mean, SampledInputs(x, mean, torch.empty(0)).covariance(x))


def sample_rows(module: nn.Module, name: str, inputs: Floats, *, rows: int, seed: int) -> torch.Tensor:
    """Return rows (n, p) that the layer reads; at the same positions for every network in which the layer's maps have the same size."""
    layer = linear_submodule(module, name)
    # the positions depend on the seed and on the size of the maps alone, so two networks with equal maps are read at equal places
    draw, per_input = np.random.default_rng(seed), ceil(rows / len(inputs))

    def sampled(_: str, layer_inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        order = draw.random((len(layer_inputs), positions_per_sample(layer, layer_inputs, output))).argsort(1)
        return input_rows(layer, layer_inputs, torch.from_numpy(order[:, :per_input].copy()))

    return torch.cat([part for chunk in torch.split(torch.from_numpy(inputs), BATCH) for _, part in calls(module, [name], chunk, sampled)])


def scales(old: torch.Tensor, new: torch.Tensor, owned: torch.Tensor, merge_into: Index) -> torch.Tensor:
    """Return the scale of each channel's stand-in that comes nearest to the channel: s = <old, new> / <new, new>, (size,) float64.

    Args:
        old: (n, p) rows that the reader read before the merge.
        new: (n, p) rows that it reads after the merge, of the same inputs and positions.
        owned: (size, b) columns of each channel in these rows.
        merge_into: (size,) the kept channel that stands for each channel.
    """
    # Example: a channel gave (1, 2), its stand-in gives (2, 4): s = (1 * 2 + 2 * 4) / (4 + 16) = .5, so readers take half of it.
    along, length = torch.zeros(2, len(owned), dtype=torch.float64)
    for column in range(owned.shape[1]):
        old_part, new_part = old[:, owned[:, column]], new[:, owned[merge_into, column]]
        along += (old_part * new_part).sum(0)
        length += new_part.square().sum(0)
    return torch.where(length > 0, along / length.clamp_min(1e-300), 1.0)


def families(merge_into: Index) -> list[Index]:
    """Return every family: a kept channel that stands for others, followed by those others."""
    return [np.concatenate([[k], np.flatnonzero((merge_into == k) & (np.arange(len(merge_into)) != k))]) for k in _family_heads(merge_into)]


def _family_heads(merge_into: Index) -> Index:
    kept, members = np.unique(merge_into, return_counts=True)
    return np.asarray(kept[members > 1])


def family_targets(outputs: torch.Tensor, members: Sequence[Index], target: Target) -> torch.Tensor:
    """Return the target of every family, (n, K), from the layer's outputs (n, size); outputs of its norm for "post-activation"."""
    return torch.stack([_target(outputs[:, family], target) for family in members], 1)


def _target(outputs: torch.Tensor, target: Target) -> torch.Tensor:
    if target == "mean":
        return outputs.mean(1)
    if target == "importance":
        strength = outputs.abs().mean(0)
        return outputs @ (strength / strength.sum().clamp_min(1e-30))
    return outputs.amax(1)


def closed_form(producer: ProducerLayer, merge_into: Index, reading: SampledInputs, *, target: Target, ridge: float) -> nn.Module:
    """Return the network in which each kept channel with a family has the filter nearest to the family's target.

    Args:
        producer: the layer that makes the channels.
        merge_into: (size,) the kept channel that stands for each channel.
        reading: sampled inputs of the layer.
        target: aim of the new filter, see the module's table.
        ridge: strength of the pull to the kept filter, as a share of the mean diagonal of the gram matrix.
    """
    members = families(merge_into)
    heads = np.array([family[0] for family in members])
    weight, bias = producer.folded() if target == "post-activation" else producer.plain()
    targets = family_targets(reading.outputs(weight, bias), members, target)
    solved, level = solve(reading, targets, weight[:, heads], ridge)
    chosen = producer.only(heads)
    if target == "post-activation":
        return chosen.with_folded(solved, level, reading.mean, reading.gram)
    return chosen.with_plain(solved, level)


def solve(reading: SampledInputs, targets: torch.Tensor, start: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the filters (p, K) and biases (K,) nearest to the targets (n, K), with a ridge penalty towards the filters `start` (p, K)."""
    # the absolute term keeps a layer solvable whose inputs are all constant
    penalty = ridge * float(reading.gram.diagonal().mean()) + 1e-12
    lifted = reading.gram.clone()
    lifted.diagonal().add_(penalty)
    solved = torch.cholesky_solve(reading.covariance(targets) + penalty * start, cholesky(lifted))
    # rows are centred, so the solved part has the mean 0: the bias brings the output's mean to the target's
    return solved, targets.mean(0, dtype=torch.float64) - reading.mean @ solved


def by_gradient(producer: ProducerLayer, merge_into: Index, inputs: Floats) -> nn.Module:
    """Return the network of the published operator: kept filters trained towards the maximum of their family's outputs."""
    members = families(merge_into)
    maps = whole_maps(producer, inputs)
    filters = train_filters(producer, members, maps)
    columns = filters.flatten(1).T.double()
    return producer.only(np.array([family[0] for family in members])).with_plain(columns)


def whole_maps(producer: ProducerLayer, inputs: Floats) -> torch.Tensor:
    """Return the whole inputs of the layer on the first batches, (N, C_in, *spatial)."""
    parts = torch.split(torch.from_numpy(inputs[: PUBLISHED_BATCHES * PUBLISHED_BATCH]), PUBLISHED_BATCH)
    return torch.cat([maps for part in parts for _, maps in calls(producer.module, [producer.name], part, lambda _, x, __: x.clone())])


def train_filters(producer: ProducerLayer, members: Sequence[Index], maps: torch.Tensor) -> torch.Tensor:
    """Return the filters (K, C_in, *kernel) after Adam, one for each family."""
    layer = producer.layer
    # zero, as published: the prediction has no bias, though the layer's outputs, and so the targets, have one
    bias = {} if layer.bias is None else {"bias": torch.zeros(len(members), dtype=layer.weight.dtype)}
    axis = -1 if isinstance(layer, nn.Linear) else 1
    with torch.inference_mode():
        outputs = layer(maps)
        targets = torch.stack([outputs.index_select(axis, torch.from_numpy(producer.rows[family])).amax(axis) for family in members], axis)
    targets, maps = targets.clone(), maps.clone()  # tensors made in inference mode cannot be trained on
    kept = torch.from_numpy(producer.rows[np.array([family[0] for family in members])])
    filters = nn.Parameter(layer.weight.detach()[kept].clone())
    adam = torch.optim.Adam([filters], lr=LEARNING_RATE)
    for _ in range(ADAM_STEPS):
        adam.zero_grad()
        error = (functional_call(layer, {"weight": filters, **bias}, (maps,)) - targets).square()
        # the mean over each family's own map, summed: no family's gradient depends on how many there are
        torch.autograd.backward(error.mean([a for a in range(error.dim()) if a != axis % error.dim()]).sum())
        adam.step()
    return filters.detach()


def reconstruction_error(reading: SampledInputs, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the squared error of x W + b against targets (n, K), as a share of their variance."""
    off = (reading.outputs(weight, bias) - targets).double().square().sum()
    return float(off / (targets - targets.mean(0)).double().square().sum().clamp_min(1e-300))
