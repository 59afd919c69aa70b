"""The ridge regression of a layer that reads more columns than a gram matrix may have, solved in the space of the rows.

With the rows z and the original's outputs y, both centred and divided by the root of their number, and the present weights V,

    K = z z' + lambda I        W = V + z' K^-1 (y - z V)        A^-1 = (I - z' K^-1 z) / lambda

are exactly what the normal equations give (Woodbury's identity), with a matrix as large as there are rows. Taking columns S away takes
z_S z_S' from K.
"""

from __future__ import annotations

import numpy as np
import torch

from optimize.graph.trace import Index
from optimize.reconstruction.cholesky import cholesky, lifted_cholesky


def solve(inputs: torch.Tensor, targets: torch.Tensor, old: torch.Tensor, ridge: float) -> tuple[torch.Tensor, float]:
    """Weights (p, m) from rows (n, p) and outputs (n, m), and what was added to K's diagonal besides the ridge."""
    kernel = inputs @ inputs.T
    kernel.diagonal().add_(ridge)
    factor, lift = lifted_cholesky(kernel)
    return old + inputs.T @ torch.cholesky_solve(targets - inputs @ old, factor), lift


class RowState:
    """One reader during elimination (see `importance/output_error.py`), held as rows.

    Args:
        given: (n, p) rows.
        wanted: (n, m) outputs, each scaled by the root of its weight.
        old: (p, m) present weights, scaled likewise.
        ridge: lambda.
        energy: unit of the costs.
        blocks: (channels, b) columns of each channel.
    """

    def __init__(
        self, inputs: torch.Tensor, targets: torch.Tensor, old: torch.Tensor, ridge: float, energy: float, blocks: torch.Tensor
    ) -> None:
        self.given, self.wanted, self.old, self.ridge, self.energy, self.blocks = inputs, targets, old, ridge, energy, blocks
        self.kernel = inputs @ inputs.T
        self.kernel.diagonal().add_(ridge)
        self._solve()

    def costs(self) -> np.ndarray:
        """What each channel's removal costs."""
        return np.array([self._cost(block) for block in self.blocks])

    def joint_cost(self, chosen: Index) -> float:
        """What removing these channels together costs."""
        return self._cost(self.blocks[torch.from_numpy(chosen)].flatten())

    def remove(self, chosen: Index) -> None:
        """Take these channels away for good."""
        rows = self.blocks[torch.from_numpy(chosen)].flatten()
        stay = torch.ones(len(self.old), dtype=torch.bool)
        stay[rows] = False
        gone = self.given[:, rows]
        self.kernel -= gone @ gone.T
        self.given, self.old = self.given[:, stay], self.old[stay]
        renumber = torch.cumsum(stay, 0) - 1
        left = np.delete(np.arange(len(self.blocks)), chosen)
        self.blocks = renumber[self.blocks[torch.from_numpy(left)]]
        self._solve()

    def _solve(self) -> None:
        factor = cholesky(self.kernel)
        self.weights = self.old + self.given.T @ torch.cholesky_solve(self.wanted - self.given @ self.old, factor)
        self.half = torch.linalg.solve_triangular(factor, self.given, upper=False)  # A^-1 = (I - half' half) / lambda

    def _cost(self, rows: torch.Tensor) -> float:
        half, weights = self.half[:, rows], self.weights[rows]
        inverse = (torch.eye(len(rows), dtype=half.dtype) - half.T @ half) / self.ridge
        return float((weights * torch.linalg.solve(inverse, weights)).sum()) / self.energy
