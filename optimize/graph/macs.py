"""Multiply-accumulates of one forward pass.

Torch's counter knows the sum for each operation that multiplies matrices. Three kinds of operations are counted here besides: the fused
attention of the CPU, a recurrent layer that runs as one operation, and products of a matrix and a vector. An encoder layer or a multi-head
attention that runs as one operation is run in its parts instead, so that each part is counted by its own formula.

Example: 64 tokens of 32 channels in an encoder layer with 64 hidden units. The projections of queries, keys, values and outputs take
64 x 4 x 32^2 = 262,144, the two products of the attention 2 x 64^2 x 32 = 262,144, whatever the number of heads, and the two layers of the
MLP 2 x 64 x 32 x 64 = 262,144: together 786,432.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from optimize.errors import require_candidate

if TYPE_CHECKING:
    from optimize.candidate import Candidate


def macs(candidate: Candidate) -> int:
    """Return the multiply-accumulates of one input, batch 1.

    One multiplication with its addition is one MAC. Counted are the matrix products: convolutions (also transposed), linear and recurrent
    layers, matrix multiplications, attention. Not counted are biases, normalization, activations, pooling and interpolation.
    A layer used twice counts twice.

    Example:
        >>> from torch import nn
        >>> from optimize.candidate import Candidate
        >>> macs(Candidate(nn.Conv2d(3, 8, 3).eval(), torch.zeros(1, 3, 6, 6)))  # 8 x 3 x 3 x 3 for each of 4 x 4 positions
        3456
    """
    require_candidate(candidate)
    # a network that is run by a runtime, as its file says, knows what the file says; torch's counter would see nothing of it
    if (known := getattr(candidate.module, "counted_macs", None)) is not None:
        return int(known)
    with attention_in_parts(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter, torch.no_grad():
        candidate.module(candidate.example)
    return int(counter.get_total_flops()) // 2


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """Run torch's multi-head attentions and encoder layers as their single products, not as one operation that hides them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


# The counter gives shapes in place of tensors, and wants two operations for each multiply-accumulate.


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    # each pair of a query and a key takes one product as long as the key, and one as long as the value
    return 2 * prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def _recurrent(steps: Sequence[int], from_input: Sequence[int], from_state: Sequence[int], *_: Any, **__: Any) -> int:
    # (steps, N, inputs): each step of each sequence takes one product with either matrix
    return 2 * prod(steps[:2]) * (prod(from_input) + prod(from_state))


def _matrix_vector(matrix: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


def _added_matrix_vector(_: Sequence[int], matrix: Sequence[int], *__: Any, **___: Any) -> int:
    return 2 * prod(matrix)


_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
    torch.ops.aten.mv: _matrix_vector,
    torch.ops.aten.dot: _matrix_vector,
    torch.ops.aten.addmv: _added_matrix_vector,
}
