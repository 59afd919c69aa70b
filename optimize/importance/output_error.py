"""Output error: what losing a channel costs after the best linear repair of every layer that reads it.

Every layer that reads the channel is a ridge regression (`optimize/reconstruction/ridge.py`) with matrix A and solution W. Forcing the rows
S of W to zero, all others free to adapt, raises its minimum by exactly

    cost(S) = tr( W_S' [(A^-1)_SS]^-1 W_S )

(the optimal brain surgeon's formula for a block: Hassibi & Stork 1993, for least squares). After a removal the block's Schur complement
brings A^-1 and W to the remaining columns, so the greedy backward elimination sees exact costs at every stage. A channel's cost is the
sum over its readers, each as a share of the energy of that reader's original output.

Example, one reader with one output, no ridge: A = [[1, .8], [.8, 1]] and W = (1, 1). A^-1 = [[2.78, -2.22], [-2.22, 2.78]], so losing
channel 0 costs 1 * (1 / 2.78) * 1 = .36: the reader's weight of channel 1 becomes 1.8, which does much of the work of both. With
uncorrelated channels, A = I, nothing can stand in, and the cost is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, Index, trace
from optimize.importance.signal import Scores
from optimize.reconstruction.dual_ridge import RowState
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.layer_repair import RIDGE, ROWS, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem, cholesky
from optimize.reconstruction.shared_bias import SharedBiasState

CHUNKS = 32
"""A group is eliminated in about this many chunks: exact costs after each single removal of 512 channels would take minutes."""


@dataclass(frozen=True)
class OutputError:
    """The total cost at which greedy elimination removes a channel, after the best repair of its readers.

    Args:
        rows: sampled positions of each reader.
        ridge: strength of the pull to the present weights, see `Repair`.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 4))
        >>> reference = opt.Reference(original, calibration=np.random.default_rng(0).random((64, 4), np.float32))
        >>> _ = net[0].weight.data[2].zero_(), net[0].bias.data[2].fill_(-1)  # channel 2 is 0 behind its ReLU
        >>> (scores,) = opt.OutputError()(original, reference, opt.trace(original).groups)
        >>> scores.shape, round(float(scores[2]), 3)
        ((6,), 0.0)
    """

    rows: int = ROWS
    ridge: float = RIDGE

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return (size,) per group, a share of the energy of the readers' original outputs, comparable across groups.

        Infinite for the channel that stays to the end; NaN for a group that no layer with a closed form reads.
        """
        graph, module, original = trace(candidate), candidate.module, reference.original.module
        layers = repairable(module, original, graph)
        targets = OriginalOutputs(original, reference.calibration, layers, rows=self.rows, seed=reference.seed, memory=reference.memory)
        scores = []
        for group in groups:
            names = [slot.module for slot in group.consumers if slot.module in layers]
            score = np.full(group.size, np.inf if names else np.nan)
            if names:
                moments = targets.moments(module, names)
                problems = [build_problem(module, original, graph, name, moments[name], candidate.kept, self.ridge) for name in moments]
                blocks = {slot.module: columns(module.get_submodule(slot.module), slot.index) for slot in group.consumers}  # type: ignore[arg-type]
                elimination = eliminate([reader for problem in problems for reader in problem.independent_problems(blocks[problem.name])])
                # a channel is worth the total cost at which it goes; the one that never goes keeps infinity
                score[elimination.order] = elimination.cost
            scores.append(score)
        return scores


@dataclass(frozen=True, eq=False)
class Elimination:
    """Channels in the order they are removed, and the total cost after each removal.

    Args:
        order: (k,) the channels, the first removed first.
        cost: (k,) cost of removing the channels up to and including this one; rising.
    """

    order: Index
    cost: np.ndarray


def eliminate(
    readers: Sequence[tuple[Problem, torch.Tensor]], *, budget: float = np.inf, least: int = 1, order: Index | None = None
) -> Elimination:
    """Remove channels until the total cost would pass `budget` or only `least` are left.

    Args:
        readers: problem of every layer that reads the channels, and the columns of each channel in it, (channels, b).
        budget: largest total cost.
        least: channels to keep whatever they cost.
        order: (k,) the channels that may go, the first removed first; None to remove whichever is cheapest at every stage.
    """
    states = [_state(problem, blocks) for problem, blocks in readers]
    alive = np.arange(len(readers[0][1]))
    chunk = max(1, len(alive) // CHUNKS)
    removed: list[int] = []
    costs: list[float] = []
    total = 0.0
    while len(alive) > least and (order is None or len(removed) < len(order)):
        # `alive` is sorted, so searchsorted gives the place of each channel of a given order among those left
        places = _cheapest_first(states) if order is None else np.searchsorted(alive, order[len(removed) :])
        count = min(chunk, len(alive) - least, len(places))
        # Channels that are cheap alone may be dear together: two alike ones each cost nothing while the other is there. So the joint cost
        # decides, and the chunk is halved until it fits into the budget.
        while True:
            lowest = places[:count]
            joint = sum(state.joint_cost(lowest) for state in states)
            if total + joint <= budget or count == 1:
                break
            count = max(1, count // 2)
        if total + joint > budget:
            break
        for state in states:
            state.remove(lowest)
        # within a chunk only the joint cost is exact; it is shared out so that the curve stays monotone
        costs.extend(total + joint * (np.arange(count) + 1) / count)
        total += joint
        removed.extend(alive[lowest])
        alive = np.delete(alive, lowest)
    return Elimination(np.asarray(removed, dtype=np.int64), np.asarray(costs))


def _cheapest_first(states: Sequence[_State | RowState | SharedBiasState]) -> Index:
    """Return the places of the channels still alive, by what losing each alone would cost all readers together."""
    return np.asarray(np.argsort(np.sum([state.costs() for state in states], axis=0), kind="stable"))


def _state(problem: Problem, blocks: torch.Tensor) -> _State | RowState | SharedBiasState:
    return _shared_bias_state(problem, blocks) if problem.phases > 1 else _own_state(problem, blocks)


def _shared_bias_state(problem: Problem, blocks: torch.Tensor) -> SharedBiasState:
    parts = []
    scale = problem.weight.sqrt()
    # without a tap a phase is nothing but its intercept
    alone, leverage = problem.mean_out * scale, torch.zeros(len(scale), dtype=torch.float64)
    for phase, own, outputs in problem.phase_problems(blocks):
        state = _own_state(phase, own)
        alone[outputs] -= phase.mean_in @ state.weights[:, :-1]
        leverage[outputs] = phase.mean_in @ state.weights[:, -1]
        parts.append((state, outputs))
    return SharedBiasState(parts, alone, leverage, problem.phases, problem.energy)


def _own_state(problem: Problem, blocks: torch.Tensor) -> _State | RowState:
    if problem.inputs is None or problem.targets is None:
        return _State(problem, blocks)
    scale = problem.weight.sqrt()
    return RowState(problem.inputs, problem.targets * scale, problem.old * scale, problem.ridge, problem.energy, blocks)


class _State:
    """One reader during elimination: the inverse and the weights on the columns still alive."""

    def __init__(self, problem: Problem, blocks: torch.Tensor) -> None:
        matrix = problem.gram.clone()
        matrix.diagonal().add_(problem.ridge)
        factor = cholesky(matrix)
        self.inverse = torch.cholesky_inverse(factor)
        # outputs scaled by the root of their weight: plain squares of these weights are then the weighted squares of the formula
        self.weights = torch.cholesky_solve((problem.target + problem.ridge * problem.old) * problem.weight.sqrt(), factor)
        self.blocks = blocks
        self.energy = problem.energy

    def costs(self) -> np.ndarray:
        inverse = self.inverse_of(self.blocks)  # (channels, b, b)
        weights = self.weights[self.blocks]  # (channels, b, m)
        values = (weights * torch.linalg.solve(inverse, weights)).sum((1, 2))
        return np.asarray((values / self.energy).numpy())

    def inverse_of(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inverse[rows[..., :, None], rows[..., None, :]]

    def joint_cost(self, chosen: Index) -> float:
        rows = self.blocks[torch.from_numpy(chosen)].flatten()
        weights = self.weights[rows]
        # tr(W_S' [(A^-1)_SS]^-1 W_S), for all of the chosen channels at once
        return float((weights * torch.linalg.solve(self.inverse[rows][:, rows], weights)).sum()) / self.energy

    def remove(self, chosen: Index) -> None:
        rows = self.blocks[torch.from_numpy(chosen)].flatten()
        stay = torch.ones(len(self.inverse), dtype=torch.bool)
        stay[rows] = False
        # Schur complement: (A without S)^-1 = B - c' k^-1 c with the blocks B (stay), c (between) and k (removed) of A^-1. Exact, and much
        # cheaper than a new inverse.
        corner = self.inverse[rows][:, rows]
        across = self.inverse[rows][:, stay]
        step = torch.linalg.solve(corner, across)
        self.weights = self.weights[stay] - step.T @ self.weights[rows]
        self.inverse = self.inverse[stay][:, stay] - across.T @ step
        renumber = torch.cumsum(stay, 0) - 1
        left = np.delete(np.arange(len(self.blocks)), chosen)
        self.blocks = renumber[self.blocks[torch.from_numpy(left)]]
