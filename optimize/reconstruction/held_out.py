"""A repair that held-out rows do not confirm is taken back, as far as they say.

With fewer independent rows than unknowns, least squares meets the rows it was fitted on and may be far off everywhere else. So every fifth
row is kept apart, in whole cases but for one a batch. The layer is fitted to the others, and the held-out rows compare three states:

    present     the weights and the intercept that the layer has
    centred     the same weights, with the intercept that is best for them
    repaired    the fitted weights and their intercept

Along a straight line from one state to the next, W0 + t (W1 - W0), the squared error on the held-out rows is a parabola in t. With the
residuals r at t = 0 and their change d up to t = 1 it is E(r - t d)^2, so it is least at

    t = E(r d) / E(d^2),        with the standard error  se = sqrt( E(r - t d)^2 / (n E(d^2)) )  over n rows

Both are sums over the held-out moments: no row is read again, and nothing is factorized.

Where rows are plentiful and the repair is no worse than the other two states on the held-out rows, the layer gets the fit to all rows: the
minimum that `ridge.py` states. Otherwise it goes along its two lines to t - se, taken into 0 .. 1. Neither part of the way can raise the
layer's error on the held-out rows, so the layer is not worse there than it was. One standard error less keeps few held-out rows from
confirming noise (the rule of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).

Example: the residuals of an output are 1 and 1 on two held-out rows, and the repair changes its outputs by 2 and 0. At t = 1 they would be
-1 and 1, no better than before. The best is t = (1 * 2 + 1 * 0) / (4 + 0) = .5, with the residuals 0 and 1. Its standard error is
sqrt(.5 / (2 * 2)) = .35, so the layer goes .15 of the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from optimize.graph.trace import Graph, Index
from optimize.progress import record_finding
from optimize.reconstruction.ridge import Problem, Solution, build_problem, with_solution
from optimize.reconstruction.split_moments import Split, pooled

PLENTY = 2
"""Rows for each unknown from which on more rows make the fit better. Near one row each they make it worse, so a check by fewer is none."""
AMPLE = 8
"""Rows for each unknown from which on the refit after a cut is not checked: the fit is as good as its rows then."""
FULL = 0.95
"""Share of the way to the fitted weights from which on a repair is not called partial."""
NEGLIGIBLE = 1e-6
"""Squared change of a layer's outputs, as a share of their variance, below which a partial repair is not reported."""


@dataclass(frozen=True)
class PartialRepair:
    """A repair that held-out rows did not confirm.

    Args:
        layer: name of the layer.
        share: share of the way to the fitted weights that it went.
    """

    layer: str
    share: float

    def __str__(self) -> str:
        return f"{self.layer} was refitted {100 * self.share:.0f} % of the way: held-out rows did not confirm the rest"


@dataclass(frozen=True, eq=False)
class CheckedProblem:
    """The normal equations of one layer by all rows, by the rows to fit to, and by the held-out rows.

    Args:
        every: by all rows.
        fit: by the rows to fit to; None where the rows are so many that nothing has to be checked.
        held_out: by the held-out rows; None likewise.
    """

    every: Problem
    fit: Problem | None = None
    held_out: Problem | None = None

    def solution(self, columns: torch.Tensor, channels: Index | None) -> tuple[Problem, Solution]:
        """Return the repair as far as the held-out rows confirm it, with the problem of the outputs that stay.

        Args:
            columns: the columns that stay.
            channels: the output channels that stay, where the layer also makes what it reads; None for all.
        """
        parts = (self.every, self.fit, self.held_out)
        if channels is not None:
            parts = tuple(part and part.with_outputs(channels, part.phases) for part in parts)  # type: ignore[assignment]
        every, fit, held_out = parts
        assert every is not None
        return every, every.solution(columns) if fit is None else confirmed_solution(fit, held_out, columns, every)


def checked_problem(
    module: nn.Module, original: nn.Module, graph: Graph, name: str, moments: Split, kept: Mapping[str, Index], ridge: float
) -> CheckedProblem:
    """Return the normal equations of a layer that is repaired after a cut; arguments as of `confirmed_refit`."""
    fitting, held_out = moments
    every = build_problem(module, original, graph, name, fitting if held_out is None else pooled(fitting, held_out), kept, ridge)
    if held_out is None or fitting.rows >= AMPLE * every.unknowns:
        return CheckedProblem(every)
    return CheckedProblem(every, *(build_problem(module, original, graph, name, part, kept, ridge) for part in (fitting, held_out)))


def confirmed_refit(
    module: nn.Module,
    original: nn.Module,
    graph: Graph,
    name: str,
    moments: Split,
    kept: Mapping[str, Index],
    ridge: float,
) -> nn.Module:
    """Return the network in which one layer is repaired as far as held-out rows confirm it.

    Args:
        module: the network.
        original: the original network.
        graph: graph of the network.
        name: the layer.
        moments: moments of the rows to fit to, and of the held-out rows; None where there are none, and nothing can be checked.
        kept: layer -> which of the original's output channels it still makes.
        ridge: strength of the pull to the present weights, as a share of the mean diagonal of the Gram matrix.
    """
    fitting, held_out = moments
    every = fitting if held_out is None else pooled(fitting, held_out)
    fit, whole = (build_problem(module, original, graph, name, part, kept, ridge) for part in (fitting, every))
    columns = torch.arange(len(fit.old))
    check = None if held_out is None else build_problem(module, original, graph, name, held_out, kept, ridge)
    return with_solution(module, whole, confirmed_solution(fit, check, columns, whole))


def confirmed_solution(fit: Problem, held_out: Problem | None, columns: torch.Tensor, every: Problem | None = None) -> Solution:
    """Return the repair of a layer as far as held-out rows confirm it; record a `PartialRepair` as a finding.

    Args:
        fit: the repair, by the rows to fit to.
        held_out: the same layer by the held-out rows; None to take the repair unchecked.
        columns: the columns that stay.
        every: the repair by all rows, which is returned where the held-out rows confirm the one by `fit`; None for that one.
    """
    every = fit if every is None else every
    if held_out is None:
        return every.solution(columns)
    plenty = fit.rows >= PLENTY * min(len(columns), fit.unknowns)
    repaired = fit.solution(columns, record=not plenty)
    channels = fit.old.shape[1] // fit.phases
    # where the problem does not say what the layer adds, it adds nothing
    zero = torch.zeros(channels, dtype=torch.float64)
    present = Solution(fit.old[columns], zero if fit.present_intercept is None else fit.present_intercept)
    centred = Solution(present.weights, fit.best_intercept(columns, present.weights))
    first, second = _Line(held_out, columns, present, centred), _Line(held_out, columns, centred, repaired)
    rise = second.rise()
    if plenty and rise <= 0 and first.rise() + rise <= 0:
        return every.solution(columns)
    line = _Line(held_out, columns, first.end(first.share), repaired)
    # a step that changes next to nothing is no news, whatever its share
    if line.share < FULL and float(line.curve @ fit.weight) > NEGLIGIBLE * fit.energy:
        record_finding(PartialRepair(fit.name, line.share))
    return line.end(line.share)


class _Line:
    """The squared error on held-out rows along the straight line between two states of a layer."""

    def __init__(self, held_out: Problem, columns: torch.Tensor, start: Solution, end: Solution) -> None:
        self.start, self.weight, self.rows = start, held_out.weight, held_out.rows
        self.weights, self.intercept = end.weights - start.weights, end.intercept - start.intercept
        mean, phases = held_out.mean_in[columns], held_out.phases
        residual = held_out.mean_out - mean @ start.weights - start.intercept.repeat_interleave(phases)
        change = mean @ self.weights + self.intercept.repeat_interleave(phases)
        fitted, cross = _gram_times(held_out, columns, start.weights), _cross(held_out, columns)
        # E(r d), E(d^2) and E(r^2) for each output: the part about the means, and the means' part
        self.gain = (self.weights * (cross - fitted)).sum(0) + residual * change
        self.curve = (self.weights * _gram_times(held_out, columns, self.weights)).sum(0) + change.square()
        self.error = (start.weights * (fitted - 2 * cross)).sum(0) + residual.square()
        if held_out.variance_out is not None:
            self.error += held_out.variance_out

    @cached_property
    def share(self) -> float:
        """The best t for all outputs together, with the weight of each squared error, less its standard error; in 0 .. 1."""
        gain, curve = float(self.gain @ self.weight), float(self.curve @ self.weight)
        if curve <= 0:
            return 1.0
        share = gain / curve
        left = (self.error - 2 * share * self.gain + share**2 * self.curve).clamp_min(0.0)
        # the outputs' errors are taken for independent
        spread = float((self.weight.square() * left) @ self.curve)
        deviation = math.sqrt(spread / max(self.rows, 1)) / curve
        return min(1.0, max(0.0, share - deviation))

    def rise(self) -> float:
        """Return by how much the weighted squared error at the end is larger than at the start."""
        return float((self.curve - 2 * self.gain) @ self.weight)

    def end(self, share: float) -> Solution:
        """Return the state at the share t of the line."""
        return Solution(self.start.weights + share * self.weights, self.start.intercept + share * self.intercept)


def _cross(problem: Problem, columns: torch.Tensor) -> torch.Tensor:
    """Return the centred moments of some columns with the original's outputs, (len(columns), m)."""
    if problem.inputs is not None and problem.targets is not None:
        return problem.inputs[:, columns].T @ problem.targets
    return problem.target[columns]


def _gram_times(problem: Problem, columns: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the Gram matrix of some columns times weights (len(columns), m), at the entries that are weights."""
    if problem.inputs is not None:
        rows = problem.inputs[:, columns]
        return rows.T @ (rows @ weights)
    if len(problem.gram) == problem.gram.shape[1]:
        return problem.gram[columns][:, columns] @ weights
    # of a grouped layer there are only the groups' own blocks, one below the other
    product = torch.zeros_like(weights)
    for places, outputs in problem.parts(columns):
        own = columns[places]
        product[places[:, None], outputs] = problem.gram[own][:, own % problem.gram.shape[1]] @ weights[places[:, None], outputs]
    return product
