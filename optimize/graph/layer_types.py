"""Facts about single layers: which are linear maps, which work channel by channel, how wide they are, and what is not supported."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import nn

Side: TypeAlias = Literal["out", "in"]
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
LinearMap: TypeAlias = nn.Linear | Convolution | Transposed

LINEAR_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
CHANNELWISE = (*BATCH_NORMS, nn.PReLU, *INSTANCE_NORMS, nn.GroupNorm)
"""Layers that pass every channel on. A group norm mixes the channels of each of its groups, so these go together."""


def linear_submodule(module: nn.Module, name: str) -> LinearMap:
    """Return the linear layer or convolution of this name.

    Raises:
        TypeError: when the layer is of another kind, which no caller may ask for: layers are chosen from the traced graph.

    Example:
        >>> linear_submodule(nn.Sequential(nn.ReLU(), nn.Linear(2, 3)), "1")
        Linear(in_features=2, out_features=3, bias=True)
    """
    layer = module.get_submodule(name)
    if not isinstance(layer, LINEAR_MAPS):
        raise TypeError(f"{name!r} is a {type(layer).__name__}: expected a linear layer or a convolution.")
    return layer


def width(layer: nn.Module, side: Side) -> int:
    """Return how many channels a layer makes ("out") or reads ("in")."""
    if isinstance(layer, CHANNELWISE):
        return int(getattr(layer, width_name(layer)))
    kind = "features" if isinstance(layer, nn.Linear) else "channels"
    return int(getattr(layer, f"{side}_{kind}"))


def width_name(layer: nn.Module) -> str:
    """Return the attribute in which a channelwise layer keeps its number of channels."""
    if isinstance(layer, nn.PReLU):
        return "num_parameters"
    return "num_channels" if isinstance(layer, nn.GroupNorm) else "num_features"


def groups(layer: nn.Module) -> int:
    """Return the number of independent parts of a layer; 1 for all but grouped convolutions."""
    return int(getattr(layer, "groups", 1))


def depthwise(layer: nn.Module) -> bool:
    """Return whether each input channel has outputs of its own (one or several) and shares none."""
    # 8 -> 16 in 8 groups: each input has two outputs of its own. Transposed, only 8 -> 8 counts: its weight is cut along another axis.
    return groups(layer) > 1 and groups(layer) == width(layer, "in") and (not layer.transposed or width(layer, "out") == groups(layer))


def affine_norm(layer: nn.Module) -> bool:
    """Return whether a norm multiplies each channel by a number and adds one: batch norm, and instance norm with running statistics."""
    return isinstance(layer, BATCH_NORMS) or (isinstance(layer, INSTANCE_NORMS) and layer.running_mean is not None)


def recognised(layer: nn.Module) -> bool:
    """Return whether channels can be cut out of the layer; a PReLU with one slope for all has no channels."""
    return isinstance(layer, LINEAR_MAPS + CHANNELWISE) and not (isinstance(layer, nn.PReLU) and layer.num_parameters == 1)


def unsupported_reason(layer: Any) -> str | None:
    """Return why a layer of a known class does not compute what the class does from its own tensors; None where it does."""
    # a parametrized or pruned layer computes its weight from other tensors before each call, so writing into `weight` would have no effect
    if "weight" not in layer._parameters or (isinstance(layer, BATCH_NORMS) and not layer.track_running_stats):
        return "computes its weights or statistics as it runs"
    known = next(kind for kind in LINEAR_MAPS + CHANNELWISE if isinstance(layer, kind))
    # a subclass may compute anything; its parameters alone say nothing about its outputs then
    inherited = all(getattr(type(layer), name, None) is getattr(known, name, None) for name in ("forward", "_conv_forward"))
    return None if inherited and "forward" not in vars(layer) else "has a forward of its own"
