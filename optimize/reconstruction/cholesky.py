"""Cholesky factors of second moments, and what it took to get them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RankDeficiency:
    """A repair that the rows alone do not determine.

    Args:
        layer: its name.
        unknowns: columns that were solved for together.
        rows: sampled rows they were solved from.
        lift: what had to be added to the diagonal besides the ridge, as a share of its largest entry; 0 where the ridge was enough.
    """

    layer: str
    unknowns: int
    rows: int
    lift: float

    @property
    def missing(self) -> int:
        """How many independent rows there are at least too few; centring takes one."""
        return max(0, self.unknowns - self.rows + 1)

    def __str__(self) -> str:
        few = f" from {self.rows} rows, {self.missing} independent ones too few: the ridge decides between equals" if self.missing else ""
        lift = f"; {self.lift:.0e} of the largest variance had to be added to solve it" if self.lift else ""
        return f"{self.layer} was refitted with {self.unknowns} unknowns{few}{lift}"


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of a positive matrix; one that rounding left indefinite gets the least diagonal that mends it."""
    return lifted_cholesky(matrix)[0]


def lifted_cholesky(matrix: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The factor, and what was added to the diagonal for it: a share of the largest entry there, in powers of ten."""
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    lift, largest = 0.0, float(matrix.diagonal().abs().max())
    while failed:
        lift = 10 * lift or 1e-11
        factor, failed = torch.linalg.cholesky_ex(matrix + lift * largest * torch.eye(len(matrix), dtype=matrix.dtype))
    return factor, lift
