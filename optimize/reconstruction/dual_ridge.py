"""The ridge regression of a layer with more columns than a Gram matrix may have, solved in the space of the rows.

With the rows z and the original's outputs y, both centred and divided by the root of their number, and the present weights V,

    K = z z' + lambda I        W = V + z' K^-1 (y - z V)        A^-1 = (I - z' K^-1 z) / lambda

are exactly what the normal equations give (Woodbury's identity), with a matrix as large as there are rows. Removing the columns S subtracts
z_S z_S' from K.

Example: a linear layer behind a flattened map reads 25,088 columns. Its Gram matrix would take 25,088^2 * 8 bytes = 5 GB, and its factor
5e12 multiplications. With 2,048 rows K takes 34 MB, and its factor 3e9.
"""

from __future__ import annotations

import numpy as np
import torch

from optimize.graph.trace import Index
from optimize.reconstruction.cholesky import cholesky, lifted_cholesky


def solve(inputs: torch.Tensor, targets: torch.Tensor, old: torch.Tensor, ridge: float) -> tuple[torch.Tensor, float]:
    """Return the weights (p, m), and what was added to K's diagonal besides the ridge.

    Args:
        inputs: (n, p), the rows.
        targets: (n, m), the original's outputs.
        old: (p, m), the present weights.
        ridge: lambda.
    """
    kernel = inputs @ inputs.T
    kernel.diagonal().add_(ridge)
    factor, lift = lifted_cholesky(kernel)
    return old + inputs.T @ torch.cholesky_solve(targets - inputs @ old, factor), lift


class RowState:
    """One reader during elimination (see `importance/output_error.py`), held as rows.

    Args:
        inputs: (n, p), the rows.
        targets: (n, m), the original's outputs, each scaled by the root of its weight.
        old: (p, m), the present weights, with the same scaling.
        ridge: lambda.
        energy: unit of the costs.
        blocks: (channels, b), the columns of each channel.
    """

    def __init__(
        self, inputs: torch.Tensor, targets: torch.Tensor, old: torch.Tensor, ridge: float, energy: float, blocks: torch.Tensor
    ) -> None:
        self.inputs, self.targets, self.old, self.ridge, self.energy, self.blocks = inputs, targets, old, ridge, energy, blocks
        self.kernel = inputs @ inputs.T
        self.kernel.diagonal().add_(ridge)
        self._solve()

    def costs(self) -> np.ndarray:
        """Return what removing each channel alone costs."""
        return np.array([self._cost(block) for block in self.blocks])

    def joint_cost(self, chosen: Index) -> float:
        """Return what removing these channels together costs."""
        return self._cost(self.blocks[torch.from_numpy(chosen)].flatten())

    def inverse_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (A^-1)_SS for every set of columns S in the last axis: (..., b) -> (..., b, b)."""
        # by Woodbury's identity, for these columns only: A itself is never built
        half = self.half.T[rows]  # (..., b, n)
        inverse: torch.Tensor = (torch.eye(rows.shape[-1], dtype=half.dtype) - half @ half.mT) / self.ridge
        return inverse

    def remove(self, chosen: Index) -> None:
        """Remove these channels for good."""
        rows = self.blocks[torch.from_numpy(chosen)].flatten()
        stay = torch.ones(len(self.old), dtype=torch.bool)
        stay[rows] = False
        removed = self.inputs[:, rows]
        # z z' is a sum over columns, so columns go by subtraction; no product with the rest is needed
        self.kernel -= removed @ removed.T
        self.inputs, self.old = self.inputs[:, stay], self.old[stay]
        renumber = torch.cumsum(stay, 0) - 1
        left = np.delete(np.arange(len(self.blocks)), chosen)
        self.blocks = renumber[self.blocks[torch.from_numpy(left)]]
        self._solve()

    def _solve(self) -> None:
        factor = cholesky(self.kernel)
        self.weights = self.old + self.inputs.T @ torch.cholesky_solve(self.targets - self.inputs @ self.old, factor)
        self.half = torch.linalg.solve_triangular(factor, self.inputs, upper=False)  # A^-1 = (I - half' half) / lambda

    def _cost(self, rows: torch.Tensor) -> float:
        weights = self.weights[rows]
        return float((weights * torch.linalg.solve(self.inverse_of(rows), weights)).sum()) / self.energy
