"""Labels of channels, and what has been found to belong together.

A label is a number. A tensor's labels are an int64 array that broadcasts to the tensor's shape: a dimension of size 1 stands for any size,
along which the channel is the same one. -1 is no channel but a constant.
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
"""More than there will ever be labels: a pair of them is one number."""


class LabelUnion:
    """Labels given out so far, pairs that belong together, and labels that cannot be cut."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._count = 0
        self._pairs: list[npt.NDArray[np.int64]] = []

    def new(self, count: int) -> Labels:
        """Labels never used before, (count,)."""
        self._count += count
        return torch.arange(self._count - count, self._count)

    def fixed(self, reason: str, shape: Sequence[int]) -> Labels:
        """One new label, all over the shape, for what cannot be cut."""
        label = self.new(1)
        self.reasons[int(label)] = reason
        return label.expand(tuple(shape))

    def tie(self, some: Labels, others: Labels) -> None:
        """Put labels together, element by element after broadcasting; constants are passed over."""
        shape = torch.broadcast_shapes(some.shape, others.shape)  # type: ignore[no-untyped-call]
        pairs = torch.stack([some.expand(shape), others.expand(shape)]).flatten(1)
        one, other = pairs[:, (pairs >= 0).all(0) & (pairs[0] != pairs[1])].numpy()
        self._pairs.append(np.unique(one * SPAN + other))

    def fix(self, labels: Labels, reason: str) -> None:
        """Say that none of these can be cut."""
        self.tie(torch.unique(labels), self.fixed(reason, (1,)))

    def met(self, labels: Sequence[Labels]) -> Labels:
        """Labels of an element-wise operation's output; what meets in an element belongs together.

        A map that is the same for all channels of another (a spatial attention) stays as it is, whatever becomes of those channels.
        """
        found, *rest = (full(each, max(each.dim() for each in labels)) for each in labels)
        for other in rest:
            if _spread(other, found):
                self.fix(other, "it is spread over many channels")
            elif _spread(found, other):
                self.fix(found, "it is spread over many channels")
                found = other
            else:
                self.tie(found, other)
                found = torch.where(found >= 0, found, other)
        return found

    def units(self) -> npt.NDArray[np.int64]:
        """For every label the number of the unit it belongs to."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        one, other = np.divmod(np.concatenate([np.zeros(0, np.int64), *self._pairs]), SPAN)
        graph = coo_matrix((np.ones(len(one)), (one, other)), (self._count, self._count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def full(labels: Labels, dims: int) -> Labels:
    """The labels with as many dimensions as the tensor."""
    return labels.reshape((1,) * (dims - labels.dim()) + labels.shape)


def across(labels: Labels, dims: int, axis: int, size: int) -> Labels:
    """All labels found at each position of an axis, (size, n)."""
    rows = full(labels, dims).movedim(axis, 0).flatten(1)
    return rows.expand(size, -1)


def thinned(labels: Labels) -> Labels:
    """The same labels with size 1 along every dimension that does not tell channels apart, constants aside.

    A single label keeps its shape: what is one channel all over is not told from one channel spread out.
    """
    channels = labels[labels >= 0]
    if len(channels) and channels.min() < channels.max():
        for axis in range(labels.dim()):
            top = labels.amax(axis, keepdim=True)
            if ((labels == top) | (labels < 0)).all():
                labels = top
    return labels


def moved(operation: Callable[..., Any], arguments: Any, known: Callable[[torch.Tensor], Labels | None]) -> Any:
    """What an operation that only moves elements makes of the labels.

    Args:
        operation: an operator of torch.
        arguments: its positional and its named arguments.
        known: the labels of a tensor, if it has any.
    """
    def labels(tensor: torch.Tensor) -> torch.Tensor:
        found = known(tensor)
        if found is not None:
            return found.expand(tensor.shape).contiguous()
        return torch.full(tensor.shape, -1) if tensor.is_floating_point() else tensor  # whole numbers are indices

    positional, named = tree_map_only(torch.Tensor, labels, arguments)
    return operation(*positional, **named)


def concatenated(tensors: Sequence[torch.Tensor], axis: int, known: Callable[[torch.Tensor], Labels | None]) -> Labels:
    """Labels of a concatenation; only dimensions that tell channels apart are written out."""
    dims = max(tensor.dim() for tensor in tensors)
    tensors = [tensor for tensor in tensors if tensor.dim() == dims]  # torch lets an empty vector stand beside anything
    constant = torch.tensor(-1)
    labels = [full(constant if (found := known(tensor)) is None else found, dims) for tensor in tensors]
    widest = [max(sizes) for sizes in zip(*(each.shape for each in labels), strict=True)]
    axis %= dims
    shapes = [[*widest[:axis], tensor.shape[axis], *widest[axis + 1 :]] for tensor in tensors]
    return torch.cat([each.expand(shape) for each, shape in zip(labels, shapes, strict=True)], axis)


def _spread(one: Labels, many: Labels) -> bool:
    """Whether `one` is the same along a dimension that tells channels of `many` apart."""
    for axis in range(one.dim()):
        if one.shape[axis] == 1 < many.shape[axis]:
            lowest = torch.where(many < 0, many.amax(axis, keepdim=True), many).amin(axis)
            if (lowest != many.amax(axis)).any():
                return True
    return False
