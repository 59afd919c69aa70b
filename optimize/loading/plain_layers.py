"""Rewrite layers that have a forward of their own as plain layers of PyTorch that compute the same.

Channels can be cut out of a plain convolution, linear layer or norm, since their tensors say all that they compute. Libraries wrap them: a
batch norm with an activation inside, a convolution that standardizes its weight or pads by the size of its input, a parametrized weight, a
frozen batch norm. In eval mode, and for one input size, such a layer often computes what plain layers do. So for each of them a plain
replacement is built, run on what the layer was given in the network, and taken only where it gives the same.

No class of a library is named here. What a layer computes is seen from outside:

1. A norm of PyTorch with another forward: the plain norm, followed by the layer's own children (`BatchNormAct2d` = norm, then ReLU).
2. A layer that has exactly the four vectors of a batch norm: that batch norm.
3. Anything else that makes one call of a convolution or a linear map: the plain layer with the weight and bias of that call, behind a
   padding where there was one. The weight must be the same for two inputs, so one that is computed from the input is left alone.

Example: a convolution whose `forward` subtracts the mean of its weight and then calls `F.conv2d(x, weight - mean, bias, stride, padding)`.
The call is recorded with its weight. A plain `nn.Conv2d` gets this weight, and gives the same outputs: it takes the layer's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from optimize.graph.layer_types import BATCH_NORMS, CHANNELWISE, INSTANCE_NORMS, LINEAR_MAPS, unsupported_reason
from optimize.graph.surgery import copy_module

TOLERANCE = 1e-5
"""Largest difference between a layer and its replacement, as a share of the layer's largest output."""
BATCH_NORM_TENSORS = {"weight", "bias", "running_mean", "running_var"}
_NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm)
_CONVOLUTIONS = {torch.conv1d: nn.Conv1d, torch.conv2d: nn.Conv2d, torch.conv3d: nn.Conv3d}
_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_PADDINGS = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}


@dataclass(frozen=True, eq=False)
class _Call:
    """What a layer was given, and what it gave."""

    given: torch.Tensor
    gave: torch.Tensor


def with_plain_layers(module: nn.Module, inputs: torch.Tensor) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network with plain layers wherever one computes the same, and a note on them; the network itself where there are none.

    Args:
        module: the network, in eval mode; it is not changed.
        inputs: two inputs, (2, C, *spatial).

    Example:
        >>> class Doubled(nn.Conv2d):
        ...     def forward(self, x):
        ...         return nn.functional.conv2d(x, 2 * self.weight, self.bias)
        >>> net, notes = with_plain_layers(nn.Sequential(Doubled(1, 4, 3), nn.ReLU()).eval(), torch.randn(2, 1, 8, 8))
        >>> type(net[0]).__name__, len(notes)
        ('Conv2d', 1)
    """
    suspects = dict(_suspects(module))
    if not suspects:
        return module, ()
    try:
        recorded, expected = _recorded(module, suspects, inputs)
    except Exception:  # the user's forward, whatever it raises: the checks that follow say what is wrong with it
        return module, ()
    instead: dict[nn.Module, nn.Module] = {}
    for name, layer in suspects.items():
        calls = recorded.get(name, [])
        plain = _replacement(layer, calls) if calls else None
        if plain is not None:
            instead[layer] = plain.eval().requires_grad_(False)
    if not instead:
        return module, ()
    try:
        changed = copy_module(module, instead=instead)
        with torch.inference_mode():
            same = _same(changed(inputs.clone()), expected)
    except Exception:  # what cannot be copied, or runs in its own class alone, stays as it is
        return module, ()
    if not same:
        return module, ()
    kinds = ", ".join(sorted({type(layer).__name__ for layer in instead}))
    layers = "1 layer" if len(instead) == 1 else f"{len(instead)} layers"
    return changed, (f"{layers} with a forward or weights of their own ({kinds}) were rewritten as plain ones, which compute the same",)


def _suspects(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that may compute what plain layers do, and are none."""
    for name, layer in module.named_modules():
        if not name:
            continue
        if isinstance(layer, LINEAR_MAPS + CHANNELWISE):
            if unsupported_reason(layer) is not None:
                yield name, layer
        elif isinstance(layer, nn.GroupNorm):
            if type(layer).forward is not nn.GroupNorm.forward:
                yield name, layer
        elif _tensors(layer) and not list(layer.children()) and type(layer).__module__.partition(".")[0] != "torch":
            yield name, layer


def _tensors(layer: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


def _recorded(module: nn.Module, suspects: Mapping[str, nn.Module], inputs: torch.Tensor) -> tuple[dict[str, list[_Call]], Any]:
    """Return the calls of some layers during one run of the network, and the network's output."""
    calls: dict[str, list[_Call]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            alone = len(args) == 1 and not named and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor)
            # a layer that is given more than one tensor, or gives more, is not what a plain layer is
            calls.setdefault(name, []).append(_Call(args[0].clone(), output.clone()) if alone else _Call(torch.empty(0), torch.empty(0)))

        return hook

    handles = [layer.register_forward_hook(recorder(name), with_kwargs=True, prepend=True) for name, layer in suspects.items()]
    try:
        with torch.no_grad():
            output = module(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls, output


def _replacement(layer: nn.Module, calls: list[_Call]) -> nn.Module | None:
    """Return plain layers that give for every recorded input what the layer gave; None where none was found."""
    if any(not call.given.numel() for call in calls) or _hooked(layer):
        return None
    for build in (_plain_norm, _frozen_norm, _plain_map):
        try:
            plain = build(layer, calls[0].given)
            if plain is not None:
                plain.eval()
                with torch.no_grad():
                    if all(_same(plain(call.given.clone()), call.gave) for call in calls):
                        return plain
        except Exception:  # noqa: S112  # a layer of the user's: whatever it raises means that this replacement does not fit
            continue
    return None


def _hooked(layer: nn.Module) -> bool:
    """Return whether the layer has hooks of the user's, which a replacement would not have; those of `weight_norm` compute a weight."""
    own = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    return any(type(hook).__module__.partition(".")[0] != "torch" for hook in own)


def _plain_norm(layer: nn.Module, _: torch.Tensor) -> nn.Module | None:
    """Return the norm that the layer inherits from, with the layer's children behind it."""
    kind = next((kind for kind in _NORMS if isinstance(layer, kind)), None)
    if kind is None:
        return None
    of: Any = layer
    settings: dict[str, Any] = {"eps": of.eps, "affine": of.affine}
    plain: nn.Module
    if kind is nn.GroupNorm:
        plain = nn.GroupNorm(of.num_groups, of.num_channels, **settings)
    else:
        plain = kind(of.num_features, track_running_stats=of.running_mean is not None, **settings)  # type: ignore[call-arg]
    plain.load_state_dict({name: tensor for name, tensor in _tensors(layer).items() if name in plain.state_dict()}, strict=False)
    children = [child for child in layer.children() if not isinstance(child, nn.Identity)]
    return nn.Sequential(plain, *children) if children else plain


def _frozen_norm(layer: nn.Module, given: torch.Tensor) -> nn.Module | None:
    """Return the batch norm that has the layer's four vectors."""
    tensors = _tensors(layer)
    if not tensors.keys() >= BATCH_NORM_TENSORS or any(tensor.dim() > 1 for tensor in tensors.values()):
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[given.dim()]
    plain = kind(len(tensors["weight"]), eps=float(getattr(layer, "eps", 1e-5)))
    plain.load_state_dict({name: tensors[name] for name in BATCH_NORM_TENSORS}, strict=False)
    return plain


class _Calls(TorchFunctionMode):
    """Records the calls of convolutions and linear maps by their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, dict[str, Any]]] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = dict(kwargs or {})
        if func in _CONVOLUTIONS or func is nn.functional.linear:
            self.found.append((func, {**dict(zip(_ORDER, args, strict=False)), **named}))
        return func(*args, **named)


def _plain_map(layer: nn.Module, given: torch.Tensor) -> nn.Module | None:
    """Return the convolution or linear layer whose one call the layer makes, behind a padding where there was one."""
    found = []
    for inputs in (given, given.flip(0) * 0.5 + 0.1):
        with _Calls() as calls, torch.no_grad():
            layer(inputs.clone())
        found.append(calls.found)
    if [len(part) for part in found] != [1, 1]:
        return None
    (func, first), (_, second) = found[0][0], found[1][0]
    # a weight that is computed from the input is none that a plain layer has
    if not torch.equal(first["weight"], second["weight"]):
        return None
    weight, bias = first["weight"].detach(), first.get("bias")
    if func is nn.functional.linear:
        plain: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        groups = int(first.get("groups", 1))
        further = {name: first[name] for name in ("stride", "padding", "dilation") if name in first}
        plain = _CONVOLUTIONS[func](
            *(weight.shape[1] * groups, weight.shape[0]),
            tuple(weight.shape[2:]),  # type: ignore[arg-type]
            groups=groups,
            bias=bias is not None,
            **further,
        )
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias.detach()}
    plain.load_state_dict(tensors)
    pads = _padding(given, first["input"])
    return plain if pads is None else nn.Sequential(pads, plain)


def _padding(given: torch.Tensor, read: torch.Tensor) -> nn.Module | None:
    """Return the padding with zeros between what the layer was given and what its convolution read; None where they are the same.

    Raises:
        ValueError: when something else happened to the input.
    """
    if given.shape == read.shape:
        if torch.equal(given, read):
            return None
        raise ValueError("the input was changed")
    extra = [wide - narrow for wide, narrow in zip(read.shape[2:], given.shape[2:], strict=True)]
    if given.shape[:2] != read.shape[:2] or min(extra) < 0:
        raise ValueError("the input was cut")
    # the pixels that were added lie at both ends, and an odd one at either
    for starts in product(*(range(size + 1) for size in extra)):
        inside = tuple(slice(start, start + size) for start, size in zip(starts, given.shape[2:], strict=True))
        if torch.equal(read[:, :, *inside], given):
            pads = [side for start, size in zip(reversed(starts), reversed(extra), strict=True) for side in (start, size - start)]
            return _PADDINGS[len(extra)](tuple(pads), 0.0)  # type: ignore[arg-type]
    raise ValueError("the input was changed")


def _same(actual: Any, expected: Any) -> bool:
    """Return whether two outputs are the same up to rounding; outputs that are no tensors are compared part by part."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(actual, torch.Tensor) or actual.shape != expected.shape:
            return False
        return bool((actual - expected).abs().max() <= TOLERANCE * expected.abs().max()) if expected.numel() else True
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(_same(actual.get(key), value) for key, value in expected.items())
    if isinstance(expected, list | tuple):
        return isinstance(actual, list | tuple) and len(actual) == len(expected) and all(map(_same, actual, expected))
    return bool(actual == expected)
