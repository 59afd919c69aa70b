"""Multiply-accumulates of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils.flop_counter import FlopCounterMode

from optimize.errors import require_candidate

if TYPE_CHECKING:
    from optimize.candidate import Candidate

Shape: TypeAlias = Sequence[int]


def macs(candidate: Candidate) -> int:
    """Return the multiply-accumulates of one input, batch 1.

    One multiplication with its addition is one MAC. Counted are the matrix products: convolutions (also transposed), linear layers,
    matrix multiplications, attention, recurrent layers. Not counted are biases, normalization, activations, pooling and interpolation.
    A layer used twice counts twice.

    Example:
        >>> from torch import nn
        >>> from optimize.candidate import Candidate
        >>> macs(Candidate(nn.Conv2d(3, 8, 3).eval(), torch.zeros(1, 3, 6, 6)))  # 8 x 3 x 3 x 3 for each of 4 x 4 positions
        3456
    """
    require_candidate(candidate)
    with counter() as counted:
        candidate.module(candidate.example)
    return int(counted.get_total_flops()) // 2


@contextmanager
def counter() -> Iterator[FlopCounterMode]:
    """Count the floating-point operations of what runs in the block, two for each MAC, also by the names of modules."""
    # torch has one fused operator for a whole encoder layer. Without it the same products run one by one, and are seen.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping=_further()) as counted, torch.no_grad():
            yield counted
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _further() -> dict[Any, Callable[..., int]]:
    """Return operator -> its operations by the shapes of its arguments, for operators that torch's own counter passes over."""
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten.mkldnn_rnn_layer: _recurrent,
        aten.mv: lambda matrix, *_, out_shape, **__: 2 * prod(matrix),
        aten.addmv: lambda _, matrix, *__, out_shape, **___: 2 * prod(matrix),
        aten.dot: lambda vector, *_, out_shape, **__: 2 * prod(vector),
        aten.addbmm: lambda _, left, right, *__, out_shape, **___: 2 * prod(left) * right[-1],
        aten._trilinear: _trilinear,
    }


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    """Attention of L queries to S keys in every head: L S E for the products with the keys, and L S E' for the weighted sum of the values.

    >>> _attention((1, 4, 197, 64), (1, 4, 197, 64), (1, 4, 197, 64), out_shape=None) // 2
    19870208
    """
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(steps: Shape, from_input: Shape, from_state: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    """A recurrent layer: both matrices at every step of every sequence, (steps, N, features)."""
    return 2 * prod(steps[:2]) * (prod(from_input) + prod(from_state))


def _trilinear(*shapes_and_axes: Any, out_shape: Any, **__: Any) -> int:
    """`nn.Bilinear`, x^T A_k y for every output k: the product of the sizes, with axes of size 1 where x, A or y has none."""
    wide = []
    for shape, axes in zip(shapes_and_axes[:3], shapes_and_axes[3:6], strict=True):
        sizes = list(shape)
        for axis in axes:
            sizes.insert(axis, 1)
        wide.append(sizes)
    return 2 * int(prod(max(sizes) for sizes in zip(*wide, strict=True)))
