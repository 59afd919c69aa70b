"""Every layer a repair can solve for, seen as one matrix: rows of inputs times weights gives outputs.

    Linear, (N, in)                      row = the input vector                            W: (in, out)
    Conv, (N, C, *spatial)               row = the patch under one output position         W: (C * taps, out)
    ConvTranspose, kernel == stride      row = one input pixel, output = its own block     W: (C, out * taps)

Columns that belong to channel c are c * taps ... (c + 1) * taps - 1.
"""

from __future__ import annotations

from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from optimize.graph import LINEAR_MAPS, Index

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
LinearMap: TypeAlias = nn.Linear | Convolution | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def refusal(layer: nn.Module) -> str | None:
    """Why this layer has no closed-form repair; None where it has one."""
    if not isinstance(layer, LINEAR_MAPS):
        return f"{type(layer).__name__} is not a linear map"
    if "weight" not in layer._parameters:
        return "its weight is computed as it runs"
    if isinstance(layer, nn.Linear):
        return None
    if layer.groups != 1:
        return "its convolution is grouped"
    unpadded = not any(layer.padding) and not any(layer.output_padding)
    if layer.transposed and not (layer.kernel_size == layer.stride and unpadded and set(layer.dilation) == {1}):
        return "the blocks of its transposed convolution overlap or are cut off"
    return None


def taps(layer: LinearMap) -> int:
    """Columns that one input channel owns."""
    return 1 if isinstance(layer, nn.Linear) or layer.transposed else prod(layer.kernel_size)


def columns(layer: LinearMap, channels: Index) -> torch.Tensor:
    """Columns of the given input channels: (..., k) -> (..., k * taps)."""
    count = taps(layer)
    spread = channels[..., None] * count + np.arange(count)
    return torch.from_numpy(spread.reshape(*channels.shape[:-1], channels.shape[-1] * count))


def matrix(layer: LinearMap) -> torch.Tensor:
    """The layer's weights as (columns, outputs), float64."""
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.Linear):
        return weight.T
    return weight.flatten(1) if layer.transposed else weight.flatten(1).T


def weight_from(layer: LinearMap, solved: torch.Tensor) -> torch.Tensor:
    """The inverse of `matrix`, shaped for the layer whose input may have become narrower."""
    if isinstance(layer, nn.Linear):
        shaped = solved.T
    elif layer.transposed:
        shaped = solved.reshape(-1, layer.out_channels, *layer.kernel_size)
    else:
        shaped = solved.T.reshape(layer.out_channels, -1, *layer.kernel_size)
    return shaped.to(layer.weight.dtype).contiguous()


def outputs_per_channel(layer: LinearMap) -> int:
    """Columns of `matrix` that belong to one output channel."""
    return prod(layer.kernel_size) if not isinstance(layer, nn.Linear) and layer.transposed else 1


def places(layer: LinearMap, inputs: torch.Tensor, outputs: torch.Tensor) -> int:
    """How many rows one case offers."""
    if isinstance(layer, nn.Linear):
        return prod(inputs.shape[1:-1])
    return prod((inputs if layer.transposed else outputs).shape[2:])


def input_rows(layer: LinearMap, inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of the layer's input at the flat positions `at` (N, q): -> (N * q, columns)."""
    if isinstance(layer, nn.Linear):
        return _pick(inputs.flatten(1, -2).transpose(1, 2) if inputs.dim() > 2 else inputs[..., None], at)
    if layer.transposed:
        return _pick(inputs.flatten(2), at)
    return _patches(layer, inputs, at)  # type: ignore[arg-type]  # the transposed ones are gone by now


def output_rows(layer: LinearMap, outputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of the layer's output at the same positions: -> (N * q, outputs)."""
    if isinstance(layer, nn.Linear):
        return _pick(outputs.flatten(1, -2).transpose(1, 2) if outputs.dim() > 2 else outputs[..., None], at)
    if not layer.transposed:
        return _pick(outputs.flatten(2), at)
    grid = [size // step for size, step in zip(outputs.shape[2:], layer.stride, strict=True)]
    split = [part for pair in zip(grid, layer.stride, strict=True) for part in pair]
    for axis, (size, step) in enumerate(zip(grid, layer.stride, strict=True), start=2):
        outputs = outputs.narrow(axis, 0, size * step)  # a called-for `output_size` may add a rim that no input reaches
    blocks = outputs.reshape(*outputs.shape[:2], *split)  # (N, K, H, s, W, s)
    spatial = range(2, 2 + len(split))
    blocks = blocks.permute(0, 1, *(axis for axis in spatial if axis % 2), *(axis for axis in spatial if not axis % 2))
    return _pick(blocks.reshape(len(outputs), -1, prod(grid)), at)


def _pick(features: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """(N, C, P) at (N, q) -> (N * q, C)."""
    chosen = features.gather(2, at[:, None, :].expand(-1, features.shape[1], -1))
    return chosen.transpose(1, 2).reshape(-1, features.shape[1])


def _patches(layer: Convolution, inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    sides = _padding(layer)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(inputs, [amount for pair in reversed(sides) for amount in pair], mode=mode)
    sizes, kernel, stride, dilation = padded.shape[2:], layer.kernel_size, layer.stride, layer.dilation
    grid = [(sizes[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(len(sizes))]
    corner = np.unravel_index(at.numpy(), grid)
    spread = np.meshgrid(*(np.arange(k) * d for k, d in zip(kernel, dilation, strict=True)), indexing="ij")
    offsets = np.stack(spread).reshape(len(sizes), -1)
    coordinates = tuple(corner[d][..., None] * stride[d] + offsets[d] for d in range(len(sizes)))  # each (N, q, taps)
    flat = torch.from_numpy(np.ravel_multi_index(coordinates, tuple(sizes)))
    cases, rows, channels = *flat.shape[:2], padded.shape[1]
    chosen = padded.flatten(2).gather(2, flat.flatten(1)[:, None, :].expand(-1, channels, -1))
    return chosen.reshape(cases, channels, rows, -1).transpose(1, 2).reshape(cases * rows, -1)


def _padding(layer: Convolution) -> list[tuple[int, int]]:
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(amount), int(amount)) for amount in layer.padding]
