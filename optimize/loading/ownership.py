"""Check that every weight of a network is registered, and that a copy of it shares nothing with the original.

Only then can channels be cut in a copy, and weights be counted, saved and exchanged. An example of each fault:

    self.layers = [nn.Linear(4, 4)]                      a plain list: its weights are in no state dict (`hidden_weights`)
    layer.register_forward_hook(lambda …: CACHE.…)       a global: the copy and the original write into one place (`copy_fault`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from optimize.candidate import Candidate, Floats
from optimize.graph.module_copy import reachable_objects
from optimize.graph.surgery import copy_module
from optimize.loading.factory import describe

SAME_RUN = 1e-5
"""Largest difference between outputs of one network for one input, as a share of the largest: only the order of sums may differ."""


def alike(some: Floats, reference: Floats, tolerance: float) -> bool:
    """Return whether outputs of one shape differ by no more than `tolerance` times the largest of `reference`."""
    if some.shape != reference.shape:
        return False
    scale = float(np.abs(reference).max(initial=1e-6))
    return bool(np.allclose(some, reference, rtol=0, atol=tolerance * scale, equal_nan=True))


def hidden_weights(candidate: Candidate, image: Floats) -> str | None:
    """Return which weights the network uses without having registered them; None where there are none.

    They are in no state dict, so the file cannot hold them, nothing counts them, and nothing can cut them. A tensor that can be reached may
    be unused; so each is changed in turn, and only one that changes the output is named.
    """
    module = candidate.module
    # by identity: two equal tensors are still two
    known = {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}
    outside = [(path, part) for path, part in reachable_objects(module) if id(part) not in known]
    lost: list[tuple[str, torch.Tensor]] = [(path, part) for path, part in outside if isinstance(part, nn.Parameter)]
    for path, part in outside:
        # what such a layer counts by is a buffer; a tensor put aside by a hook is neither, and no weight
        if isinstance(part, nn.Module):
            lost += [(path, buffer) for buffer in part.buffers(recurse=False)]
    # a counter that is no float has no gradient and is not cut
    lost = [(path, tensor) for path, tensor in lost if tensor.is_floating_point()]
    expected = candidate.predict(image)
    for path, tensor in lost:
        with _changed([tensor]):
            used = not alike(candidate.predict(image), expected, SAME_RUN)
        if used:
            owner = path.removesuffix(".weight").removesuffix(".bias")
            return (
                f"uses weights that are not registered (`{owner}`, held by a list, a dict or a function): they are not in its state "
                "dict, so no file of weights holds them: use nn.ModuleList, nn.ModuleDict or nn.Parameter attributes"
            )
    return None


def copy_fault(candidate: Candidate, pair: Floats) -> str | None:
    """Return why a copy of the network is not independent of it; None where it is.

    Two trials show what a copy still shares with the original. First the original runs on one image and the copy on the other: an
    activation that is kept outside the module is then the wrong one. Second a copy gets other weights, and then the original the same ones:
    a copy that read the original's old weights has given other outputs.
    """
    module = candidate.module
    remedy = "what its forward needs must be passed as arguments or kept in attributes of the module"
    try:
        copied, changed = copy_module(module), copy_module(module, share=False)
    except Exception as problem:  # what cannot be copied raises whatever it likes
        if "graph leaves" in str(problem):
            return "cannot be copied: an attribute holds a tensor that was computed from weights: compute it in forward, or detach it"
        return f"cannot be copied ({describe(problem)}): keep locks, files and other open things out of the network's attributes"
    # First trial: with the original on the other image in between, only a shared activation makes the copy's output wrong.
    wants = [candidate.predict(pair[:1]), candidate.predict(pair[1:])]
    fault = f"keeps something outside the module ({_holders(module)}): a copy of it gives other outputs, so nothing can be cut: {remedy}"
    try:
        for place, want in enumerate(wants):
            candidate.predict(pair[1 - place : 2 - place])
            if not alike(_predict(copied, candidate, pair[place : place + 1]), want, SAME_RUN):
                return fault
        # Second trial: the copy runs with changed weights, then the original gets the same ones. The outputs must be equal; a copy that
        # reads a weight of the original has used the old one.
        with _changed(list({id(tensor): tensor for tensor in _floats(changed)}.values())):
            from_copy = _predict(changed, candidate, pair[:1])
            with _replaced(module, changed):
                expected = candidate.predict(pair[:1])
    except Exception:  # a copy that takes another one's tensors may find any shape
        return fault
    if np.isfinite(expected).all() and not alike(from_copy, expected, SAME_RUN):
        return fault
    return None if alike(candidate.predict(pair[:1]), wants[0], SAME_RUN) else fault


def _holders(module: nn.Module) -> str:
    """Return what may hold tensors outside the network: layers with hooks, else functions among its attributes."""
    hooked = [name for name, layer in module.named_modules() if layer._forward_hooks or layer._forward_pre_hooks]
    if hooked:
        return f"probably the hook on `{hooked[0]}`" + (f" or on {len(hooked) - 1} others" if len(hooked) > 1 else "")
    functions = [path for path, value in reachable_objects(module) if callable(value) and not isinstance(value, nn.Module | type)]
    own = [path for path in functions if path and "_hooks" not in path]
    return f"probably `{own[0]}`" if own else "a global, a class attribute or a weak reference"


def _predict(module: nn.Module, like: Candidate, inputs: Floats) -> Floats:
    return replace(like, module=module).predict(inputs)


def _floats(module: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            yield tensor


@contextmanager
def _changed(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Change every element of the tensors by a tenth at most while the block runs."""
    draw = torch.Generator().manual_seed(0)
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        with torch.inference_mode():  # in which also what the network made there itself may be changed
            for tensor in tensors:
                tensor.mul_(0.9 + 0.2 * torch.rand(tensor.shape, generator=draw))
        yield
    finally:
        with torch.inference_mode():
            for tensor, old in zip(tensors, kept, strict=True):
                tensor.copy_(old)


@contextmanager
def _replaced(module: nn.Module, by: nn.Module) -> Iterator[None]:
    """Give the network the numbers of another network of the same shapes while the block runs."""
    pairs = list(zip(_floats(module), _floats(by), strict=True))
    kept = [mine.detach().clone() for mine, _ in pairs]
    try:
        with torch.inference_mode():
            for mine, theirs in pairs:
                mine.copy_(theirs)
        yield
    finally:
        with torch.inference_mode():
            for (mine, _), old in zip(pairs, kept, strict=True):
                mine.copy_(old)
