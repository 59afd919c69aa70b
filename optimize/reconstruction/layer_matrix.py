"""Every layer a repair can solve for, seen as one matrix: rows of inputs times weights gives outputs.

    Linear, (N, in)               row = the input vector                                    W: (in, out)
    Conv, (N, C, *spatial)        row = the patch under one output position                 W: (C * taps, out)
    ConvTranspose, stride s       row = the input pixels behind one block of s outputs,     W: (C * taps, out * phases)
                                  which holds one pixel of each phase (offset modulo s)

Columns that belong to channel c are c * taps ... (c + 1) * taps - 1. Where an output does not read a column, W holds a zero: the groups of
a grouped convolution are blocks on W's diagonal (a depthwise one has a block for every channel), and a phase of a transposed convolution
reads only the pixels that its own taps reach. `reads` tells which entries are weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isqrt, prod

import numpy as np
import psutil
import torch
from torch import nn
from torch.nn import functional

from optimize.graph.layer_types import Convolution, LinearMap, Transposed, groups, unsupported_reason, width
from optimize.graph.trace import LINEAR_MAPS, Index

WIDEST = 12_288
"""Columns up to which a gram matrix is built where the memory allows: 1.2 GB in float64, and an elimination takes minutes."""


def unrepairable_reason(layer: nn.Module) -> str | None:
    """Why this layer has no closed-form repair; None where it has one."""
    if not isinstance(layer, LINEAR_MAPS):
        return f"{type(layer).__name__} is not a linear map"
    reason = unsupported_reason(layer)
    return None if reason is None else f"it {reason}"


def columns_per_channel(layer: LinearMap) -> int:
    """Columns that one input channel owns."""
    if isinstance(layer, nn.Linear):
        return 1
    return prod(len(offsets) for offsets, _ in _reach(layer)) if layer.transposed else prod(layer.kernel_size)


def columns(layer: LinearMap, channels: Index) -> torch.Tensor:
    """Columns of the given input channels: (..., k) -> (..., k * taps)."""
    count = columns_per_channel(layer)
    spread = channels[..., None] * count + np.arange(count)
    return torch.from_numpy(spread.reshape(*channels.shape[:-1], channels.shape[-1] * count))


def unknowns(layer: LinearMap) -> int:
    """Columns that are solved for together: all, or those of one group."""
    return width(layer, "in") // groups(layer) * columns_per_channel(layer)


def wide(layer: nn.Module) -> bool:
    """Whether a gram matrix of the layer's columns would be too large: it is repaired from the rows themselves (`dual_ridge.py`)."""
    if groups(layer) > 1 or not isinstance(layer, LINEAR_MAPS):
        return False
    return unknowns(layer) > _widest()


def matrix(layer: LinearMap) -> torch.Tensor:
    """The layer's weights as (columns, outputs), float64."""
    return _matrix(layer, layer.weight.detach().double())


def reads(layer: LinearMap) -> torch.Tensor | None:
    """Which entries of `matrix` are weights, (columns, outputs) of bool; None where all are."""
    if groups(layer) == 1 and not getattr(layer, "transposed", False):
        return None
    found = _matrix(layer, torch.ones_like(layer.weight, dtype=torch.float64)) != 0
    return None if bool(found.all()) else found


def weight_from(layer: LinearMap, solved: torch.Tensor) -> torch.Tensor:
    """The inverse of `matrix`, shaped for the layer whose input may have become narrower."""
    if isinstance(layer, nn.Linear):
        return solved.T.to(layer.weight.dtype).contiguous()
    count = layer.groups
    parts = solved.reshape(count, len(solved) // count, count, -1)
    blocks = parts.diagonal(dim1=0, dim2=2).movedim(2, 0)  # (groups, columns, outputs)
    if not layer.transposed:
        shaped = blocks.mT.reshape(layer.out_channels, -1, *layer.kernel_size)
        return shaped.to(layer.weight.dtype).contiguous()
    reach = [hits for _, hits in _reach(layer)]
    sizes = [*(hits.shape[1] for hits in reach), layer.out_channels // count, *(hits.shape[2] for hits in reach)]
    shaped = blocks.reshape(-1, *sizes).permute(*np.argsort(_by_column(len(reach))).tolist())
    for hits in reach:
        shaped = torch.tensordot(shaped, hits, ([2, 3], [1, 2]))
    return shaped.to(layer.weight.dtype).contiguous()


def outputs_per_channel(layer: LinearMap) -> int:
    """Columns of `matrix` that belong to one output channel."""
    return prod(layer.stride) if not isinstance(layer, nn.Linear) and layer.transposed else 1


def positions_per_sample(layer: LinearMap, inputs: torch.Tensor, outputs: torch.Tensor) -> int:
    """How many rows one case offers."""
    if isinstance(layer, nn.Linear):
        return prod(inputs.shape[1:-1])
    return prod(_blocks(layer, inputs.shape[2:]) if layer.transposed else outputs.shape[2:])


def input_rows(layer: LinearMap, inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of the layer's input at the flat positions `at` (N, q): -> (N * q, columns)."""
    if isinstance(layer, nn.Linear):
        return _pick(inputs.flatten(1, -2).transpose(1, 2) if inputs.dim() > 2 else inputs[..., None], at)
    if layer.transposed:
        grid, reached = _blocks(layer, inputs.shape[2:]), [offsets for offsets, _ in _reach(layer)]
        before = [max(0, -min(offsets)) for offsets in reached]
        after = [max(0, count + max(offsets) - size) for count, offsets, size in zip(grid, reached, inputs.shape[2:], strict=True)]
        padded = functional.pad(inputs, _sides(zip(before, after, strict=True)))
        shifted = [np.asarray(offsets) + low for offsets, low in zip(reached, before, strict=True)]
        return _patches(padded, at, grid, [1] * len(grid), shifted)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(inputs, _sides(_padding(layer)), mode=mode)
    geometry = list(zip(padded.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True))
    grid = [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation in geometry]
    return _patches(padded, at, grid, layer.stride, [np.arange(kernel) * dilation for _, kernel, _, dilation in geometry])


def output_rows(layer: LinearMap, outputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of the layer's output at the same positions: -> (N * q, outputs)."""
    if isinstance(layer, nn.Linear):
        return _pick(outputs.flatten(1, -2).transpose(1, 2) if outputs.dim() > 2 else outputs[..., None], at)
    if not layer.transposed:
        return _pick(outputs.flatten(2), at)
    grid = _blocks(layer, _read_by(layer, outputs.shape[2:]))
    split = [part for pair in zip(grid, layer.stride, strict=True) for part in pair]
    missing = [count * step - size for count, step, size in zip(grid, layer.stride, outputs.shape[2:], strict=True)]
    outputs = functional.pad(outputs, _sides((0, more) for more in missing))  # mostly less: a rim is left where the stride does not divide
    blocks = outputs.reshape(*outputs.shape[:2], *split)  # (N, K, H, s, W, s)
    spatial = range(2, 2 + len(split))
    blocks = blocks.permute(0, 1, *(axis for axis in spatial if axis % 2), *(axis for axis in spatial if not axis % 2))
    return _pick(blocks.reshape(len(outputs), -1, prod(grid)), at)


def _widest() -> int:
    """Columns up to which gram matrices are built: during an elimination there are six of them, in half of the memory at most."""
    return min(WIDEST, isqrt(psutil.virtual_memory().total // (2 * 6 * 8)))


def _matrix(layer: LinearMap, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return weight.T
    if layer.transposed:
        reach = [hits for _, hits in _reach(layer)]
        for hits in reach:
            weight = torch.tensordot(weight, hits, ([2], [0]))  # a spatial dimension becomes two: offset and phase, at the end
        blocks = weight.permute(*_by_column(len(reach)))
        blocks = blocks.reshape(layer.groups, -1, prod(blocks.shape[1 + len(reach) :]))
    else:
        blocks = weight.reshape(layer.groups, layer.out_channels // layer.groups, -1).mT
    return blocks[0] if layer.groups == 1 else torch.block_diag(*blocks)  # type: ignore[no-untyped-call]


def _by_column(dims: int) -> list[int]:
    """Order of dimensions that brings (C, K, offset, phase, offset, phase, ...) to (C, offset, offset, ..., K, phase, phase, ...)."""
    return [0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 2 + 2 * dims, 2)]


def _reach(layer: Convolution | Transposed) -> list[tuple[list[int], torch.Tensor]]:
    """Along each dimension of a transposed convolution: how far from its block a phase reaches for input pixels, and by which taps.

    Output o = s q + r reads input i through tap t where o = s i - padding + dilation t: a tap serves one phase r, at one offset i - q.

    Returns:
        the offsets, ascending, and (taps, offsets, phases), 1 where the tap of that offset serves that phase.
    """
    found = []
    for kernel, stride, padding, dilation in zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True):
        steps = [divmod(dilation * tap - padding[0], stride) for tap in range(kernel)]
        offsets = sorted({-step for step, _ in steps})
        hits = torch.zeros(kernel, len(offsets), stride, dtype=torch.float64)
        for tap, (step, phase) in enumerate(steps):
            hits[tap, offsets.index(-step), phase] = 1
        found.append((offsets, hits))
    return found


def _blocks(layer: Convolution | Transposed, inputs: Sequence[int]) -> list[int]:
    """How many whole blocks of outputs a transposed convolution makes of these input sizes; a rim asked for by `output_size` is left."""
    geometry = zip(inputs, layer.stride, _smallest(layer), layer.output_padding, strict=True)
    return [(size * step + least + more) // step for size, step, least, more in geometry]


def _read_by(layer: Convolution | Transposed, outputs: Sequence[int]) -> list[int]:
    """The input sizes that these output sizes come from."""
    geometry = zip(outputs, layer.stride, _smallest(layer), layer.output_padding, strict=True)
    return [(size - least - more // step * step) // step for size, step, least, more in geometry]


def _smallest(layer: Convolution | Transposed) -> list[int]:
    """Output size less stride times input size, along each dimension, before any output padding."""
    geometry = zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True)
    return [dilation * (kernel - 1) + 1 - sum(padding) - stride for kernel, stride, padding, dilation in geometry]


def _pick(features: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """(N, C, P) at (N, q) -> (N * q, C)."""
    chosen = features.gather(2, at[:, None, :].expand(-1, features.shape[1], -1))
    return chosen.transpose(1, 2).reshape(-1, features.shape[1])


def _patches(
    padded: torch.Tensor, at: torch.Tensor, grid: Sequence[int], stride: Sequence[int], reached: Sequence[np.ndarray]
) -> torch.Tensor:
    """What is read from `padded` at flat positions of `grid` (N, q), `reached` away from the position's corner: (N * q, columns)."""
    corner = np.unravel_index(at.numpy(), tuple(grid))
    offsets = np.stack(np.meshgrid(*reached, indexing="ij")).reshape(len(grid), -1)
    coordinates = tuple(corner[d][..., None] * stride[d] + offsets[d] for d in range(len(grid)))  # each (N, q, taps)
    flat = torch.from_numpy(np.ravel_multi_index(coordinates, tuple(padded.shape[2:])))
    cases, rows, channels = *flat.shape[:2], padded.shape[1]
    chosen = padded.flatten(2).gather(2, flat.flatten(1)[:, None, :].expand(-1, channels, -1))
    return chosen.reshape(cases, channels, rows, -1).transpose(1, 2).reshape(cases * rows, -1)


def _sides(amounts: Iterable[tuple[int, int]]) -> list[int]:
    """Padding before and after each dimension, as `functional.pad` wants it: last dimension first."""
    return [amount for pair in reversed(list(amounts)) for amount in pair]


def _padding(layer: Convolution | Transposed) -> list[tuple[int, int]]:
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(amount), int(amount)) for amount in layer.padding]
