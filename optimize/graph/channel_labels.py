"""Labels of channels, and which of them belong together.

A label is a number. A tensor's labels are an int64 array that broadcasts to the tensor's shape: a dimension of size 1 stands for any size,
along which the channel is the same one. -1 is no channel but a constant.

Example: a convolution with labels 5, 6, 7 makes a tensor (1, 3, 8, 8) with labels of shape (3, 1, 1). Flattened it is (1, 192), and its
labels are 64 times 5, then 64 times 6 and 64 times 7.

    >>> union = LabelUnion()
    >>> a, b, c = union.new(3), union.new(3), union.new(1)
    >>> union.tie(a, b)
    >>> union.unit_numbers().tolist()
    [0, 1, 2, 0, 1, 2, 3]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_map_only

Labels: TypeAlias = torch.Tensor

SPAN = 1 << 31
"""More than there will ever be labels, so that a pair of labels is one number."""


class LabelUnion:
    """Labels so far, pairs of them that belong together, and labels that cannot be cut.

    Attributes:
        reasons: label -> why it cannot be cut.
    """

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._count = 0
        self._pairs: list[npt.NDArray[np.int64]] = []

    def new(self, count: int) -> Labels:
        """Return labels that were never used before, (count,)."""
        self._count += count
        return torch.arange(self._count - count, self._count)

    def fixed(self, reason: str, shape: Sequence[int]) -> Labels:
        """Return one new label for a tensor of this shape that cannot be cut."""
        label = self.new(1)
        self.reasons[int(label)] = reason
        return label.reshape(()).expand(tuple(shape))

    def tie(self, first: Labels, second: Labels) -> None:
        """Record that labels belong together, element by element after broadcasting; constants are left out."""
        shape = torch.broadcast_shapes(first.shape, second.shape)  # type: ignore[no-untyped-call]
        pairs = torch.stack([first.expand(shape), second.expand(shape)]).flatten(1)
        firsts, seconds = pairs[:, (pairs >= 0).all(0) & (pairs[0] != pairs[1])].numpy()
        # A flattened map repeats each pair for every position. As one number, first * 2^31 + second, duplicates go in one sort: 5 and 7
        # become 5 * 2^31 + 7.
        self._pairs.append(np.unique(firsts * SPAN + seconds))

    def fix(self, labels: Labels, reason: str) -> None:
        """Record that none of these labels can be cut."""
        self.tie(torch.unique(labels), self.fixed(reason, (1,)))

    def elementwise(self, labels: Sequence[Labels]) -> Labels:
        """Return the labels of an element-wise operation's output; labels that meet in an element belong together.

        A map that is the same for all channels of another tensor (a spatial attention) is fixed: those channels can be cut without it.
        """
        result, *rest = (full(operand, max(label.dim() for label in labels)) for operand in labels)
        for operand in rest:
            if _is_spread(operand, result):
                self.fix(operand, "it is spread over many channels")
            elif _is_spread(result, operand):
                self.fix(result, "it is spread over many channels")
                result = operand
            else:
                self.tie(result, operand)
                result = torch.where(result >= 0, result, operand)
        return result

    def unit_numbers(self) -> npt.NDArray[np.int64]:
        """Return for every label the number of the unit it belongs to: the connected components of all pairs."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        first, second = np.divmod(np.concatenate([np.zeros(0, np.int64), *self._pairs]), SPAN)
        graph = coo_matrix((np.ones(len(first)), (first, second)), (self._count, self._count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def full(labels: Labels, dims: int) -> Labels:
    """Return the labels with as many dimensions as the tensor."""
    return labels.reshape((1,) * (dims - labels.dim()) + labels.shape)


def along_axis(labels: Labels, dims: int, axis: int, size: int) -> Labels:
    """Return all labels that occur at each position of an axis, (size, n)."""
    rows = full(labels, dims).movedim(axis, 0).flatten(1)
    return rows.expand(size, -1)


def compact(labels: Labels) -> Labels:
    """Return the labels with size 1 along every dimension along which they do not change, constants aside.

    A single label keeps its shape, since one channel in all places and one channel spread out look the same.
    """
    channels = labels[labels >= 0]
    if len(channels) and channels.min() < channels.max():
        # constants (-1) may stand anywhere, so a dimension is dropped where all labels but these are equal along it
        for axis in range(labels.dim()):
            top = labels.amax(axis, keepdim=True)
            if ((labels == top) | (labels < 0)).all():
                labels = top
    return labels


def moved(operation: Callable[..., Any], arguments: Any, known: Callable[[torch.Tensor], Labels | None]) -> Any:
    """Return the labels of the outputs of an operation that only moves elements.

    Args:
        operation: an operator of torch.
        arguments: its positional and its named arguments.
        known: returns the labels of a tensor, or None.
    """

    def labels(tensor: torch.Tensor) -> torch.Tensor:
        own = known(tensor)
        if own is not None:
            return own.expand(tensor.shape).contiguous()
        return torch.full(tensor.shape, -1) if tensor.is_floating_point() else tensor  # whole numbers are indices

    positional, named = tree_map_only(torch.Tensor, labels, arguments)
    return operation(*positional, **named)


def concatenated(tensors: Sequence[torch.Tensor], axis: int, known: Callable[[torch.Tensor], Labels | None]) -> Labels:
    """Return the labels of a concatenation; only dimensions along which labels change are expanded."""
    dims = max(tensor.dim() for tensor in tensors)
    tensors = [tensor for tensor in tensors if tensor.dim() == dims]  # torch lets an empty vector stand beside anything
    constant = torch.tensor(-1)
    labels = [full(constant if (own := known(tensor)) is None else own, dims) for tensor in tensors]
    widest = [max(sizes) for sizes in zip(*(part.shape for part in labels), strict=True)]
    axis %= dims
    shapes = [[*widest[:axis], tensor.shape[axis], *widest[axis + 1 :]] for tensor in tensors]
    return torch.cat([part.expand(shape) for part, shape in zip(labels, shapes, strict=True)], axis)


def _is_spread(single: Labels, many: Labels) -> bool:
    """Return whether `single` is the same along a dimension along which the channels of `many` change."""
    for axis in range(single.dim()):
        if single.shape[axis] == 1 < many.shape[axis]:
            # constants count as the highest label, so that they make no difference between lowest and highest
            lowest = torch.where(many < 0, many.amax(axis, keepdim=True), many).amin(axis)
            if (lowest != many.amax(axis)).any():
                return True
    return False
