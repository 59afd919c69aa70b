"""The repair of one layer as a ridge regression: what it reads now against what the original's layer gave.

With rows x, the original's outputs y (both centred) and the present weights V,

    W = argmin  ||y - x W||^2 + lambda ||W - V||^2  =  A^-1 (cross + lambda V),      A = gram + lambda I

The pull towards V makes the repair of an untouched network the identity. Means are matched by the intercept b = mean_y - mean_x W, which
goes into the layer's bias, or, where the layer has none and a batch norm follows, into that norm's running mean.

Where outputs do not read every column (grouped, depthwise and overlapping transposed convolutions), those that read the same columns are a
regression of their own. The phases of a transposed convolution share one bias, which couples their regressions (`shared_bias.py`).

Example: a layer reads two channels that are nearly equal, x2 = x1, with weights 1 and 1. When channel 2 is removed, gram = [g] and
cross = [2 g] for channel 1, so W = (2 g + lambda) / (g + lambda), about 2: channel 1 takes over what channel 2 did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.graph.layer_types import LinearMap, linear_submodule
from optimize.graph.surgery import copy_module, set_tensors
from optimize.graph.trace import Graph, Index
from optimize.progress import record_finding
from optimize.reconstruction import dual_ridge
from optimize.reconstruction.cholesky import RankDeficiency, lifted_cholesky
from optimize.reconstruction.cholesky import cholesky as cholesky
from optimize.reconstruction.layer_matrix import matrix, outputs_per_channel, reads, weight_from
from optimize.reconstruction.moments import Moments
from optimize.reconstruction.shared_bias import spread_over_phases, steps_to_shared_bias


@dataclass(frozen=True, eq=False)
class Solution:
    """What a layer computes.

    Args:
        weights: (p, m), weights on the columns that are left.
        intercept: (K,), one for each output channel.
    """

    weights: torch.Tensor
    intercept: torch.Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """The normal equations of one layer.

    Args:
        name: name of the layer.
        gram: (p, p), centred second moments of the rows it reads; for a grouped layer as in `Moments`.
        target: (p, m), centred moments of these rows with the original's outputs.
        old: (p, m), the present weights.
        weight: (m,), weight of a squared error in each output: the squared slope of the batch norm behind it.
        energy: weighted variance of the original's outputs about the mean of their channel; the unit of a removal's cost.
        ridge: lambda.
        mean_in: (p,), mean of the rows.
        mean_out: (m,), mean of the original's outputs.
        norm: name of the batch norm that alone reads these outputs, or None.
        norm_mean: (K,), running mean of the original's batch norm on these outputs, or None.
        reads: (p, m), which outputs read which columns; None where all read all.
        rows: number of rows that the moments come from.
        inputs: (n, p), the rows themselves, where there are too many columns for a Gram matrix; gram and target are empty then.
        targets: (n, m), the original's outputs on these rows.
        phases: number of outputs, side by side, that share one bias: the phases of a transposed convolution.
        variance_out: (m,), variance of the original's outputs; None where it is not known.
        present_intercept: (K,), what the layer adds at present; without a bias, what the norm behind it adds more than the original's.
    """

    name: str
    gram: torch.Tensor
    target: torch.Tensor
    old: torch.Tensor
    weight: torch.Tensor
    energy: float
    ridge: float
    mean_in: torch.Tensor
    mean_out: torch.Tensor
    norm: str | None
    norm_mean: torch.Tensor | None
    reads: torch.Tensor | None = None
    rows: int = 0
    inputs: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    phases: int = 1
    present_intercept: torch.Tensor | None = None
    variance_out: torch.Tensor | None = None

    @property
    def unknowns(self) -> int:
        """Number of columns that are solved for together: all, or those of one group."""
        return self.inputs.shape[1] if self.inputs is not None else self.gram.shape[1]

    def with_outputs(self, channels: Index, count: int) -> Problem:
        """Return the problem of the layer with only these of its present output channels, `count` outputs each."""
        # a transposed convolution has `count` outputs, its phases, for each channel: with 4 phases channel 2 has the outputs 8 .. 11
        outputs = torch.from_numpy((channels[:, None] * count + np.arange(count)).ravel())
        return replace(
            self,
            target=self.target[:, outputs] if self.targets is None else self.target,
            targets=None if self.targets is None else self.targets[:, outputs],
            old=self.old[:, outputs],
            weight=self.weight[outputs],
            mean_out=self.mean_out[outputs],
            norm_mean=None if self.norm_mean is None else self.norm_mean[channels],
            reads=None if self.reads is None else self.reads[:, outputs],
            present_intercept=None if self.present_intercept is None else self.present_intercept[channels],
            variance_out=None if self.variance_out is None else self.variance_out[outputs],
        )

    def solution(self, columns: torch.Tensor, *, record: bool = True) -> Solution:
        """Return the repaired weights and intercept on the columns that stay; arguments as of `solve`."""
        weights = self.solve(columns, record=record)
        return Solution(weights, self.best_intercept(columns, weights))

    def best_intercept(self, columns: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the intercept that meets the mean of every output channel with these weights on these columns, (K,)."""
        # The phases of a transposed convolution share one bias. Whatever their weights, the best one is the mean over the phases.
        return (self.mean_out - self.mean_in[columns] @ weights).view(-1, self.phases).mean(1)

    def solve(self, columns: torch.Tensor, *, record: bool = True) -> torch.Tensor:
        """Return the weights on the columns that stay, (len(columns), m), without all others.

        Args:
            columns: the columns that stay.
            record: whether a `RankDeficiency` is recorded as a finding.
        """
        solved, shift = (torch.zeros(len(columns), self.old.shape[1], dtype=torch.float64) for _ in range(2))
        most, lift = 0, 0.0
        for places, outputs in self.parts(columns):
            if len(places):  # a phase of a transposed convolution may have no tap at all
                part = self._part(columns[places], outputs)
                weights, lifted = (part.with_mean_output() if self.phases > 1 else part)._solve()
                solved[places[:, None], outputs] = weights[:, : len(outputs)]
                if self.phases > 1:
                    # A^-1 m: where the weights go when the intercept moves
                    shift[places[:, None], outputs] = weights[:, -1:]
                most, lift = max(most, len(places)), max(lift, lifted)
        if self.phases > 1:
            mean = self.mean_in[columns]
            solved += shift * steps_to_shared_bias(self.mean_out - mean @ solved, mean @ shift, self.phases)
        deficiency = RankDeficiency(self.name, most, self.rows, lift)
        # Example: 288 columns from 200 rows. The rows span at most 199 dimensions once they are centred, so the ridge alone decides in the
        # other 89.
        if record and ((self.rows and deficiency.missing) or lift):
            record_finding(deficiency)
        return solved

    def independent_problems(self, owned: torch.Tensor) -> list[tuple[Problem, torch.Tensor]]:
        """Return independent problems, each with its columns of each channel; in each every output reads every column.

        A transposed convolution stays one problem, since the bias couples its phases; `phase_problems` takes it apart.

        Args:
            owned: (channels, b), the columns of each channel.
        """
        if self.reads is None or self.phases > 1:
            return [(self, owned)]
        # a part that reads none of these channels loses nothing by their removal
        return [(self._part(places, outputs), own) for places, outputs, own in self._parts_with_channels(owned) if own.numel()]

    def phase_problems(self, owned: torch.Tensor) -> list[tuple[Problem, torch.Tensor, torch.Tensor]]:
        """Return the phases' problems without the shared bias, each with its columns of each channel and its outputs among all.

        Every problem has a last output for A^-1 m, see `with_mean_output`. A phase that reads nothing has no problem.

        Args:
            owned: (channels, b), the columns of each channel.
        """
        parts = self._parts_with_channels(owned)
        return [(self._part(places, outputs).with_mean_output(), own, outputs) for places, outputs, own in parts if len(places)]

    def with_mean_output(self) -> Problem:
        """Return the problem with one more output, last, whose solution is A^-1 m for the mean m of the rows."""
        zero, mean = torch.zeros(len(self.old), 1, dtype=torch.float64), self.mean_in[:, None]
        weight = torch.cat([self.weight, self.weight.new_ones(1)])
        if self.inputs is None or self.targets is None:
            # A^-1 (target + lambda old) with target = m and old = 0
            return replace(self, target=torch.cat([self.target, mean], 1), old=torch.cat([self.old, zero], 1), weight=weight)
        # from the rows only a target in their span can be given, so here target = 0 and old = m / lambda
        targets = torch.cat([self.targets, self.targets.new_zeros(len(self.targets), 1)], 1)
        return replace(self, targets=targets, old=torch.cat([self.old, mean / self.ridge], 1), weight=weight)

    def _parts_with_channels(self, owned: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Return (columns, outputs, own) of every part; `own` are its columns of each channel, (channels, b), by their places in it."""
        parts = []
        for places, outputs in self.parts(torch.arange(len(self.old))):
            renumbered = torch.full((len(self.old),), -1)
            renumbered[places] = torch.arange(len(places))
            own = renumbered[owned]
            parts.append((places, outputs, own[own >= 0].view(len(owned), -1)))
        return parts

    def _solve(self) -> tuple[torch.Tensor, float]:
        """Return the weights of a problem whose outputs all read all of its columns, and the lift of its Gram matrix."""
        if self.inputs is not None and self.targets is not None:
            return dual_ridge.solve(self.inputs, self.targets, self.old, self.ridge)
        matrix_with_ridge = self.gram.clone()
        matrix_with_ridge.diagonal().add_(self.ridge)
        factor, lift = lifted_cholesky(matrix_with_ridge)
        return torch.cholesky_solve(self.target + self.ridge * self.old, factor), lift

    def parts(self, columns: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (places in `columns`, outputs) of the independent regressions: outputs that read the same columns are solved together."""
        if self.reads is None:
            return [(torch.arange(len(columns)), torch.arange(self.old.shape[1]))]
        # Outputs with the same pattern of columns have one matrix to factorize. With 2 groups of 3 inputs and 4 outputs, `reads` has the
        # patterns 111000 and 000111, so there are two regressions of 3 unknowns for 2 outputs each. A depthwise layer has one per channel.
        patterns, home = torch.unique(self.reads[columns], dim=1, return_inverse=True)
        return [(patterns[:, k].nonzero().flatten(), (home == k).nonzero().flatten()) for k in range(patterns.shape[1])]

    def _part(self, columns: torch.Tensor, outputs: torch.Tensor) -> Problem:
        """Return the regression of these outputs, all of which read exactly these columns."""
        by_rows = self.inputs is not None
        return replace(
            self,
            # the Gram matrix of a grouped layer holds only each group's own block, one below the other: with 2 groups of 3 columns, columns
            # 3, 4, 5 are rows 3, 4, 5, and within their block the columns 0, 1, 2
            gram=self.gram if by_rows else self.gram[columns][:, columns % self.gram.shape[1]],
            target=self.target if by_rows else self.target[columns][:, outputs],
            inputs=None if self.inputs is None else self.inputs[:, columns],
            targets=None if self.targets is None else self.targets[:, outputs],
            old=self.old[columns][:, outputs],
            weight=self.weight[outputs],
            mean_in=self.mean_in[columns],
            mean_out=self.mean_out[outputs],
            norm=None,
            norm_mean=None,
            reads=None,
            present_intercept=None,
            variance_out=None,
        )


def build_problem(
    module: nn.Module, original: nn.Module, graph: Graph, name: str, moments: Moments, kept: Mapping[str, Index], ridge: float
) -> Problem:
    """Set up the repair of a layer.

    Args:
        module: the network as it is.
        original: the original network.
        graph: channel groups and batch norms of the original.
        name: name of the layer.
        moments: moments of the layer.
        kept: `Candidate.kept`: for every narrowed layer, the original's output channels that are left.
        ridge: lambda as a share of the Gram matrix's mean diagonal.
    """
    layer = linear_submodule(module, name)
    count = outputs_per_channel(layer)
    old = matrix(layer)
    width = old.shape[1] // count
    outputs = np.arange(width) if name not in kept else kept[name]
    spread = torch.from_numpy((outputs[:, None] * count + np.arange(count)).ravel())
    norm: Any = original.get_submodule(graph.norms[name]) if name in graph.norms else None
    # An error counts by what it is behind the batch norm: a slope of 2 doubles it, and so weighs its square 4 times.
    weight = torch.ones(len(spread), dtype=torch.float64) if norm is None else _slope(norm)[outputs].square().repeat_interleave(count)
    norm_mean = None if norm is None else norm.running_mean.double()[outputs]
    return Problem(
        name=name,
        gram=moments.gram,
        target=moments.cross[:, spread] if moments.targets is None else moments.cross,
        old=old,
        weight=weight,
        # about the mean of the channel: what is left of the original's outputs when only the bias stays
        energy=max(float(((moments.energy[spread] + spread_over_phases(moments.mean_out[spread], count)) * weight).sum()), 1e-300),
        # the absolute term keeps a layer solvable whose inputs are all constant
        ridge=ridge * float(moments.variance.mean()) + 1e-12,
        mean_in=moments.mean_in,
        mean_out=moments.mean_out[spread],
        norm=graph.norms.get(name),
        norm_mean=norm_mean,
        reads=reads(layer),
        rows=moments.rows,
        inputs=moments.inputs,
        targets=None if moments.targets is None else moments.targets[:, spread],
        phases=count,
        variance_out=moments.energy[spread],
        present_intercept=_present_intercept(module, layer, graph.norms.get(name), norm_mean),
    )


def refit(module: nn.Module, problem: Problem, columns: torch.Tensor, channels: Index | None = None) -> nn.Module:
    """Return a copy of the network whose layer has the repaired weights and intercept; arguments as of `refit_in_place`."""
    changed = copy_module(module)
    refit_in_place(changed, problem, columns, channels)
    return changed


def refit_in_place(module: nn.Module, problem: Problem, columns: torch.Tensor, channels: Index | None = None) -> None:
    """Give a layer the repaired weights and intercept.

    Args:
        module: a private copy of the network, after the cut; it is changed.
        problem: the repair, set up before the cut.
        columns: the columns of the problem that stayed.
        channels: the output channels that stayed, where the layer also loses outputs; None for all.
    """
    if channels is not None:
        problem = problem.with_outputs(channels, outputs_per_channel(linear_submodule(module, problem.name)))
    set_solution(module, problem, problem.solution(columns))


def with_solution(module: nn.Module, problem: Problem, solution: Solution) -> nn.Module:
    """Return a copy of the network whose layer has these weights and this intercept."""
    changed = copy_module(module)
    set_solution(changed, problem, solution)
    return changed


def set_solution(module: nn.Module, problem: Problem, solution: Solution) -> None:
    """Give a layer these weights and this intercept.

    Args:
        module: a private copy of the network; it is changed.
        problem: the repair of the layer.
        solution: its weights and intercept.
    """
    layer, intercept = linear_submodule(module, problem.name), solution.intercept
    weight = weight_from(layer, solution.weights)
    if layer.bias is None and problem.norm is not None and problem.norm_mean is not None:
        # The norm subtracts its mean: x W + b - mean is the same as x W - (mean - b).
        set_tensors(module, problem.norm, running_mean=(problem.norm_mean - intercept).to(weight.dtype))
        set_tensors(module, problem.name, weight=weight)
    else:
        # a layer that had neither a bias nor a norm behind it gets a bias: the mean has to go somewhere
        set_tensors(module, problem.name, weight=weight, bias=intercept.to(weight.dtype))


def _present_intercept(module: nn.Module, layer: LinearMap, norm: str | None, norm_mean: torch.Tensor | None) -> torch.Tensor | None:
    """Return what the layer adds at present, (K,); without a bias, by how much the norm behind it subtracts less than the original's."""
    if layer.bias is not None:
        return layer.bias.detach().double()
    if norm is None or norm_mean is None:
        return None
    return norm_mean - module.get_submodule(norm).get_buffer("running_mean").double()


def _slope(norm: Any) -> torch.Tensor:
    """Return the factor that a batch norm multiplies each channel by."""
    scale = norm.weight.detach().double() if norm.affine else torch.ones(norm.num_features, dtype=torch.float64)
    slope: torch.Tensor = scale / (norm.running_var.double() + norm.eps).sqrt()
    return slope
