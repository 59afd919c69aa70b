"""Low-rank convolutions: one as two or three thinner ones in a row, fitted to the inputs that it really gets.

The forms and the fit are in `reconstruction/low_rank.py`. Of the forms that keep the share of the outputs' variance, each layer gets the
one with the fewest multiply-accumulates. What the mean of the inputs is worth goes into the bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError, require_choice
from optimize.graph.layer_types import Convolution
from optimize.graph.surgery import replace_module, runs_on
from optimize.graph.trace import trace
from optimize.measure.layers import layer_shapes
from optimize.progress import track
from optimize.reconstruction.layer_matrix import matrix, unknowns, unrepairable_reason
from optimize.reconstruction.low_rank import Thin, Whole, smallest
from optimize.reconstruction.moments import WIDEST, Moments
from optimize.reconstruction.moments_in_passes import moments_in_passes

FORMS = ("channel", "spatial", "tucker")


@dataclass(frozen=True)
class FactorizeConvolutions:
    """Replace convolutions by thinner ones in a row wherever that saves enough multiply-accumulates.

    Args:
        energy: least share of the variance of the layer's outputs to keep, in (0, 1]; 1 changes nothing.
        forms: forms to choose among: "channel", "spatial", "tucker".
        rows: patches that the covariances are taken from, as far as there are so many.
        whiten: weigh directions by how much the inputs use them; off, the weights alone decide.
        gain: share of the layer's multiply-accumulates that it must save: a further layer takes time, however small.

    Raises:
        InputError: when a form is unknown or the energy is out of its range.

    Example:
        >>> import numpy as np
        >>> import optimize as opt
        >>> net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)).eval()
        >>> original = opt.Candidate(net, torch.ones(1, 8, 9, 9))
        >>> reference = opt.Reference(original, np.random.default_rng(0).random((64, 8, 9, 9), np.float32))
        >>> thin = opt.FactorizeConvolutions(0.5)(original, reference)
        >>> thin.parameters < original.parameters
        True
    """

    TRAINS: ClassVar[bool] = False

    energy: float
    forms: tuple[str, ...] = FORMS
    rows: int = 20_000
    whiten: bool = True
    gain: float = 0.25

    def __post_init__(self) -> None:
        for form in self.forms:
            require_choice("forms", form, FORMS)
        if not 0 < self.energy <= 1:
            raise InputError(f"`energy` (={self.energy:g}) must be above 0 and at most 1: it is the share of variance to keep.")

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the factorized candidate; the same network when no layer gains."""
        if self.energy >= 1:
            return candidate.after(self, candidate.module)
        module, shapes = candidate.module, layer_shapes(candidate.module, candidate.example)
        names = [name for name in trace(candidate).order if _can_be_thin(candidate.module.get_submodule(name))]
        for name, moments in track(self._moments(candidate, reference, names), f"factorize, energy {self.energy:g}", len(names)):
            layer: Any = candidate.module.get_submodule(name)
            made = self._thinnest(layer, moments, shapes[name][0].spatial)
            if made is None:
                continue
            proposed = replace_module(module, name, _in_a_row(layer, made, None if moments is None else moments.mean_in))
            if runs_on(proposed, candidate.example):
                module = proposed
        return candidate.after(self, module)

    def _moments(self, candidate: Candidate, reference: Reference, names: list[str]) -> Iterator[tuple[str, Moments | None]]:
        """Yield each layer with the moments of its patches; None where none are wanted."""
        if self.whiten:
            yield from moments_in_passes(candidate.module, reference.calibration, names, self.rows, reference.seed)
        else:
            yield from ((name, None) for name in names)

    def _thinnest(self, layer: Convolution, moments: Moments | None, spatial: tuple[int, ...]) -> Thin | None:
        """Return the form with the fewest multiply-accumulates; None where none saves enough."""
        weight = matrix(layer).double().reshape(layer.in_channels, *layer.kernel_size, layer.out_channels)
        whole = Whole(weight, None if moments is None else moments.gram)
        made = [thin for form in self.forms if (thin := smallest(whole, form, self.energy)) is not None]
        least = min(made, key=lambda thin: _macs(layer, thin, spatial), default=None)
        own = prod(_sizes(layer, spatial)) * layer.weight.numel()
        return least if least is not None and _macs(layer, least, spatial) <= (1 - self.gain) * own else None


def _can_be_thin(layer: nn.Module) -> bool:
    convolution = isinstance(layer, Convolution) and layer.groups == 1 and not isinstance(layer.padding, str)
    return convolution and unrepairable_reason(layer) is None and unknowns(layer) <= WIDEST  # type: ignore[arg-type]


def _sizes(layer: Convolution, spatial: tuple[int, ...]) -> list[int]:
    """Return the sizes of the outputs, for inputs of these sizes."""
    padding: Any = layer.padding
    settings = zip(spatial, layer.kernel_size, layer.stride, padding, layer.dilation, strict=True)
    return [(size + 2 * pad - gap * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, pad, gap in settings]


def _macs(layer: Convolution, thin: Thin, spatial: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of the convolutions in a row, for an input of these sizes."""
    total = 0
    for part in parts_in_a_row(layer, [kernel.shape for kernel in thin.kernels]):
        spatial = tuple(_sizes(part, spatial))
        total += prod(spatial) * part.weight.numel()
    return total


def parts_in_a_row(layer: Convolution, shapes: Sequence[Sequence[int]]) -> list[Convolution]:
    """Return the layers that stand for a convolution, without numbers in them; each axis's stride, padding and dilation goes with its taps.

    Args:
        layer: the convolution.
        shapes: shapes of the weights, (out, in, *kernel), in the order of the layers.

    Example:
        >>> column, row = parts_in_a_row(nn.Conv2d(3, 8, 3, stride=2, padding=1), [(4, 3, 3, 1), (8, 4, 1, 3)])
        >>> column.stride, column.padding, row.stride, row.padding
        ((2, 1), (1, 0), (1, 2), (0, 1))
    """
    kind: Any = type(layer)
    parts: list[Convolution] = []
    # an axis without taps in any part, of a 1x1, has its stride in the first part
    owners = [max(range(len(shapes)), key=lambda part: (shapes[part][2 + axis], -part)) for axis in range(len(layer.stride))]
    for place, (outputs, inputs, *size) in enumerate(shapes):
        mine = [owner == place for owner in owners]

        def setting(values: Any, other: int, mine: list[bool] = mine) -> Any:
            return tuple(value if own else other for value, own in zip(values, mine, strict=True))

        settings = {"stride": setting(layer.stride, 1), "padding": setting(layer.padding, 0), "dilation": setting(layer.dilation, 1)}
        with torch.device("meta"):
            parts.append(kind(inputs, outputs, tuple(size), **settings, bias=False))
    return parts


def _in_a_row(layer: Convolution, thin: Thin, mean: torch.Tensor | None) -> nn.Sequential:
    """Return the layers with their weights; the last one has the bias, and what the lost part of the map makes of the mean."""
    bias = None if layer.bias is None else layer.bias.detach().double()
    if mean is not None:
        bias = (0 if bias is None else bias) + (matrix(layer).double() - thin.map).T @ mean.double()
    parts = parts_in_a_row(layer, [kernel.shape for kernel in thin.kernels])
    wanted = layer.weight.requires_grad
    for part, kernel in zip(parts, thin.kernels, strict=True):
        part.weight = nn.Parameter(kernel.to(layer.weight.dtype).contiguous(), requires_grad=wanted)
    if bias is not None:
        parts[-1].bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=wanted)
    return nn.Sequential(*parts).eval()
