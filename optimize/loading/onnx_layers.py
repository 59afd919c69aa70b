"""Layers with weights for the nodes of an ONNX file: plain modules of PyTorch, whose channels can be cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from optimize.errors import InputError

Constants: TypeAlias = Sequence[torch.Tensor | None]
"""The inputs of a node that are constants; None in the places of the others."""
Build: TypeAlias = Callable[[Mapping[str, Any], Constants, torch.Tensor], nn.Module | None]
"""(attributes, constant inputs, what the first input was in a trial run) -> the layer; None where this node has no plain one."""

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
_PADS = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}


def pads_of(attributes: Mapping[str, Any], sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the padding at the beginning and at the end of each axis.

    Args:
        attributes: `pads`, or `auto_pad`, with `strides` and `dilations`.
        sizes: spatial sizes of the input.
        kernel: sizes of the kernel.
    """
    rank = len(kernel)
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = list(attributes.get("pads", [0] * 2 * rank)) if auto == "NOTSET" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    begin, end = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        less, more = missing // 2, missing - missing // 2
        begin.append(more if auto == "SAME_LOWER" else less)
        end.append(less if auto == "SAME_LOWER" else more)
    return begin, end


def padded(begin: Sequence[int], end: Sequence[int], value: float, layer: nn.Module) -> nn.Module:
    """Return the layer behind a padding that its own cannot say, since it differs at both ends."""
    pads = tuple(side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair)
    return nn.Sequential(_PADS[len(begin)](pads, value), layer)  # type: ignore[arg-type]


def _convolution(attributes: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None:
        return None
    rank, groups = weight.dim() - 2, int(attributes.get("group", 1))
    begin, end = pads_of(attributes, given.shape[2:], weight.shape[2:])
    layer = _CONVOLUTIONS[rank](
        *(weight.shape[1] * groups, weight.shape[0]),
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(attributes.get("strides", [1] * rank)),  # type: ignore[arg-type]
        padding=tuple(begin) if begin == end else 0,  # type: ignore[arg-type]
        dilation=tuple(attributes.get("dilations", [1] * rank)),  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
    )
    return filled(layer, weight, bias) if begin == end else padded(begin, end, 0.0, filled(layer, weight, bias))


def _transposed(attributes: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None or attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes:
        return None
    rank, groups = weight.dim() - 2, int(attributes.get("group", 1))
    begin, end = pads_of(attributes, given.shape[2:], weight.shape[2:])
    if begin != end:
        return None
    layer = _TRANSPOSED[rank](
        *(weight.shape[0], weight.shape[1] * groups),
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(attributes.get("strides", [1] * rank)),  # type: ignore[arg-type]
        padding=tuple(begin),  # type: ignore[arg-type]
        output_padding=tuple(attributes.get("output_padding", [0] * rank)),  # type: ignore[arg-type]
        dilation=tuple(attributes.get("dilations", [1] * rank)),  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
    )
    return filled(layer, weight, bias)


def _gemm(attributes: Mapping[str, Any], constants: Constants, _: torch.Tensor) -> nn.Module | None:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None or attributes.get("transA", 0):
        return None
    weight = attributes.get("alpha", 1.0) * (weight if attributes.get("transB", 0) else weight.T)
    if bias is not None:
        bias = (attributes.get("beta", 1.0) * bias.flatten()).broadcast_to(weight.shape[:1])
    return filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


def _matmul(_: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight = constants[1]
    if weight is None or weight.dim() != 2 or constants[0] is not None:
        return None
    return filled(nn.Linear(weight.shape[0], weight.shape[1], False), weight.T, None)


def _batch_norm(attributes: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight, bias, mean, var = constants[1:5]
    if weight is None or bias is None or mean is None or var is None:
        return None
    layer = _BATCH_NORMS[given.dim()](len(weight), eps=attributes.get("epsilon", 1e-5))
    layer.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}, strict=False)
    return layer


def _instance_norm(attributes: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight, bias = constants[1:3]
    if weight is None or bias is None or given.dim() not in _INSTANCE_NORMS:
        return None
    return filled(_INSTANCE_NORMS[given.dim()](len(weight), eps=attributes.get("epsilon", 1e-5), affine=True), weight, bias)


def _group_norm(attributes: Mapping[str, Any], constants: Constants, _: torch.Tensor) -> nn.Module | None:
    weight, bias, groups = constants[1], constants[2], int(attributes["num_groups"])
    if weight is None or bias is None:
        return None
    return filled(nn.GroupNorm(groups, len(weight), eps=attributes.get("epsilon", 1e-5)), weight, bias)


def _layer_norm(attributes: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None or attributes.get("axis", -1) % given.dim() != given.dim() - weight.dim():
        return None
    layer = nn.LayerNorm(tuple(weight.shape), eps=attributes.get("epsilon", 1e-5), bias=bias is not None)
    return filled(layer, weight, bias)


def _prelu(_: Mapping[str, Any], constants: Constants, given: torch.Tensor) -> nn.Module | None:
    slope = constants[1]
    if slope is None or slope.numel() not in (1, given.shape[1]):
        return None
    return filled(nn.PReLU(slope.numel()), slope.flatten(), None)


def filled(layer: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """Return the layer with these tensors.

    Raises:
        InputError: when they do not fit, as in a damaged file.
    """
    tensors = {"weight": weight.contiguous()} | ({} if bias is None else {"bias": bias.contiguous()})
    try:
        layer.load_state_dict(tensors, strict=False)
    except RuntimeError as problem:
        raise InputError(f"a {type(layer).__name__} has weights that do not fit ({' '.join(str(problem).split())[:120]})") from problem
    return layer


LAYERS: dict[str, Build] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "PRelu": _prelu,
}
"""Operator -> how its layer is built."""
