"""Cholesky factors of second moments, and what had to be added to a matrix to get one.

The second moments of few rows are singular, and rounding may make their smallest eigenvalues negative. Then no factor exists, and the least
power of ten that makes one exist is added to the diagonal (the lift).

Example: the matrix [[1, 1], [1, 1]] has the eigenvalues 2 and 0. Rounding may turn the 0 into -1e-16; adding 1e-11 of the largest entry to
the diagonal makes it positive again, and changes the solution by about as little.

    >>> factor, lift = lifted_cholesky(torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-9]], dtype=torch.float64))
    >>> f"{lift:.0e}"
    '1e-09'
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from optimize.errors import InputError

LARGEST_LIFT = 1e3
"""Share of the largest entry of the diagonal that is added at most: second moments need about the rounding of their sums."""


@dataclass(frozen=True)
class RankDeficiency:
    """A repair that the sampled rows alone do not determine.

    Args:
        layer: name of the layer.
        unknowns: number of columns that were solved for together.
        rows: number of sampled rows they were solved from.
        lift: number added to the diagonal besides the ridge, as a share of its largest entry; 0 where the ridge was enough.
    """

    layer: str
    unknowns: int
    rows: int
    lift: float

    @property
    def missing(self) -> int:
        """Number of independent rows that are missing at least; centring takes one."""
        return max(0, self.unknowns - self.rows + 1)

    def __str__(self) -> str:
        few = f" from {self.rows} rows, {self.missing} independent ones too few: the ridge decides between equals" if self.missing else ""
        lift = f"; {self.lift:.0e} of the largest variance had to be added to solve it" if self.lift else ""
        return f"{self.layer} was refitted with {self.unknowns} unknowns{few}{lift}"


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """Return the Cholesky factor of a positive matrix, lifted where rounding left it indefinite."""
    return lifted_cholesky(matrix)[0]


def lifted_cholesky(matrix: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the factor, and what was added to the diagonal for it: a share of its largest entry, in powers of ten; 0 for nothing.

    Of a matrix of zeros the factor is that of the lift alone, as if its largest entry were 1.

    Raises:
        InputError: when the matrix holds a number that is not finite, or is no matrix of second moments.
    """
    require_finite("a layer", matrix)
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    lift, largest = 0.0, float(matrix.diagonal().abs().max()) or 1.0
    while failed and lift < LARGEST_LIFT:
        # 1e-11, 1e-10, ... until a factor exists: the least lift changes the solution least
        lift = 10 * lift or 1e-11
        factor, failed = torch.linalg.cholesky_ex(matrix + lift * largest * torch.eye(len(matrix), dtype=matrix.dtype))
    if failed:
        raise InputError("`matrix` is far from positive, so it holds no second moments: pass X'X of some rows X.")
    return factor, lift


def require_finite(layer: str, *moments: torch.Tensor) -> None:
    """See that second moments hold finite numbers alone.

    Args:
        layer: name of the layer that they belong to.
        moments: matrices and vectors of any shape.

    Raises:
        InputError: when one does not: values beyond about 1e19 have squares that single precision cannot hold.
    """
    if not all(bool(each.isfinite().all()) for each in moments):
        raise InputError(
            f"`model`: the values at {layer} on calibration images are too large or not finite, so their squares cannot be summed: "
            "check the weights, and that mean, std and standardize are those of its training."
        )
