"""Parameters that a network owns but its output does not depend on: they cost bytes in every file, and nothing reads them.

One input is run, and every operation passes on which parameters its operands came from. The memory behind a tensor is followed, so that a
view, or a write through one, counts for the whole of it. A parameter whose value the program itself read (`.item()`, as in `if scale > 0`)
counts as used, since what then happens may depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def unused_parameters(module: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Return name -> number of elements, for every parameter that the output for `example` does not depend on.

    A tensor that several layers share has the first of its names, and counts once. A branch that `example` does not take is unused.

    Args:
        module: the network, in eval mode; it is not changed.
        example: (N, C, *spatial).
    """
    parameters = dict(module.named_parameters())
    with _Followed(parameters) as followed, torch.no_grad():
        answer = module(example)
        used = followed.read.union(*(followed.origins(tensor) for tensor in _tensors(answer)))
    return {name: parameter.numel() for name, parameter in parameters.items() if parameter.numel() and name not in used}


class _Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows which parameters the contents of each piece of memory came from."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: frozenset[str] = frozenset()
        self._origins: dict[int, frozenset[str]] = {}
        # Tensors are held: freed memory would be given to the next tensor, which would inherit its origins.
        self._kept: list[torch.Tensor] = []
        for name, parameter in parameters.items():
            self._hand_on([parameter], frozenset({name}))

    def origins(self, tensor: torch.Tensor) -> frozenset[str]:
        """Return the parameters that a tensor depends on."""
        return self._origins.get(_memory(tensor), frozenset())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        origins = frozenset[str]().union(*(self.origins(tensor) for tensor in _tensors((args, kwargs))))
        made = list(_tensors(result))
        # an operation without a tensor as its result gave its value to the program (`.item()`), which may branch on it
        if not made:
            self.read |= origins
        self._hand_on(made, origins)
        return result

    def _hand_on(self, tensors: list[torch.Tensor], origins: frozenset[str]) -> None:
        for tensor in tensors:
            self._kept.append(tensor)
            # Empty tensors have no memory: all of them would have the same address.
            if tensor.numel():
                self._origins[_memory(tensor)] = self.origins(tensor) | origins


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
