"""What narrowing a group does to the layers that read it, as differences of their weights at full width.

A channel that is removed is a channel that no reader takes anything from. So the narrowed and repaired network gives what the network as it
is gives with other weights in the readers: zeros for the channels that are gone, and the repaired weights for all others. The differences
to the present weights are small tensors, and nothing has to be cut or copied to know them.

With the normal equations solved once on all columns, weights W and inverse B, the weights without the columns S are

    W'  =  W - B[:, S] B[S, S]^-1 W[S]

which is the step that `importance/output_error.py` makes at every stage of an elimination.

Example: a layer reads two channels that are nearly equal, with weights 1 and 1. Without the second one the repaired weights are 2 and 0, so
the difference is +1 and -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.layer_types import linear_submodule
from optimize.graph.surgery import assign, copy_module, outputs_left
from optimize.graph.trace import ChannelGroup, Index
from optimize.reconstruction.cholesky import cholesky
from optimize.reconstruction.layer_matrix import columns, outputs_per_channel, weight_from
from optimize.reconstruction.ridge import Problem


@dataclass(frozen=True, eq=False)
class ReaderChange:
    """Differences of one reader's weights and intercept, for several widths of the group that it reads.

    Args:
        layer: name of the reader.
        weight: (widths, *shape of the layer's weight), repaired minus present weights.
        bias: (widths, K), repaired minus present intercepts.
        norm: batch norm whose running mean takes the intercept, because the layer has no bias; None where the layer takes it.
    """

    layer: str
    weight: torch.Tensor
    bias: torch.Tensor
    norm: str | None = None


def width_changes(module: nn.Module, group: ChannelGroup, problems: Sequence[Problem], removals: Sequence[Index]) -> list[ReaderChange]:
    """Return how each reader of a group changes when these channels are removed and it is refitted.

    Args:
        module: the network.
        group: the channels.
        problems: the normal equations of the group's readers.
        removals: channels that go, (k,), for each width.
    """
    if not removals:
        return []
    # a layer may read the group and make it as well, as a depthwise convolution does
    made = [outputs_left(module, group, np.setdiff1d(np.arange(group.size), gone)) for gone in removals]
    return [_reader_change(module, group, problem, removals, [left.get(problem.name) for left in made]) for problem in problems]


def changed_module(module: nn.Module, changes: Sequence[ReaderChange], number: int) -> nn.Module:
    """Return a copy of the network that gives what the narrowed and repaired network gives.

    Args:
        module: the network.
        changes: how the group's readers change.
        number: place of the width among those of the changes.
    """
    changed = copy_module(module)
    for change in changes:
        layer: Any = changed.get_submodule(change.layer)
        assign(layer, "weight", layer.weight.detach() + change.weight[number])
        if change.norm is not None:
            norm: Any = changed.get_submodule(change.norm)
            # the norm subtracts its mean: z + b - mean is the same as z - (mean - b)
            assign(norm, "running_mean", norm.running_mean - change.bias[number])
        else:
            present = torch.zeros_like(change.bias[number]) if layer.bias is None else layer.bias.detach()
            assign(layer, "bias", present + change.bias[number])
    return changed


def _reader_change(
    module: nn.Module, group: ChannelGroup, problem: Problem, removals: Sequence[Index], made: Sequence[Index | None]
) -> ReaderChange:
    layer = linear_submodule(module, problem.name)
    index = next(slot.index for slot in group.consumers if slot.module == problem.name)
    count = outputs_per_channel(layer)
    present, norm = _present_intercept(module, problem, count)
    solver, weights, biases = _Solver(problem, count), [], []
    for gone, left in zip(removals, made, strict=True):
        solved = solver.without(columns(layer, index[gone]).flatten())
        intercept = (problem.mean_out - problem.mean_in @ solved).reshape(-1, count).mean(1)
        weight, bias = solved - problem.old, intercept - present
        if left is not None:
            # Outputs that go as well are read by nobody, whatever they give. Left as they are, they count once: in their readers.
            lost = torch.ones(len(bias), dtype=torch.bool)
            lost[torch.from_numpy(left)] = False
            bias[lost], weight[:, lost.repeat_interleave(count)] = 0, 0
        weights.append(weight_from(layer, weight))
        biases.append(bias.to(weights[-1].dtype))
    return ReaderChange(problem.name, torch.stack(weights), torch.stack(biases), norm)


def _present_intercept(module: nn.Module, problem: Problem, count: int) -> tuple[torch.Tensor, str | None]:
    """Return the intercept that the layer has now, (K,), and the batch norm that holds it, or None where the layer does."""
    layer: Any = module.get_submodule(problem.name)
    if layer.bias is not None:
        return layer.bias.detach().double(), None
    if problem.norm is None or problem.norm_mean is None:
        return torch.zeros(len(problem.mean_out) // count, dtype=torch.float64), None
    norm: Any = module.get_submodule(problem.norm)
    return problem.norm_mean - norm.running_mean.double(), problem.norm


class _Solver:
    """Solves one reader's normal equations without some of its columns, again and again."""

    def __init__(self, problem: Problem, count: int) -> None:
        self._problem = problem
        # a layer whose outputs read different columns or share a bias, and one without a Gram matrix, is solved by its own means
        self._closed = problem.reads is None and problem.inputs is None and count == 1
        if self._closed:
            matrix = problem.gram.clone()
            matrix.diagonal().add_(problem.ridge)
            factor = cholesky(matrix)
            self._inverse = torch.cholesky_inverse(factor)
            self._weights = torch.cholesky_solve(problem.target + problem.ridge * problem.old, factor)

    def without(self, gone: torch.Tensor) -> torch.Tensor:
        """Return the weights at full width, (p, m), with zeros in the rows `gone`."""
        if self._closed:
            corner: torch.Tensor = torch.linalg.solve(self._inverse[gone][:, gone], self._weights[gone])
            solved: torch.Tensor = self._weights - self._inverse[:, gone] @ corner
            solved[gone] = 0
            return solved
        solved = torch.zeros_like(self._problem.old)
        left = torch.ones(len(solved), dtype=torch.bool)
        left[gone] = False
        places = left.nonzero().flatten()
        solved[places] = self._problem.solve(places)
        return solved
