"""Every layer that a repair can solve for, as one matrix: rows of inputs times weights gives outputs.

    Linear, (N, in)               row = the input vector                                    W: (in, out)
    Conv, (N, C, *spatial)        row = the patch under one output position                 W: (C * taps, out)
    ConvTranspose, stride s       row = the input pixels behind one block of s outputs,     W: (C * taps, out * phases)
                                  which holds one pixel of each phase (offset modulo s)

Channel c owns the columns c * taps ... (c + 1) * taps - 1. Where an output does not read a column, W holds a zero: the groups of a grouped
convolution are blocks on W's diagonal (a depthwise one has a block for every channel), and a phase of a transposed convolution reads only
the pixels that its own taps reach. `reads` returns which entries are weights.

Phases, by example: a transposed convolution in one dimension with kernel 4, stride 2, padding 1. Input i adds w[t] * x[i] to output 2 i - 1
+ t. Turned round, output o = 2 q + r (block q, phase r) is

    r = 0:   y[2q]     = w[1] x[q]  + w[3] x[q - 1]
    r = 1:   y[2q + 1] = w[0] x[q + 1] + w[2] x[q]

So a block of two outputs reads the three pixels x[q - 1], x[q], x[q + 1], and one row of the regression gives both. As a matrix with a
column for each pixel and an output for each phase, where the zeros are no weights:

    >>> layer = nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1, bias=False)
    >>> layer = layer.requires_grad_(False)
    >>> _ = layer.weight.copy_(torch.tensor([[[10.0, 11, 12, 13]]]))
    >>> matrix(layer).tolist()
    [[13.0, 0.0], [11.0, 12.0], [0.0, 10.0]]
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

MAX_GRAM_COLUMNS = 12_288
"""Number of columns up to which a Gram matrix is built where the memory allows: 1.2 GB in float64, and minutes for an elimination."""


def unrepairable_reason(layer: nn.Module) -> str | None:
    """Return why this layer has no closed-form repair; None where it has one."""
    if not isinstance(layer, LINEAR_MAPS):
        return f"{type(layer).__name__} is not a linear map"
    reason = unsupported_reason(layer)
    return None if reason is None else f"it {reason}"


def columns_per_channel(layer: LinearMap) -> int:
    """Return the number of columns of one input channel."""
    if isinstance(layer, nn.Linear):
        return 1
    return prod(len(offsets) for offsets, _ in _phase_taps(layer)) if layer.transposed else prod(layer.kernel_size)


def columns(layer: LinearMap, channels: Index) -> torch.Tensor:
    """Return the columns of input channels: (..., k) -> (..., k * taps)."""
    count = columns_per_channel(layer)
    spread = channels[..., None] * count + np.arange(count)
    return torch.from_numpy(spread.reshape(*channels.shape[:-1], channels.shape[-1] * count))


def unknowns(layer: LinearMap) -> int:
    """Return the number of columns that are solved for together: all, or those of one group."""
    return width(layer, "in") // groups(layer) * columns_per_channel(layer)


def needs_dual_form(layer: nn.Module) -> bool:
    """Return whether the layer's Gram matrix would be too large, so that it is repaired from the rows themselves (`dual_ridge.py`)."""
    # a grouped layer has one small Gram matrix for each group
    if groups(layer) > 1 or not isinstance(layer, LINEAR_MAPS):
        return False
    return unknowns(layer) > _max_columns()


def matrix(layer: LinearMap) -> torch.Tensor:
    """Return the layer's weights as (columns, outputs), float64."""
    return _matrix(layer, layer.weight.detach().double())


def reads(layer: LinearMap) -> torch.Tensor | None:
    """Return which entries of `matrix` are weights, (columns, outputs) of bool; None where all are."""
    if groups(layer) == 1 and not getattr(layer, "transposed", False):
        return None
    # a layer of ones shows where weights land; the rest of the matrix is zero by construction
    is_weight = _matrix(layer, torch.ones_like(layer.weight, dtype=torch.float64)) != 0
    return None if bool(is_weight.all()) else is_weight


def weight_from(layer: LinearMap, solved: torch.Tensor) -> torch.Tensor:
    """Return the layer's weight tensor from (columns, outputs), the inverse of `matrix`; the layer's input may have become narrower."""
    if isinstance(layer, nn.Linear):
        return solved.T.to(layer.weight.dtype).contiguous()
    count = layer.groups
    # a grouped layer's W is block diagonal: cut it into (group, its columns, group, its outputs) and take the blocks on the diagonal
    parts = solved.reshape(count, len(solved) // count, count, -1)
    blocks = parts.diagonal(dim1=0, dim2=2).movedim(2, 0)  # (groups, columns, outputs)
    if not layer.transposed:
        shaped = blocks.mT.reshape(layer.out_channels, -1, *layer.kernel_size)
        return shaped.to(layer.weight.dtype).contiguous()
    reach = [hits for _, hits in _phase_taps(layer)]
    sizes = [*(hits.shape[1] for hits in reach), layer.out_channels // count, *(hits.shape[2] for hits in reach)]
    # Back from (C, offset, ..., K, phase, ...) to (C, K, offset, phase, ...). In each dimension a tap then picks up the one entry, offset
    # and phase, that it stands at.
    shaped = blocks.reshape(-1, *sizes).permute(*np.argsort(_by_column(len(reach))).tolist())
    for hits in reach:
        shaped = torch.tensordot(shaped, hits, ([2, 3], [1, 2]))
    return shaped.to(layer.weight.dtype).contiguous()


def outputs_per_channel(layer: LinearMap) -> int:
    """Return the number of outputs in `matrix` that belong to one output channel: the number of phases of a transposed convolution."""
    return prod(layer.stride) if not isinstance(layer, nn.Linear) and layer.transposed else 1


def position_grid(layer: LinearMap, inputs: Sequence[int]) -> list[int]:
    """Return the spatial sizes of the grid of a layer's rows, whose product is the number of rows of one case.

    A convolution has a row for each output position, a transposed one for each block of outputs, and a linear layer for each position that
    it is called at, which may be a single one.

    Args:
        layer: the layer.
        inputs: shape of what it reads, with cases.

    Example:
        >>> position_grid(nn.Conv2d(3, 4, 3, stride=2, padding=1), (5, 3, 8, 8)), position_grid(nn.Linear(4, 2), (5, 7, 4))
        ([4, 4], [7])
    """
    if isinstance(layer, nn.Linear):
        return [prod(inputs[1:-1])]
    if layer.transposed:
        return _block_grid(layer, inputs[2:])
    geometry = zip(inputs[2:], _padding(layer), layer.kernel_size, layer.stride, layer.dilation, strict=True)
    # the number of outputs of a convolution: 8 pixels and 1 at each border, kernel 3, stride 2 give (10 - 2 - 1) // 2 + 1 = 4
    return [(size + sum(more) - dilation * (kernel - 1) - 1) // stride + 1 for size, more, kernel, stride, dilation in geometry]


def positions_per_sample(layer: LinearMap, inputs: torch.Tensor, outputs: torch.Tensor) -> int:
    """Return how many rows one case has."""
    if isinstance(layer, nn.Linear):
        return prod(inputs.shape[1:-1])
    return prod(_block_grid(layer, inputs.shape[2:]) if layer.transposed else outputs.shape[2:])


def input_rows(layer: LinearMap, inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the rows of the layer's input at the flat positions `at`, (N, q) -> (N * q, columns)."""
    if isinstance(layer, nn.Linear):
        return _pick(inputs.flatten(1, -2).transpose(1, 2) if inputs.dim() > 2 else inputs[..., None], at)
    if layer.transposed:
        grid, reached = _block_grid(layer, inputs.shape[2:]), [offsets for offsets, _ in _phase_taps(layer)]
        # pixels beyond the border are zeros: pad so that every block finds the pixels of all its taps
        in_front = [max(0, -min(offsets)) for offsets in reached]
        behind = [max(0, count + max(offsets) - size) for count, offsets, size in zip(grid, reached, inputs.shape[2:], strict=True)]
        padded = functional.pad(inputs, _as_padding(zip(in_front, behind, strict=True)))
        shifted = [np.asarray(offsets) + low for offsets, low in zip(reached, in_front, strict=True)]
        return _patches(padded, at, grid, [1] * len(grid), shifted)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(inputs, _as_padding(_padding(layer)), mode=mode)
    geometry = list(zip(padded.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True))
    # the number of outputs of a convolution: 8 padded pixels, kernel 3, stride 2 give (8 - 2 - 1) // 2 + 1 = 3
    grid = [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation in geometry]
    return _patches(padded, at, grid, layer.stride, [np.arange(kernel) * dilation for _, kernel, _, dilation in geometry])


def output_rows(layer: LinearMap, outputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the rows of the layer's output at the flat positions `at`, (N, q) -> (N * q, outputs)."""
    if isinstance(layer, nn.Linear):
        return _pick(outputs.flatten(1, -2).transpose(1, 2) if outputs.dim() > 2 else outputs[..., None], at)
    if not layer.transposed:
        return _pick(outputs.flatten(2), at)
    grid = _block_grid(layer, _input_sizes(layer, outputs.shape[2:]))
    # every spatial dimension becomes (block, phase): 6 outputs at stride 2 are 3 blocks of 2
    split = [part for pair in zip(grid, layer.stride, strict=True) for part in pair]
    missing = [count * step - size for count, step, size in zip(grid, layer.stride, outputs.shape[2:], strict=True)]
    outputs = functional.pad(outputs, _as_padding((0, more) for more in missing))  # mostly a crop: outputs that fill no block are left out
    blocks = outputs.reshape(*outputs.shape[:2], *split)  # (N, K, H, s, W, s)
    spatial = range(2, 2 + len(split))
    # phases beside the channels, blocks last: a row of the regression then holds all phases of all channels of one block
    blocks = blocks.permute(0, 1, *(axis for axis in spatial if axis % 2), *(axis for axis in spatial if not axis % 2))
    return _pick(blocks.reshape(len(outputs), -1, prod(grid)), at)


def _max_columns() -> int:
    """Return the number of columns up to which Gram matrices are built: an elimination holds six of them, in half of the memory at most."""
    # n^2 * 8 bytes * 6 matrices <= memory / 2: with 8 GiB n is 9,459, and from 13.5 GiB on the limit is MAX_GRAM_COLUMNS
    return min(MAX_GRAM_COLUMNS, isqrt(psutil.virtual_memory().total // (2 * 6 * 8)))


def _matrix(layer: LinearMap, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return weight.T
    if layer.transposed:
        reach = [hits for _, hits in _phase_taps(layer)]
        for hits in reach:
            weight = torch.tensordot(weight, hits, ([2], [0]))  # a spatial dimension becomes two: offset and phase, at the end
        blocks = weight.permute(*_by_column(len(reach)))
        blocks = blocks.reshape(layer.groups, -1, prod(blocks.shape[1 + len(reach) :]))
    else:
        # (K, C / groups, *kernel) -> (groups, columns of a group, outputs of a group)
        blocks = weight.reshape(layer.groups, layer.out_channels // layer.groups, -1).mT
    return blocks[0] if layer.groups == 1 else torch.block_diag(*blocks)  # type: ignore[no-untyped-call]


def _by_column(dims: int) -> list[int]:
    """Return the permutation from (C, K, offset, phase, offset, phase, ...) to (C, offset, offset, ..., K, phase, phase, ...)."""
    return [0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 2 + 2 * dims, 2)]


def _phase_taps(layer: Convolution | Transposed) -> list[tuple[list[int], torch.Tensor]]:
    """Return for each dimension of a transposed convolution which pixels a block reads, and by which taps.

    Output o = s q + r reads input i through tap t where o = s i - padding + dilation t. So a tap serves one phase r, at one offset i - q.

    Example: kernel 4, stride 2, padding 1. Tap 3 moves the output by 3 - 1 = 2 = 1 * 2 + 0, so it serves phase 0 at offset -1.

    Returns:
        The offsets, ascending, and (taps, offsets, phases), 1 where the tap serves that phase at that offset.
    """
    phase_taps = []
    for kernel, stride, padding, dilation in zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True):
        # divmod rounds down, so the phase is in 0 .. stride - 1 also where the padding makes the difference negative
        steps = [divmod(dilation * tap - padding[0], stride) for tap in range(kernel)]
        offsets = sorted({-step for step, _ in steps})
        hits = torch.zeros(kernel, len(offsets), stride, dtype=torch.float64)
        for tap, (step, phase) in enumerate(steps):
            hits[tap, offsets.index(-step), phase] = 1
        phase_taps.append((offsets, hits))
    return phase_taps


def _block_grid(layer: Convolution | Transposed, inputs: Sequence[int]) -> list[int]:
    """Return how many whole blocks of outputs a transposed convolution makes of these inputs, without a rim asked for by `output_size`."""
    geometry = zip(inputs, layer.stride, _size_offset(layer), layer.output_padding, strict=True)
    return [(size * step + offset + more) // step for size, step, offset, more in geometry]


def _input_sizes(layer: Convolution | Transposed, outputs: Sequence[int]) -> list[int]:
    """Return the input sizes that these output sizes come from."""
    geometry = zip(outputs, layer.stride, _size_offset(layer), layer.output_padding, strict=True)
    return [(size - offset - more // step * step) // step for size, step, offset, more in geometry]


def _size_offset(layer: Convolution | Transposed) -> list[int]:
    """Return output size minus stride times input size along each dimension, without output padding."""
    geometry = zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True)
    return [dilation * (kernel - 1) + 1 - sum(padding) - stride for kernel, stride, padding, dilation in geometry]


def _pick(features: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the features (N, C, P) at the positions (N, q) as (N * q, C)."""
    chosen = features.gather(2, at[:, None, :].expand(-1, features.shape[1], -1))
    return chosen.transpose(1, 2).reshape(-1, features.shape[1])


def _patches(
    padded: torch.Tensor, at: torch.Tensor, grid: Sequence[int], stride: Sequence[int], reached: Sequence[np.ndarray]
) -> torch.Tensor:
    """Return the patches of `padded` at flat positions (N, q) of `grid`, at the offsets `reached` from a corner: (N * q, columns)."""
    corner = np.unravel_index(at.numpy(), tuple(grid))
    # every combination of offsets: the taps of a patch, in the order of the weight's own axes
    offsets = np.stack(np.meshgrid(*reached, indexing="ij")).reshape(len(grid), -1)
    coordinates = tuple(corner[d][..., None] * stride[d] + offsets[d] for d in range(len(grid)))  # each (N, q, taps)
    flat = torch.from_numpy(np.ravel_multi_index(coordinates, tuple(padded.shape[2:])))
    cases, rows, channels = *flat.shape[:2], padded.shape[1]
    chosen = padded.flatten(2).gather(2, flat.flatten(1)[:, None, :].expand(-1, channels, -1))
    return chosen.reshape(cases, channels, rows, -1).transpose(1, 2).reshape(cases * rows, -1)


def _as_padding(amounts: Iterable[tuple[int, int]]) -> list[int]:
    """Return the padding on both sides of each dimension in the order of `functional.pad`: last dimension first."""
    return [amount for pair in reversed(list(amounts)) for amount in pair]


def _padding(layer: Convolution | Transposed) -> list[tuple[int, int]]:
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(amount), int(amount)) for amount in layer.padding]
