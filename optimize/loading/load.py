"""Load a file of weights and the code of its network as a Candidate that has been tried on inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from optimize.candidate import Candidate
from optimize.errors import InputError
from optimize.loading.by_way_of_onnx import script_network
from optimize.loading.checkpoint import Weights, read_checkpoint
from optimize.loading.chosen_output import with_one_output
from optimize.loading.factory import describe, load_factory
from optimize.loading.huggingface_folder import is_folder
from optimize.loading.input_advice import batch_remedy, input_remedy
from optimize.loading.library_networks import fitting_arguments, library_factory, of_library
from optimize.loading.live_module import own_copy, require_no_file_settings
from optimize.loading.model_formats import NetworkFile
from optimize.loading.plain_layers import with_plain_layers
from optimize.loading.probe import check, finite_inputs, noise
from optimize.loading.weights import fill, named_as
from optimize.progress import note


def load_model(
    path: str | Path | nn.Module,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, object] | None = None,
    input_shape: Sequence[int] = (),
    trust_pickle: bool = False,
    weights: str | None = None,
    output: str | None = None,
    probe: bool = True,
) -> Candidate:
    """Load a trained network, ready to be judged: in eval mode, float32, on the CPU, all weights finite, tried on two random inputs.

    Args:
        path: weights in one of the formats of `optimize/loading/formats/`, such as PyTorch's or safetensors; the content decides, not the
            suffix. Or the network itself, on the CPU: it is copied, and neither changed nor kept.
        arch: "file.py:factory", a function that returns the network as an `nn.Module`, or "library:name", such as "timm:resnet18".
        arch_args: keyword arguments of that function.
        input_shape: shape of one input, (C, *spatial).
        trust_pickle: also load a file that runs code on loading; a whole pickled network then needs no `arch`.
        weights: name of the set of weights to take, where the file holds several; None for the one that is no running average.
        output: name or position of the output to take, where the network returns several; None for the usual one.
        probe: whether to check that it repeats itself, keeps inputs apart and can be copied (`probe.py`).

    Raises:
        InputError: when anything about the file, the architecture or their fit is wrong.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> candidate = load_model(net, input_shape=(1, 8, 8))
        >>> candidate.parameters, candidate.module is net, candidate.module.training
        (650, False, False)
    """
    if isinstance(path, nn.Module):
        require_no_file_settings(arch=arch, arch_args=arch_args, trust_pickle=trust_pickle, weights=weights)
        shape = _shape(input_shape)
        if isinstance(path, torch.jit.ScriptModule):
            rebuilt = script_network(path, path.original_name, shape)
            return _tried(_plain(rebuilt, shape), shape, path.original_name, rebuilt.notes, output, probe)
        own, notes = own_copy(path)
        return _tried(_plain(own, shape), shape, type(path).__name__, notes, output, probe)
    if not isinstance(path, str | Path):
        raise InputError(f"`path` is of class {type(path).__name__}: pass the network itself (an nn.Module) or a file of weights.")
    path = Path(path)
    library = arch is not None and of_library(arch)
    factory = None if arch is None else library_factory(arch) if library else load_factory(arch)
    code = None if arch is None or library else Path(arch.rpartition(":")[0]).absolute().parent
    # Before the shape, which is not what is missing where the file is no model.
    checkpoint = read_checkpoint(path, trust_pickle=trust_pickle, code=code, weights=weights)
    loaded, notes = checkpoint.content, checkpoint.notes
    if isinstance(loaded, NetworkFile):
        if arch is not None:
            raise InputError(f"`model` (={path}) holds a whole network: leave --arch out.")
        built = loaded.build(_shape(input_shape) if input_shape else ())
        return _tried(_plain(built, built.input_shape), built.input_shape, path, (*notes, *built.notes), output, probe)
    shape = _shape(input_shape)
    if arch is not None and factory is not None:
        held = loaded.state_dict() if isinstance(loaded, nn.Module) else loaded
        module, of_weights = _filled(factory, arch, dict(arch_args or {}), shape, held, path)
        notes += of_weights
    elif isinstance(loaded, nn.Module):
        module = _plain(loaded, shape)
    else:
        raise InputError(
            f"`model` (={path}) holds weights alone: pass --arch file.py:factory, the function that builds their network, "
            "or the name in a library, such as --arch timm:resnet18"
            + (f"; or the folder {path.parent}, whose config.json describes it." if is_folder(path.parent) else ".")
        )
    return _tried(module, shape, path, notes, output, probe)


def _filled(
    factory: Callable[..., object], arch: str, arch_args: dict[str, object], shape: tuple[int, ...], held: Weights, path: Path
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network that a factory builds, with the weights of the file, and notes on both."""
    module = _made(factory, arch, arch_args, shape)
    notes: tuple[str, ...] = ()
    if of_library(arch):
        fitting = fitting_arguments(arch, module, named_as(held, module.state_dict(), path)[0])
        # what the user said counts
        if further := {name: value for name, value in fitting.items() if name not in arch_args}:
            module = _made(factory, arch, {**arch_args, **further}, shape)
            words = ", ".join(f"{name} = {value}" for name, value in further.items())
            notes = (f"arch_args {{ {words} }} were read from the shapes of the weights",)
    return module, (*notes, *fill(module, held, path, arch))


def _made(factory: Callable[..., object], arch: str, arch_args: Mapping[str, object], shape: tuple[int, ...]) -> nn.Module:
    module = factory(**arch_args)
    if not isinstance(module, nn.Module):
        raise InputError(f"`--arch` (={arch!r}) returned a {type(module).__name__}: it must return a torch.nn.Module.")
    return _plain(module, shape)


def _tried(module: nn.Module, shape: tuple[int, ...], name: object, notes: tuple[str, ...], output: str | None, probe: bool) -> Candidate:
    """Return the candidate of a network that was put in eval mode, tried on two random inputs."""
    _check_finite(module, name)
    module, chosen = with_one_output(module, _forward(module, noise(shape)), output)
    notes += chosen
    inputs = finite_inputs(module, shape, lambda inputs: _output(module, inputs))
    # after the weights were loaded, whose names are those of the network as it was built
    module, rewritten = with_plain_layers(module, inputs)
    notes += rewritten
    candidate = Candidate(module, inputs[:1].clone(), notes=notes)
    if probe:
        check(candidate, inputs.numpy())
        for text in notes:
            note(text)
    return candidate


def _shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(input_shape, str) or not hasattr(input_shape, "__len__"):
        raise InputError(f"`input_shape` (={input_shape!r}) must be a tuple: pass channels and spatial sizes, such as (3, 32, 32).")
    shape = tuple(input_shape)
    if not shape:
        raise InputError("`input` is missing: pass --input 3,32,32 (channels, then spatial size) or set [model] input in optimize.toml.")
    if len(shape) < 2 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise InputError(f"`input` (={','.join(map(str, shape))}) must be channels and spatial sizes, each at least 1, such as 3,32,32.")
    return shape


def _plain(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    if any(tensor.is_meta for tensor in module.parameters() if not is_lazy(tensor)):
        raise InputError("`--arch` returned parameters on the meta device, which hold no numbers: build the network on the CPU.")
    # one form for all: half precision or a GPU in the file says how it was trained, not what is compressed
    module = module.cpu().float().eval()
    if any(is_lazy(parameter) for parameter in module.parameters()):
        # A lazy layer has no weights, nor shapes to compare, before it has seen an input.
        _forward(module, noise(shape))
    return module.requires_grad_(False)


def _check_finite(module: nn.Module, path: object) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            raise InputError(f"`model` (={path}): {name} has {count} values that are not finite: pass a checkpoint that did not diverge.")


def _forward(module: nn.Module, inputs: torch.Tensor) -> object:
    try:
        with torch.no_grad():
            return module(inputs.clone())
    except Exception as problem:
        text = ",".join(map(str, inputs.shape[1:]))
        remedy = batch_remedy(module, inputs.shape[1:]) or input_remedy(module, inputs.shape[1:])
        raise InputError(f"`input` (={text}) makes the network fail with {describe(problem)}: {remedy}.") from problem


def _output(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    output, text = _forward(module, inputs), ",".join(map(str, inputs.shape[1:]))
    assert isinstance(output, torch.Tensor)
    if not output.is_floating_point() or output.dim() < 2 or output.shape[0] != 2:
        raise InputError(
            f"the network turns two inputs of {text} into {tuple(output.shape)} {output.dtype}, not floats (N, classes, ...): "
            "wrap it in a module that returns the logits (in the --arch file)"
        )
    return output
