"""One bias for all phases of a transposed convolution: what it changes in the least squares of the phases.

A transposed convolution gives P outputs for each output channel in every block, its phases (`layer_matrix.py`). Phase r has weights w_r of
its own, but all phases of a channel share one bias b. With rows x_r, means m_r, targets y_r and present weights v_r, the repair is

    min over w_1 .. w_P and b of   sum_r E(y_r - x_r w_r - b)^2  +  lambda sum_r ||w_r - v_r||^2

Each phase alone, with an intercept of its own, would be an ordinary centred ridge regression with matrix A_r = cov(x_r) + lambda I,
solution w_r and intercept d_r = mean(y_r) - m_r w_r. Another intercept b costs the squared distance that no change of w_r makes up for:

    min over w_r of (phase r with intercept b)  =  (phase r alone)  +  (d_r - b)^2 / (1 + s_r),       s_r = m_r' A_r^-1 m_r

and the weights then move by A_r^-1 m_r (d_r - b) / (1 + s_r). So the best b is the mean of the d_r with the weights 1 / (1 + s_r). The
joint solution takes one more right-hand side in each phase, m_r, and nothing as large as columns times phases is factorized. It is the
Sherman-Morrison solution of the joint normal equations, with the matrix blockdiag(E x_r x_r' + lambda I) - m m' / P and m the stacked m_r.

Example: two phases with one column each, A_1 = A_2 = 1 and means m_1 = 1, m_2 = 0. Alone they have the intercepts d_1 = 3 and d_2 = 0. With
s_1 = 1 and s_2 = 0 the best bias is (3 / 2 + 0) / (1 / 2 + 1) = 1, not the plain mean 1.5. The weight of phase 1 rises by (3 - 1) / 2 = 1:

    >>> alone, leverage = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0])
    >>> float(shared_bias(alone, leverage, 2)), steps_to_shared_bias(alone, leverage, 2).tolist()
    (1.0, [1.0, -1.0])

A removal of columns changes the w_r, d_r and s_r of every phase. Its exact cost is the sum of the phases' own costs, plus the rise of
sum_r (d_r - b)^2 / (1 + s_r); `SharedBiasState` keeps both up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from optimize.graph.trace import Index


def shared_bias(alone: torch.Tensor, leverage: torch.Tensor, phases: int) -> torch.Tensor:
    """Return the best bias of every channel, (..., K).

    Args:
        alone: (..., K * phases), the intercept d that each phase would have alone.
        leverage: (..., K * phases), s of each phase.
        phases: number of phases of a channel.
    """
    share = 1 / (1 + leverage)
    return _by_channel(share * alone, phases).sum(-1) / _by_channel(share, phases).sum(-1)


def steps_to_shared_bias(alone: torch.Tensor, leverage: torch.Tensor, phases: int) -> torch.Tensor:
    """Return (d - b) / (1 + s) of each phase, (..., K * phases): how far its weights move along A^-1 m; arguments as of `shared_bias`."""
    distance = alone - shared_bias(alone, leverage, phases).repeat_interleave(phases, -1)
    return distance / (1 + leverage)


def cost_of_sharing(alone: torch.Tensor, leverage: torch.Tensor, phases: int) -> torch.Tensor:
    """Return the squared error that one bias costs more than an intercept for each phase, (...); arguments as of `shared_bias`."""
    step = steps_to_shared_bias(alone, leverage, phases)
    return (step.square() * (1 + leverage)).sum(-1)


def spread_over_phases(mean_out: torch.Tensor, phases: int) -> torch.Tensor:
    """Return the squared distance of each output's mean from the mean of its channel, (K * phases,); zeros where there is one phase."""
    return (mean_out - _by_channel(mean_out, phases).mean(-1).repeat_interleave(phases)).square()


def _by_channel(outputs: torch.Tensor, phases: int) -> torch.Tensor:
    return outputs.reshape(*outputs.shape[:-1], -1, phases)


class PhaseState(Protocol):
    """Outputs that read the same columns, during elimination; their last output is no output, but has the weights A^-1 m."""

    weights: torch.Tensor
    blocks: torch.Tensor

    def inverse_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (A^-1)_SS for every set of columns S in the last axis: (..., b) -> (..., b, b)."""

    def remove(self, chosen: Index) -> None:
        """Remove these channels for good."""


class SharedBiasState:
    """A transposed convolution during elimination (see `importance/output_error.py`).

    Args:
        parts: the phases that read the same columns together, each as its state and its outputs among all of the layer's.
        alone: (m,), intercept of every phase alone, times the root of the weight of its squared error.
        leverage: (m,), s of every phase.
        phases: number of phases of a channel.
        energy: unit of the costs.
    """

    def __init__(
        self,
        parts: Sequence[tuple[PhaseState, torch.Tensor]],
        alone: torch.Tensor,
        leverage: torch.Tensor,
        phases: int,
        energy: float,
    ) -> None:
        self.parts, self.alone, self.leverage, self.phases, self.energy = parts, alone, leverage, phases, energy

    def costs(self) -> np.ndarray:
        """Return what removing each channel alone costs."""
        own, alone, leverage = self._without([state.blocks for state, _ in self.parts])
        return np.asarray((self._rise(own, alone, leverage) / self.energy).numpy())

    def joint_cost(self, chosen: Index) -> float:
        """Return what removing these channels together costs."""
        own, alone, leverage = self._without(self._rows(chosen))
        return float(self._rise(own, alone, leverage)) / self.energy

    def remove(self, chosen: Index) -> None:
        """Remove these channels for good."""
        _, alone, leverage = self._without(self._rows(chosen))
        self.alone, self.leverage = alone[0], leverage[0]
        for state, _ in self.parts:
            state.remove(chosen)

    def _rows(self, chosen: Index) -> list[torch.Tensor]:
        return [state.blocks[torch.from_numpy(chosen)].reshape(1, -1) for state, _ in self.parts]

    def _rise(self, own: torch.Tensor, alone: torch.Tensor, leverage: torch.Tensor) -> torch.Tensor:
        before = cost_of_sharing(self.alone, self.leverage, self.phases)
        return own + cost_of_sharing(alone, leverage, self.phases) - before

    def _without(self, removed: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the phases' own costs of each of c removals, (c,), and what `alone` and `leverage` are after it, (c, m).

        Args:
            removed: (c, b) columns of each removal, for every part.
        """
        count = len(removed[0])
        own = torch.zeros(count, dtype=torch.float64)
        alone, leverage = self.alone.repeat(count, 1), self.leverage.repeat(count, 1)
        for (state, outputs), rows in zip(self.parts, removed, strict=True):
            weights = state.weights[rows]  # (c, b, outputs and the mean)
            solved = torch.linalg.solve(state.inverse_of(rows), weights)
            own += (weights * solved)[..., :-1].sum((1, 2))
            # The weights W of the columns that stay change by A^-1_.S [(A^-1)_SS]^-1 W_S. Multiplied by the means, that is the change of
            # the intercepts for the outputs, and of s for u = A^-1 m.
            across = (weights[..., -1:] * solved).sum(1)  # (c, outputs and the mean)
            alone[:, outputs] += across[:, :-1]
            leverage[:, outputs] -= across[:, -1:]
        return own, alone, leverage.clamp_min_(0.0)
