"""Try a network on a few inputs before any work, to see whether it can be judged, cut and exported.

Constant images would hide faults or invent them: an instance norm amplifies their rounding, a network that standardizes its input divides
by zero, and dropout of zeros is zero. So the inputs are seeded noise until there are data, and calibration images from then on.

Two inputs are enough for most faults, if they differ: a network that mixes the items of a batch, keeps the last activation, or draws at
random gives another output for one of them, depending on the other or on the call before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from optimize.candidate import Candidate, Floats, Predict
from optimize.errors import InputError
from optimize.graph.layer_types import BATCH_NORMS
from optimize.graph.module_copy import deep_copy
from optimize.loading.ownership import SAME_RUN, alike, copy_fault, hidden_weights

TOLERANCE = 1e-3
"""Largest difference between outputs that should be the same, as a share of the largest output."""
DOUBLE_TOLERANCE = 1e-6
"""The same in double precision, where rounding is a billion times smaller: a network that mixes its inputs differs by far more."""
CALLS = 8
"""Further calls of a network that uses random numbers, when two calls gave the same output."""
LOOKED_AT = 32
"""Number of calibration images, evenly spread, of which the two with the most contrast are taken: many slices of a scan are blank."""


def noise(shape: Sequence[int], *, positive: bool = False) -> torch.Tensor:
    """Return two seeded random inputs, (2, *shape) float32, that differ in mean and spread.

    Args:
        shape: shape of one input, (C, *spatial).
        positive: uniform in 0..1 instead of normal, for networks that take a logarithm or a root.
    """
    rng = np.random.default_rng(0)
    pair = rng.random((2, *shape), np.float32) if positive else rng.standard_normal((2, *shape), np.float32)
    pair[1] = pair[1] ** 2 if positive else 0.5 + 2 * pair[1]
    return torch.from_numpy(pair)


def finite_inputs(module: nn.Module, shape: Sequence[int], run: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return two random inputs on which the network's output is finite, (2, *shape).

    Args:
        module: the network.
        shape: shape of one input, (C, *spatial).
        run: function that returns the network's output, or raises where it has none.

    Raises:
        InputError: when the output is finite on neither kind of noise.
    """
    for positive in (False, True):
        inputs = noise(shape, positive=positive)
        if bool(run(inputs).isfinite().all()):
            return inputs
    text = f"on noise of `input` (={','.join(map(str, shape))}), neither standard normal nor uniform in 0..1"
    raise InputError(
        f"the network's output is not finite {text}{_first_not_finite(module, inputs)}: check the weights, or what its forward divides by."
    )


def check(candidate: Candidate, pair: Floats) -> None:
    """Check that the network repeats its outputs, treats each input of a batch alone, and can be copied.

    Args:
        candidate: the network.
        pair: two different inputs, (2, C, *spatial).

    Raises:
        InputError: when one of these fails, with the likely cause.
    """
    # This check comes first: a layer that is not registered is not in eval mode either, and would fail the next ones.
    try:
        fault = hidden_weights(candidate, pair[:1])
    except Exception:  # whatever a network raises that does not run on a single input
        fault = batch_fault(candidate.predict, pair)
        if fault is None:
            raise
    if fault:
        raise InputError(f"`model` {fault}.")
    check_repeats(candidate, pair)
    # In single precision a batch is summed in another order, which a network that amplifies rounding shows; in double precision it is not.
    if (mixed := batch_fault(candidate.predict, pair)) and not _same_in_double(candidate, pair):
        raise InputError(f"`model` {mixed}{_by_batch(candidate, pair) if mixed.startswith('mixes') else ''}.")
    if fault := copy_fault(candidate, pair):
        raise InputError(f"`model` {fault}.")


def check_repeats(candidate: Candidate, pair: Floats) -> None:
    """Check that two calls on the same inputs give the same outputs.

    Raises:
        InputError: when they do not, with the place where random numbers are used, if there is one.
    """
    # the state of the random generators shows that numbers were drawn, even where they had no effect on these inputs
    state = _generators()
    first = candidate.predict(pair)
    candidate.predict(pair[::-1])  # a network that keeps something between calls now keeps it of other inputs
    second = candidate.predict(pair)
    random_used = state != _generators()
    if random_used and alike(first, second, 0):
        # Dropout of one value in a thousand may not show in a single call.
        many = np.concatenate([pair] * 4)
        first = candidate.predict(many)
        second = next((again for again in (candidate.predict(many) for _ in range(CALLS)) if not alike(first, again, 0)), first)
    if not alike(first, second, 0 if random_used else SAME_RUN):
        raise InputError(f"`model`: two calls on the same image differ: {_cause(candidate.module, pair, random_used)}.")


def batch_fault(predict: Predict, pair: Floats) -> str | None:
    """Return why a batch of two inputs does not give what each input gives alone; None where it does."""
    remedy = "its forward must keep the batch dimension free (x.flatten(1), x.view(x.shape[0], …) instead of x.view(1, …) or x.squeeze())"
    try:
        first, second = predict(pair[:1]), predict(pair[1:])
    except Exception as error:  # the user's forward: whatever it raises
        return f"runs on two inputs but not on one ({_words(error)}): {remedy}"
    try:
        batch = predict(pair)
    except Exception as error:  # the user's forward, as above
        return f"runs on one input but not on two ({_words(error)}): {remedy}"
    expected = (2, *first.shape[1:])
    if batch.shape != expected:
        return f"gives shape {batch.shape} for two inputs, not {expected}: {remedy}"
    if first.shape[:1] != (1,) or first.shape != second.shape:
        return f"gives shape {first.shape} for one input: {remedy}"
    if not alike(batch, np.concatenate([first, second]), TOLERANCE):
        return (
            "mixes the inputs of a batch (two inputs together give other outputs than one by one): "
            "its forward must keep the batch dimension free, and take no mean, spread or maximum across it"
        )
    return None


def _same_in_double(candidate: Candidate, pair: Floats) -> bool:
    """Return whether a batch of two inputs gives what each gives alone, when the network computes in double precision."""
    try:
        module = deep_copy(candidate.module, share=False, instead={}).double()
        inputs = torch.from_numpy(pair).double()
        with torch.inference_mode():
            batch, alone = module(inputs.clone()), torch.cat([module(inputs[:1].clone()), module(inputs[1:].clone())])
        return batch.shape == alone.shape and alike(batch.numpy(), alone.numpy(), DOUBLE_TOLERANCE)
    except Exception:  # a forward that is written for single precision, whatever it raises: then single precision decides
        return False


def some(count: int) -> npt.NDArray[np.int64]:
    """Return the positions of the calibration images to try, at most `LOOKED_AT` of `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(np.int64))


def on_images(candidate: Candidate, images: Floats) -> Candidate:
    """Return the candidate with a real image as its example, after the checks were repeated on two images.

    Args:
        candidate: the candidate as it was loaded.
        images: some calibration images, (N, C, *spatial), as `some` chooses them.

    Raises:
        InputError: when the output on them is not finite, differs from call to call, or depends on the rest of the batch.
    """
    # by contrast, the largest first
    order = np.argsort(-images.reshape(len(images), -1).std(1), kind="stable")
    pair = np.ascontiguousarray(images[order[[0, min(1, len(order) - 1)]]])
    real = replace(candidate, example=torch.from_numpy(pair[:1].copy()))
    if not np.isfinite(real.predict(pair)).all():
        where = _first_not_finite(real.module, torch.from_numpy(pair))
        raise InputError(
            f"the network's output on calibration images is not finite{where}: "
            "check that mean, std and standardize are those of its training."
        )
    check_repeats(real, pair)
    if mixed := batch_fault(real.predict, pair):
        raise InputError(f"`model` {mixed}.")
    return real


def _words(error: Exception) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:200]


def _generators() -> tuple[bytes, str, object]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations that draw at random, with the layer in which each runs.

    torch marks such operations with a tag, so none has to be listed here. Hooks on all layers say which one is running.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, str]] = []
        self.running = [""]

    def enter(self, name: str) -> Callable[..., None]:
        return lambda *_: self.running.append(name)

    def leave(self, *_: object) -> None:
        self.running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        # torch marks every operation that draws random numbers with this tag
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.found.append((func.overloadpacket.__name__, self.running[-1]))
        return func(*args, **(kwargs or {}))


def _cause(module: nn.Module, pair: Floats, random_used: bool) -> str:
    """Return why two calls on the same inputs differ, in words with the remedy."""
    if not random_used:
        return "it keeps something from one call to the next: its forward must not change attributes or buffers that it reads later"
    draws, handles = _Draws(), []
    for name, layer in module.named_modules():
        handles += [layer.register_forward_pre_hook(draws.enter(name)), layer.register_forward_hook(draws.leave)]
    try:
        with torch.no_grad(), draws:
            module(torch.from_numpy(pair.copy()))
    finally:
        for handle in handles:
            handle.remove()
    remedy = "nothing may be drawn at random in eval mode"
    # torch drew nothing, and still the outputs differ and a generator has moved
    if not draws.found:
        return f"its forward draws from numpy.random or random: {remedy}"
    operation, name = draws.found[0]
    layer = dict(module.named_modules())[name]
    where = f"`{name}` ({type(layer).__name__})" if name else f"the forward of {type(layer).__name__}"
    if operation.startswith(("bernoulli", "native_dropout")):
        return f"dropout is at work in {where} in eval mode: F.dropout needs training=self.training, and nn.Dropout must stay in eval mode"
    return f"{operation} draws at random in {where}: {remedy}"


def _first_not_finite(module: nn.Module, inputs: torch.Tensor) -> str:
    """Return the first layer whose output is not finite although its inputs are, in words; empty text where there is none."""
    not_finite: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
            if isinstance(output, torch.Tensor) and not output.isfinite().all() and all(bool(value.isfinite().all()) for value in tensors):
                not_finite.append(f" (first in `{name}`, {type(layer).__name__})")

        return hook

    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(look(name)) for name, layer in layers]
    try:
        with torch.inference_mode():
            module(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    return not_finite[0] if not_finite else ""


def _by_batch(candidate: Candidate, pair: Floats) -> str:
    """Return the first batch norm that normalises by the batch, in words; empty text where there is none."""
    by_batch: list[str] = []

    def look(name: str) -> Callable[..., None]:
        return lambda layer, *_: by_batch.append(name) if layer.training or layer.running_mean is None else None

    norms = [(name, layer) for name, layer in candidate.module.named_modules() if isinstance(layer, BATCH_NORMS)]
    handles = [layer.register_forward_pre_hook(look(name)) for name, layer in norms]
    candidate.predict(pair)
    for handle in handles:
        handle.remove()
    return f"; layer `{by_batch[0]}` normalises by the batch: give it running statistics" if by_batch else ""
