"""How much an error in what a layer gives matters to the network's answer.

Let p be the answer's distribution (softmax over the classes, or one sigmoid per pixel) and y what a layer gives at one place. A small error
d in it moves the answer by  KL ~ d' F d / 2  with the Fisher matrix  F = E[ g g' ],  g = d log p(k) / dy,  the label k drawn from p
itself (Amari 1998): no true label takes part. Of F the two factors are kept that leave one Gram matrix per layer:

    r = |g|^2      how much each row (one place of one case) matters        s = E[ g^2 ]      how much each output matters

A softened p (logits over `TEMPERATURE`) keeps cases in which the network is sure from having no say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional

Rows: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Reader: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
"""Given a layer's name, input and output: how to take the rows wanted out of a tensor shaped like the output."""

TEMPERATURE = 2.0
MOST = 20.0
"""A row counts at most this many times the mean, so that no handful of places decides a fit."""
MEMORY_BYTES = 1 << 30


def outputs_and_gradients(
    module: nn.Module, names: Sequence[str], inputs: torch.Tensor, reader: Reader, seed: int
) -> list[tuple[str, Rows]]:
    """(name, (rows of the output, rows of its gradient)) of every call of the named layers, in order.

    Args:
        module: the network, on copies of whose layers nothing is changed.
        names: its layers.
        inputs: one batch, (n, C, *spatial).
        reader: which rows.
        seed: of the labels drawn.
    """
    found: list[tuple[str, list[torch.Tensor]]] = []

    def hook(name: str) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor], output: torch.Tensor) -> None:
            rows = reader(name, args[0] if args else kwargs["input"], output)
            entry = (name, [rows(output.detach())])
            found.append(entry)
            output.register_hook(lambda gradient: entry[1].append(rows(gradient)))  # type: ignore[no-untyped-call]

        return record

    handles = [module.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in names]
    try:
        with torch.enable_grad():
            logits = module(inputs.clone().requires_grad_(True) * 1)  # a leaf may not be worked on in place
            torch.autograd.backward(_log_likelihood(logits / TEMPERATURE, seed))
    finally:
        for handle in handles:
            handle.remove()
    # what the answer does not depend on gets no gradient
    return [(name, (parts[0], parts[1] if len(parts) > 1 else torch.zeros_like(parts[0]))) for name, parts in found]


def cases_at_once(module: nn.Module, example: torch.Tensor) -> int:
    """How many cases' activations fit into `MEMORY_BYTES`, with room for as many gradients; at least one."""
    total = 0

    def count(layer: nn.Module, _: object, output: object) -> None:
        nonlocal total
        total += output.nbytes if isinstance(output, torch.Tensor) else 0

    handles = [layer.register_forward_hook(count) for layer in module.modules() if next(layer.children(), None) is None]
    with torch.inference_mode():
        module(example.clone())
    for handle in handles:
        handle.remove()
    return max(1, MEMORY_BYTES // max(1, 2 * total))


def row_weights(gradients: torch.Tensor, strength: float) -> torch.Tensor:
    """(rows, m) -> (rows,): mean 1; `strength` 0 weighs all alike, 1 as the answer does."""
    size = gradients.double().square().sum(1)
    if not float(size.sum()):
        return torch.ones(len(size))
    capped = (size / size.mean()).clamp(max=MOST)
    return (1 - strength + strength * capped / capped.mean()).float()


def _log_likelihood(logits: torch.Tensor, seed: int) -> torch.Tensor:
    """Of labels drawn from the network's own answer; (N, 1, *spatial) is one sigmoid per place, (N, K, *spatial) a softmax."""
    draw = torch.Generator().manual_seed(seed)
    if logits.shape[1] == 1:
        said = torch.bernoulli(logits.detach().sigmoid(), generator=draw)
        return -functional.binary_cross_entropy_with_logits(logits, said, reduction="sum")
    shares = logits.movedim(1, -1).log_softmax(-1).flatten(0, -2)
    label = torch.multinomial(shares.detach().exp(), 1, generator=draw)
    return shares.gather(1, label).sum()
