"""A file of weights and the code of its network become a Candidate that is known to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from optimize.candidate import Candidate
from optimize.checkpoint import Weights, read_checkpoint
from optimize.errors import InputError
from optimize.factory import describe, load_factory
from optimize.input_advice import input_remedy


def load_model(
    path: str | Path,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    input_shape: Sequence[int] = (),
    trust_pickle: bool = False,
) -> Candidate:
    """Load a trained network, ready to be judged: in eval mode, float32, on the CPU, all weights finite, one forward pass done.

    Args:
        path: weights in `.pt .pth .th .bin .safetensors`; the content decides, not the suffix.
        arch: "file.py:factory", a function that returns the network as an `nn.Module`.
        arch_args: its keyword arguments.
        input_shape: of one input, (C, *spatial).
        trust_pickle: also load a file that runs code on loading; a whole pickled network then needs no `arch`.

    Raises:
        InputError: when anything about the file, the architecture or their fit is wrong.
    """
    path = Path(path)
    factory = None if arch is None else load_factory(arch)
    code = None if arch is None else Path(arch.rpartition(":")[0]).absolute().parent
    # Before the shape, which is not what is missing where the file is no model.
    loaded = read_checkpoint(path, trust_pickle=trust_pickle, code=code)
    shape = _shape(input_shape)
    if factory is not None:
        module = factory(**(arch_args or {}))
        if not isinstance(module, nn.Module):
            raise InputError(f"`--arch` (={arch!r}) returned a {type(module).__name__}: it must return a torch.nn.Module.")
        module = _plain(module, shape)
        _fill(module, loaded.state_dict() if isinstance(loaded, nn.Module) else loaded, path, str(arch))
    elif isinstance(loaded, nn.Module):
        module = _plain(loaded, shape)
    else:
        raise InputError(f"`model` (={path}) holds weights alone: pass --arch file.py:factory, the function that builds their network.")
    _check_finite(module, path)
    _check_forward(module, shape)
    return Candidate(module, torch.zeros(1, *shape))


def _shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(input_shape)
    if not shape:
        raise InputError("`input` is missing: pass --input 3,32,32 (channels, then spatial size) or set [model] input in optimize.toml.")
    if len(shape) < 2 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise InputError(f"`input` (={','.join(map(str, shape))}) must be channels and spatial sizes, each at least 1, such as 3,32,32.")
    return shape


def _plain(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    if any(tensor.is_meta for tensor in module.parameters() if not is_lazy(tensor)):
        raise InputError("`--arch` returned parameters on the meta device, which hold no numbers: build the network on the CPU.")
    module = module.cpu().float().eval()
    if any(is_lazy(parameter) for parameter in module.parameters()):
        # A lazy layer has no weights, nor shapes to compare, before it has seen an input.
        _forward(module, shape)
    return module.requires_grad_(False)


def _fill(module: nn.Module, weights: Weights, path: Path, arch: str) -> None:
    expected = module.state_dict()
    weights = _unprefixed(weights, expected)
    # Files older than batch norm's step counter do not have it, and inference never reads it.
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    both = [name for name in expected if name in weights]
    shapes = [(name, weights[name].shape, expected[name].shape) for name in both]
    reshaped = [f"{name} {_text(given)} for {_text(wanted)}" for name, given, wanted in shapes if given != wanted]
    faults = [_some(missing, "missing"), _some(unexpected, "unexpected"), _some(reshaped, "of another shape")]
    if any(faults):
        raise InputError(
            f"`model` (={path}) does not fit `--arch` (={arch!r}): {'; '.join(filter(None, faults))}: "
            "pass the factory and arch_args it was trained with."
        )
    for name in both:
        if expected[name].is_floating_point() and not weights[name].is_floating_point():
            raise InputError(f"`model` (={path}): {name} is {weights[name].dtype}, not floats: pass the weights from before quantization.")
    module.load_state_dict(weights, strict=False)


def _unprefixed(weights: Weights, expected: Weights) -> Weights:
    """Take off wrappers' prefixes (`module.`, `_orig_mod.`, `model.`) as long as no name is known and all share their first part."""
    while weights and not weights.keys() & expected.keys():
        first, dot, _ = next(iter(weights)).partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in weights):
            break
        weights = {name.removeprefix(f"{first}."): tensor for name, tensor in weights.items()}
    return weights


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(names: Sequence[str], kind: str) -> str:
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {kind} ({', '.join(names[:3])}{more})" if names else ""


def _check_finite(module: nn.Module, path: Path) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            raise InputError(f"`model` (={path}): {name} has {count} values that are not finite: pass a checkpoint that did not diverge.")


def _forward(module: nn.Module, shape: tuple[int, ...]) -> object:
    # Two equal inputs: a network that mixes up the batch axis, or still draws dropout masks, shows itself.
    try:
        with torch.no_grad():
            return module(torch.zeros(2, *shape))
    except Exception as problem:
        text = ",".join(map(str, shape))
        raise InputError(f"`input` (={text}) makes the network fail with {describe(problem)}: {input_remedy(module, shape)}.") from problem


def _check_forward(module: nn.Module, shape: tuple[int, ...]) -> None:
    output, text = _forward(module, shape), ",".join(map(str, shape))
    if not isinstance(output, torch.Tensor):
        raise InputError(f"the network returns a {type(output).__name__}, not one tensor of logits: wrap it in the --arch file.")
    if not output.is_floating_point() or output.dim() < 2 or output.shape[0] != 2:
        raise InputError(
            f"the network turns two inputs of {text} into {tuple(output.shape)} {output.dtype}, not floats (N, classes, ...): "
            "wrap it in the --arch file"
        )
    if not bool(output.isfinite().all()):
        raise InputError(f"the network's output on zeros of `input` (={text}) is not finite: check the weights.")
    if not torch.allclose(output[0], output[1], rtol=1e-3, atol=1e-5):
        raise InputError("the network gives two equal inputs different outputs: it must draw nothing at random in eval mode.")
