"""The harm of many small changes of a network, from a few backward passes instead of a forward pass for each.

A change of a group's readers moves their outputs by dz. To first order the network's outputs move by d = sum over readers of J dz, with J
the Jacobian from a reader's output to the network's. For a probe u (`harm_probes.py`), one backward pass gives u'J for every layer at once,
so

    harm  =  1/2 sum over inputs of  mean over probes of  ( sum over readers of <u'J, dz> )^2

and dz takes a run of the reader alone. So all widths of all groups together cost about as much as a dozen passes of the network, however
many layers it has.

Where a convolution has more positions than there are widths, the products are taken in another order: <u'J, x * D> = <u'J (x) x, D>, where
u'J (x) x is the gradient of the reader's weights for one input. It is computed once, and its product with each difference D of the weights
is nearly free.

Inputs are taken a few at a time, so that what is held of them stays within `CHUNK_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from optimize.candidate import Meaning
from optimize.data.output_meaning import logits, stand_alone
from optimize.graph.surgery import copy_module
from optimize.searching.harm_probes import output_probes
from optimize.searching.width_changes import ReaderChange

CHUNK_BYTES = 512 << 20
"""Bytes of the layers' inputs, of their gradients and of what the backward passes need, for the inputs that are taken together."""
GRADIENT_BYTES = 128 << 20
"""Bytes of the gradients of one layer's weights for single inputs."""
MAX_CHUNK = 64
_Recorded: TypeAlias = tuple[str, torch.Tensor, tuple[Any, ...], dict[str, Any], torch.Tensor]
"""A layer's name, what it read, its further arguments, its named arguments, and the zeros added to its output."""


class _NoGradients(Exception):
    """The network cannot be run with gradients, or they do not reach a layer."""


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a reader on a chunk of inputs.

    Args:
        inputs: what it read.
        args: its further arguments.
        kwargs: its named arguments.
        shift: zeros that were added to its output.
        gradients: derivatives of every probe's product with the network's outputs by `shift`, (probes, *shape of the output).
    """

    inputs: torch.Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shift: torch.Tensor
    gradients: torch.Tensor


class PredictedHarm:
    """Predicts the harm of changes of a network's layers.

    Args:
        module: the network; a copy of it is run.
        meaning: meaning of the network's outputs.
        batches: inputs, each (n, C, *spatial).
        weights: weight of each case or pixel in the harm, one tensor (n, *spatial) for each batch.
        seed: seed of the probes.
    """

    def __init__(
        self, module: nn.Module, meaning: Meaning, batches: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], seed: int
    ) -> None:
        # A copy of its own, with tensors of its own: the forward may store what it computes in the network, and weights that were made in
        # inference mode cannot take part in a backward pass.
        self._module = copy_module(module, share=False).requires_grad_(False)
        self._meaning = meaning
        self._batches, self._weights, self._seed = batches, weights, seed

    def __call__(self, changes: Sequence[Sequence[ReaderChange]]) -> list[torch.Tensor] | str:
        """Return for each group what each input adds to the harm at each width, (widths, inputs), in nats; or why that cannot be told.

        Args:
            changes: how each group's readers change; at least one group, and one width for each.
        """
        try:
            return self._shares(changes)
        except _NoGradients as problem:
            return str(problem)

    def _shares(self, changes: Sequence[Sequence[ReaderChange]]) -> list[torch.Tensor]:
        readers = list(dict.fromkeys(change.layer for group in changes for change in group))
        generator = torch.Generator().manual_seed(self._seed)
        parts: list[list[torch.Tensor]] = [[] for _ in changes]
        silent = set(readers)
        for inputs, weights in self._chunks(readers):
            calls = self._calls(readers, inputs, weights, generator)
            silent -= {name for name in silent if any(bool(call.gradients.any()) for call in calls[name])}
            for group, part in zip(changes, parts, strict=True):
                moved = sum(_moved(self._module, change, call, len(inputs)) for change in group for call in calls[change.layer])
                assert isinstance(moved, torch.Tensor)
                part.append(moved.square().mean(1) / 2)
        # an operation behind the layer may have the derivative zero everywhere, as rounding has: that would look like no harm
        if silent:
            raise _NoGradients(f"gradients of the outputs do not reach {', '.join(sorted(silent))}")
        return [torch.cat(part, dim=1) for part in parts]

    def _chunks(self, readers: Sequence[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the inputs and their weights, a few at a time, by what a single input takes."""
        calls = self._calls(readers, self._batches[0][:1], self._weights[0][:1], torch.Generator())
        # the backward passes need about as much again as what the layers read and gave
        single = sum(2 * call.inputs.nbytes + call.gradients.nbytes + 2 * call.shift.nbytes for made in calls.values() for call in made)
        size = max(1, min(MAX_CHUNK, CHUNK_BYTES // max(1, single)))
        for batch, weights in zip(self._batches, self._weights, strict=True):
            yield from zip(torch.split(batch, size), torch.split(weights, size), strict=True)

    def _calls(
        self, readers: Sequence[str], inputs: torch.Tensor, weights: torch.Tensor, generator: torch.Generator
    ) -> dict[str, list[_Call]]:
        """Return all calls of the readers on a chunk, from one forward pass and a backward pass for each probe."""
        try:
            with torch.inference_mode(False), torch.enable_grad(), _recorded(self._module, readers) as recorded:
                raw = self._module(inputs.clone())
                outputs = logits(raw, self._meaning, exclusive=not stand_alone(raw.shape, self._meaning)).nan_to_num()
                shifts = [shift for _, _, _, _, shift in recorded]
                alone = stand_alone(raw.shape, self._meaning)
                probes = output_probes(outputs.detach(), weights, generator, alone=alone)
                rounds = [torch.autograd.grad(outputs, shifts, probe, retain_graph=True) for probe in probes]
        except Exception as problem:  # the user's forward under autograd: whatever it raises means "no gradients"
            raise _NoGradients(f"the network cannot be run with gradients ({type(problem).__name__})") from problem
        calls: dict[str, list[_Call]] = {name: [] for name in readers}
        for (name, layer_inputs, args, kwargs, shift), *gradients in zip(recorded, *rounds, strict=True):
            calls[name].append(_Call(layer_inputs, args, kwargs, shift, torch.stack(gradients)))
        return calls


@contextmanager
def _recorded(module: nn.Module, names: Sequence[str]) -> Iterator[list[_Recorded]]:
    """Record the calls of the named layers while the block runs, and add zeros to their outputs, by which gradients can be taken."""
    recorded: list[_Recorded] = []

    def hook_of(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
            named = dict(kwargs)
            layer_inputs = args[0] if args else named.pop("input")
            shift = torch.zeros_like(output, requires_grad=True)
            # a copy of the input, since a later operation may overwrite it in place
            recorded.append((name, layer_inputs.detach().clone(), args[1:], named, shift))
            return output + shift

        return hook

    # these hooks run before the user's own, which may give the output another form
    handles = [module.get_submodule(name).register_forward_hook(hook_of(name), with_kwargs=True, prepend=True) for name in names]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _moved(module: nn.Module, change: ReaderChange, call: _Call, count: int) -> torch.Tensor:
    """Return by how much a change of one layer in one call moves the product of each probe with the outputs, (widths, probes, inputs)."""
    layer: Any = module.get_submodule(change.layer)
    gradients = call.gradients
    probes, widths = len(gradients), len(change.weight)
    channels_last = isinstance(layer, nn.Linear)
    positions = prod(gradients.shape[2:-1] if channels_last else gradients.shape[3:])
    total = gradients.reshape(probes, len(call.inputs), -1, gradients.shape[-1]).sum(2) if channels_last else gradients.flatten(3).sum(3)
    moved = torch.einsum("pnk,wk->wpn", total, change.bias.to(total.dtype))
    if _plain(layer) and probes * (positions + widths) < widths * positions:
        moved += _by_weight_gradients(layer, change.weight, call.inputs, gradients)
    else:
        moved += _by_outputs(layer, change.weight, call)
    # a layer may be called on several parts of each input, all of which move the same output
    return moved.reshape(widths, probes, count, -1).sum(3)


def _plain(layer: nn.Module) -> bool:
    """Return whether `functional.unfold` gives the patches that the layer reads."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _by_outputs(layer: nn.Module, differences: torch.Tensor, call: _Call) -> torch.Tensor:
    """Run the layer with each difference in place of its weights, and take the product of what it gives with the gradients."""
    by_input = call.gradients.flatten(2).transpose(0, 1)  # (inputs, probes, outputs)
    zero = {} if getattr(layer, "bias", None) is None else {"bias": torch.zeros_like(layer.get_parameter("bias"))}
    moved = []
    with torch.no_grad():
        for difference in differences:
            outputs = functional_call(layer, {"weight": difference, **zero}, (call.inputs, *call.args), call.kwargs)
            moved.append((by_input @ outputs.flatten(1)[:, :, None])[:, :, 0].T)
    return torch.stack(moved)


def _by_weight_gradients(layer: nn.Conv2d, differences: torch.Tensor, inputs: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Compute the gradient of the layer's weights for each input and probe, and take its product with each difference."""
    flat = differences.flatten(1).T  # (weights, widths)
    probes, outputs = gradients.shape[0], gradients.shape[2]
    size = max(1, GRADIENT_BYTES // (4 * probes * len(flat)))
    moved = []
    for part, by_output in zip(torch.split(inputs, size), torch.split(gradients, size, dim=1), strict=True):
        patches = functional.unfold(part, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]  # no text, see `_plain`
        rows = by_output.flatten(3).transpose(0, 1).reshape(len(part), probes * outputs, -1)
        by_weight = (rows @ patches.mT).reshape(len(part), probes, -1)
        moved.append((by_weight @ flat).permute(2, 1, 0))
    return torch.cat(moved, dim=2)
