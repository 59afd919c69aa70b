"""A convolution as two or three thinner ones in a row, fitted to what it computes on the inputs that it really gets.

As a matrix W (p, m) a convolution maps a patch of p = channels x taps values to m outputs (`layer_matrix.py`). Three forms have thinner
parts, with the rank r, or the ranks r1 and r2, between them:

    channel    taps: channels -> r,      then 1x1: r -> m                            (Zhang et al. 2016; with one tap the SVD of a matrix)
    spatial    column of taps: channels -> r,  then row of taps: r -> m              (Jaderberg et al. 2014)
    tucker     1x1: channels -> r1,      taps: r1 -> r2,       1x1: r2 -> m          (Kim et al. 2016)

What counts is not W but the outputs. With the covariance G of the patches, a map V loses the share tr((W - V)' G (W - V)) / tr(W' G W) of
the outputs' variance. Directions that the inputs hardly use cost nothing, so a decomposition of L' W, with G = L L', needs lower ranks than
one of W for the same loss (whitening). The mean is made up for by the bias.

    channel    The best map of rank r is known in closed form: the r largest singular values of L' W (Eckart and Young).
    spatial    The first part comes from a decomposition whitened by the columns' own covariance, which is an approximation; the second part
               is then the least-squares solution for these features: with T (p, r x row) the map of the first part, (T' G T)^-1 T' G W.
    tucker     The input side comes from a decomposition whitened by the covariance of channels, the output side from that of L' W;
               the core between them is the least-squares solution again.

Worked example. Patches of two values with G = diag(1, 0.01) and W = diag(1, 2): W alone would keep its second direction, which is larger,
and lose 1 / (1 + 0.04) = 96 % of the outputs' variance. L' W = diag(1, 0.2) keeps the first one, and loses 0.04 / 1.04 = 4 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from optimize.reconstruction.cholesky import cholesky

LITTLE = 1e-6
"""Share of the mean variance that each direction is given at least, so that directions which no input takes can be told apart."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A convolution to be made thinner.

    Args:
        weight: (channels, *taps, m), float64: its matrix, with the first axis taken apart.
        gram: (p, p), float64, covariance of the patches; None where all directions count alike.
    """

    weight: torch.Tensor
    gram: torch.Tensor | None = None

    @property
    def matrix(self) -> torch.Tensor:
        """W, (p, m)."""
        return self.weight.flatten(0, -2)

    @cached_property
    def second_moments(self) -> torch.Tensor:
        """G, (p, p), with a little more variance in each direction."""
        count = len(self.matrix)
        if self.gram is None:
            return torch.eye(count, dtype=torch.float64)
        lifted = self.gram.double().clone()
        lifted.diagonal().add_(LITTLE * float(self.gram.diagonal().mean()) + 1e-12)
        return lifted

    @cached_property
    def decomposition(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Singular values of L' W, and the output directions that belong to them, (k, m)."""
        _, sigma, outputs = torch.linalg.svd(cholesky(self.second_moments).T @ self.matrix, full_matrices=False)
        return sigma, outputs

    def lost(self, made: torch.Tensor) -> float:
        """Return the share of the outputs' variance that a map (p, m) in place of W loses."""
        off = self.matrix - made
        energy = float(((self.second_moments @ self.matrix) * self.matrix).sum())
        return float(((self.second_moments @ off) * off).sum()) / max(energy, 1e-300)


@dataclass(frozen=True, eq=False)
class Thin:
    """Thinner convolutions in a row.

    Args:
        form: name of the form.
        kernels: weights of each, (out, in, *kernel), float64.
        map: (p, m), what they compute together.
        lost: share of the outputs' variance that is lost.
    """

    form: str
    kernels: tuple[torch.Tensor, ...]
    map: torch.Tensor
    lost: float


def channel(whole: Whole, rank: int) -> Thin:
    """Return the best map of a rank as taps to `rank` channels and 1x1 from these.

    Example:
        >>> weight = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))[:, None, None]  # (2, 1, 1, 2)
        >>> gram = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
        >>> f"{channel(Whole(weight), 1).lost:.2f} {channel(Whole(weight, gram), 1).lost:.2f}"
        '0.20 0.04'
    """
    outputs = whole.decomposition[1][:rank]
    # the outputs' directions are orthonormal, so the best map into them is W itself, seen along them
    first = whole.matrix @ outputs.T
    made = first @ outputs
    channels, *taps, _ = whole.weight.shape
    kernels = first.T.reshape(rank, channels, *taps), outputs.T.reshape(-1, rank, *[1] * len(taps))
    return Thin("channel", kernels, made, whole.lost(made))


def spatial(whole: Whole, rank: int) -> Thin:
    """Return a column of taps to `rank` channels, and a row of taps from these; only for two spatial axes."""
    channels, height, width, outputs = whole.weight.shape
    blocks = whole.second_moments.reshape(channels, height, width, channels, height, width)
    # covariance of the patches' columns, the mean over the places in a row
    columns = torch.einsum("iyxjzx->iyjz", blocks).reshape(channels * height, channels * height) / width
    root = cholesky(columns)
    unfolded = whole.weight.reshape(channels * height, width * outputs)
    left = torch.linalg.svd(root.T @ unfolded, full_matrices=False)[0][:, :rank]
    first = torch.linalg.solve_triangular(root.T, left, upper=True).reshape(channels, height, rank)
    # features of the second part: (rank, place in the row)
    features = torch.einsum("iyr,xw->iyxrw", first, torch.eye(width, dtype=torch.float64)).reshape(-1, rank * width)
    second = _fitted(whole, features)
    made = features @ second
    kernels = (
        first.permute(2, 0, 1)[..., None],
        second.reshape(rank, width, outputs).permute(2, 0, 1)[:, :, None],
    )
    return Thin("spatial", kernels, made, whole.lost(made))


def tucker(whole: Whole, inside: int, outside: int) -> Thin:
    """Return 1x1 to `inside` channels, taps from these to `outside`, and 1x1 from these."""
    channels, *taps, _ = whole.weight.shape
    count = whole.weight[0, ..., 0].numel()
    blocks = whole.second_moments.reshape(channels, count, channels, count)
    root = cholesky(torch.einsum("itjt->ij", blocks) / count)
    left = torch.linalg.svd(root.T @ whole.weight.reshape(channels, -1), full_matrices=False)[0][:, :inside]
    first = torch.linalg.solve_triangular(root.T, left, upper=True)
    outputs = whole.decomposition[1][:outside]
    features = torch.einsum("ir,st->isrt", first, torch.eye(count, dtype=torch.float64)).reshape(-1, first.shape[1] * count)
    core = _fitted(whole, features) @ outputs.T
    made = features @ core @ outputs
    ones = [1] * len(taps)
    kernels = (
        first.T.reshape(-1, channels, *ones),
        core.T.reshape(len(outputs), -1, *taps),
        outputs.T.reshape(-1, len(outputs), *ones),
    )
    return Thin("tucker", kernels, made, whole.lost(made))


def smallest(whole: Whole, form: str, energy: float) -> Thin | None:
    """Return the thinnest convolutions of a form that keep a share of the outputs' variance; None where the form does not apply.

    Args:
        whole: the convolution.
        form: "channel", "spatial" or "tucker".
        energy: the share, in (0, 1).
    """
    sigma = whole.decomposition[0]
    share = torch.cumsum(sigma.square(), 0) / sigma.square().sum().clamp_min(1e-300)

    def rank_of(kept: float) -> int:
        return min(int((share < kept - 1e-12).sum()) + 1, len(sigma))

    channels, *taps, outputs = whole.weight.shape
    if form == "channel":
        return channel(whole, rank_of(energy))
    if max(taps) == 1:
        return None
    if form == "tucker":
        # half of what may be lost is lost on the side of the outputs
        outside = rank_of(1 - (1 - energy) / 2)
        return _least(lambda inside: tucker(whole, inside, outside), channels, energy)
    if len(taps) != 2 or min(taps) == 1:
        return None
    return _least(lambda rank: spatial(whole, rank), min(channels * taps[0], taps[1] * outputs), energy)


def _least(make: Callable[[int], Thin], most: int, energy: float) -> Thin | None:
    """Return what the lowest rank makes that keeps the energy, by bisection: a higher rank loses no more."""
    low, found = 1, make(most)
    if found.lost > 1 - energy:
        return None
    high = most
    while low < high:
        middle = (low + high) // 2
        tried = make(middle)
        if tried.lost <= 1 - energy:
            high, found = middle, tried
        else:
            low = middle + 1
    return found


def _fitted(whole: Whole, features: torch.Tensor) -> torch.Tensor:
    """Return the least-squares weights (k, m) of W's outputs on features (p, k) of the patches."""
    moments = whole.second_moments @ features
    normal = features.T @ moments
    normal.diagonal().add_(1e-12 * float(normal.diagonal().mean()))
    return torch.cholesky_solve(moments.T @ whole.matrix, cholesky(normal))
