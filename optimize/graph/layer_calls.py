"""Calls of a network's layers, as the network itself makes them: what each is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import torch
from torch import nn

T = TypeVar("T")
Hook: TypeAlias = Callable[[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor], torch.Tensor], None]
Read: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor], T]
"""(layer's name, its input, its output) -> what is wanted of the call."""


def calls(module: nn.Module, names: Sequence[str], inputs: torch.Tensor, read: Read[T]) -> list[tuple[str, T]]:
    """Return (name, `read(name, input, output)`) for every call of the named layers, in order; stop the network after the last call.

    `read` is called at once, since a later operation may overwrite the tensors in place.
    """
    results: list[tuple[str, T]] = []
    # A layer may be called many times, so one can only stop early when the last named layer is never reused: the number of
    # calls is counted on a single case first.
    expected = _count_calls(module, names, inputs[:1])

    def record(name: str) -> Hook:
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor) -> None:
            results.append((name, read(name, args[0] if args else named["input"], output)))
            if len(results) == expected:
                raise _AllSeen

        return hook

    _run_hooked(module, names, record, inputs)
    return results


def _count_calls(module: nn.Module, names: Sequence[str], inputs: torch.Tensor) -> int:
    count = 0

    def record(_: str) -> Hook:
        def hook(*_: object) -> None:
            nonlocal count
            count += 1

        return hook

    _run_hooked(module, names, record, inputs)
    return count


class _AllSeen(Exception):
    pass


def _run_hooked(module: nn.Module, names: Sequence[str], hook: Callable[[str], Hook], inputs: torch.Tensor) -> None:
    # these hooks run before the user's own, which may give the output another form
    handles = [module.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True, prepend=True) for name in names]
    try:
        with torch.inference_mode():
            module(inputs.clone())  # the network may work in place
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
