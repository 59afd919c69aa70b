"""Redundancy of single layers: of what they make, of their weights, of their filters, and of what they read.

    dimensions       of the channels that a layer makes: how many principal components hold 90, 95 and 99 % of their variance. With W the
                     layer's matrix and G the covariance of what it reads, their covariance is W' G W, so no further pass is needed.
    elbow            the component at which the curve of summed variance is farthest above its chord (Satopää et al. 2011)
    ranks            of W: how many singular values hold these shares of its energy; plain, and whitened, that is of L' W with G = L L'
    twins            columns of W that point the way of an earlier one, or against it, with a cosine of `SIMILAR` or more
    unused channels  channels that never vary in what the layer reads

A layer that is too wide for a Gram matrix, or grouped, has the figures of its weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate, Floats
from optimize.graph.layer_types import LinearMap, groups, linear_submodule
from optimize.graph.trace import trace
from optimize.measure.layers import LayerShape, layer_shapes
from optimize.progress import track
from optimize.reconstruction.cholesky import cholesky
from optimize.reconstruction.layer_matrix import columns_per_channel, matrix, needs_dual_form, unrepairable_reason
from optimize.reconstruction.moments import Moments
from optimize.reconstruction.moments_in_passes import moments_in_passes

SHARES = (0.9, 0.95, 0.99)
SIMILAR = 0.95
ROWS = 20_000
_NOTHING = 1e-10
"""Share of the largest variance below which a channel does not vary."""


@dataclass(frozen=True)
class LayerAudit:
    """What was found of one layer.

    Args:
        name: name of the layer.
        kind: "conv", "transposed" or "linear".
        inputs: channels that it reads.
        outputs: channels that it makes.
        weights: numbers in its kernel.
        parameters: its weights and biases.
        zeros: weights that are exactly 0.
        macs: multiply-accumulates of one input.
        macs_share: share of those of all layers.
        dimensions: principal components that hold 90, 95 and 99 % of the variance of what it makes; empty where that was not measured.
        elbow: component at the elbow of that curve; None where it was not measured.
        ranks: singular values that hold these shares of the energy of its weights.
        whitened_ranks: the same, weighed by what it reads; empty where that was not measured.
        twins: filters that have a cosine of `SIMILAR` or more with an earlier one, either way.
        most_similar: the largest cosine of two filters; None where there is one filter.
        unused_inputs: channels that it reads and that never vary; None where that was not measured.
        note: why something was not measured; empty where all was.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    weights: int
    parameters: int
    zeros: int
    macs: int
    macs_share: float
    dimensions: tuple[int, ...]
    elbow: int | None
    ranks: tuple[int, ...]
    whitened_ranks: tuple[int, ...]
    twins: int
    most_similar: float | None
    unused_inputs: int | None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def audit_layers(candidate: Candidate, inputs: Floats, seed: int = 0) -> tuple[LayerAudit, ...]:
    """Return what is found of every convolution and linear layer that runs, in the order of their first call.

    Args:
        candidate: the network.
        inputs: calibration inputs, (N, C, *spatial).
        seed: seed of the choice of positions.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> images = np.random.default_rng(0).standard_normal((32, 1, 4, 4), np.float32)
        >>> [(layer.name, layer.outputs, len(layer.dimensions)) for layer in audit_layers(Candidate(net, torch.zeros(1, 1, 4, 4)), images)]
        [('0', 4, 3), ('3', 2, 3)]
    """
    module, shapes = candidate.module, layer_shapes(candidate.module, candidate.example)
    names = [name for name in trace(candidate).order if name in shapes]
    total = sum(call.macs for calls in shapes.values() for call in calls)
    able = [name for name in names if _reason(module.get_submodule(name)) == ""]
    measured = dict(_with_ranks(module, inputs, able, seed))
    return tuple(_audited(name, linear_submodule(module, name), shapes[name], total, measured.get(name)) for name in names)


@dataclass(frozen=True, eq=False)
class _Measured:
    """What the moments of a layer say."""

    variances: npt.NDArray[np.float64]
    whitened: npt.NDArray[np.float64]
    unused: int


def _with_ranks(module: nn.Module, inputs: Floats, names: list[str], seed: int) -> Iterator[tuple[str, _Measured]]:
    for name, moments in track(moments_in_passes(module, inputs, names, ROWS, seed), "audit the layers", len(names)):
        layer = linear_submodule(module, name)
        yield name, _of_moments(matrix(layer).double(), moments, columns_per_channel(layer))


def _of_moments(weight: torch.Tensor, moments: Moments, taps: int) -> _Measured:
    gram = moments.gram.double()
    made = weight.T @ gram @ weight
    lifted = gram.clone()
    lifted.diagonal().add_(1e-9 * float(gram.diagonal().mean()) + 1e-30)
    whitened = torch.linalg.svdvals(cholesky(lifted).T @ weight)
    varies = gram.diagonal().reshape(-1, taps).amax(1)
    unused = int((varies <= _NOTHING * float(varies.max())).sum())
    return _Measured(torch.linalg.eigvalsh(made).flip(0).clamp_min(0).numpy(), whitened.square().numpy(), unused)


def _reason(layer: nn.Module) -> str:
    """Return why the moments of a layer are not measured; empty where they are."""
    if groups(layer) > 1:
        return "a grouped layer is a matrix for each group"
    if reason := unrepairable_reason(layer):
        return reason
    return "it is too wide for a Gram matrix" if needs_dual_form(layer) else ""


def _audited(name: str, layer: LinearMap, calls: list[LayerShape], total: int, measured: _Measured | None) -> LayerAudit:
    weight = layer.weight.detach().double()
    plain = matrix(layer).double() if groups(layer) == 1 and unrepairable_reason(layer) is None else weight.flatten(1).T
    twins, most = _similar(plain)
    macs, shape = sum(call.macs for call in calls), calls[0]
    return LayerAudit(
        name,
        shape.kind,
        shape.in_channels,
        shape.out_channels,
        weight.numel(),
        sum(parameter.numel() for parameter in layer.parameters(recurse=False)),
        int((weight == 0).sum()),
        macs,
        macs / total if total else 0.0,
        () if measured is None else holding(measured.variances),
        None if measured is None else elbow(measured.variances),
        holding(torch.linalg.svdvals(plain).square().numpy()),
        () if measured is None else holding(measured.whitened),
        twins,
        most,
        None if measured is None else measured.unused,
        _reason(layer),
    )


def holding(energies: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Return how many of the energies, the largest first, hold 90, 95 and 99 % of their sum.

    Example:
        >>> holding(np.array([90.0, 6.0, 3.5, 0.5]))
        (1, 2, 3)
    """
    total = float(energies.sum())
    if not total > 0:
        return tuple(0 for _ in SHARES)
    summed = np.cumsum(energies) / total
    return tuple(int(np.searchsorted(summed, share - 1e-12)) + 1 for share in SHARES)


def elbow(energies: npt.NDArray[np.float64]) -> int:
    """Return the number of components at the elbow: where the curve of summed energies is farthest above the chord from 0 to its end.

    Example:
        >>> elbow(np.array([10.0, 9.0, 0.5, 0.3, 0.2]))
        2
    """
    total = float(energies.sum())
    if not total > 0:
        return 0
    chord = np.arange(1, len(energies) + 1) / len(energies)
    return int(np.argmax(np.cumsum(energies) / total - chord)) + 1


def _similar(weight: torch.Tensor) -> tuple[int, float | None]:
    """Return how many columns are similar to an earlier one, and the largest cosine, either way."""
    if weight.shape[1] < 2:
        return 0, None
    # a filter of zeros has no direction
    directions = torch.nn.functional.normalize(weight, dim=0)
    cosines = (directions.T @ directions).abs().fill_diagonal_(0)
    return int((cosines.tril() >= SIMILAR).any(1).sum()), float(cosines.max())
