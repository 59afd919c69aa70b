"""Shapes of a network's layers: everything that their latency and MACs depend on, without the weights.

One multiplication with its addition is one MAC. With d spatial dimensions, kernel k, output size o and input size i:

    convolution             in / groups * out * prod(k) * prod(o)
    transposed convolution  in / groups * out * prod(k) * prod(i)
    linear                  in * out * prod(i)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from optimize.errors import InputError

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class LayerShape:
    """One call of one layer, for one input.

    Args:
        kind: "conv", "transposed" or "linear".
        in_channels: number of channels it reads, of all groups together; the input features of a linear layer.
        out_channels: number of channels it makes, of all groups together.
        spatial: input size, (H, W) or any other number of dimensions; of a linear layer the dimensions between batch and features.
        kernel: one size for each spatial dimension; empty for a linear layer, as are stride, padding, dilation and output padding.
        stride: stride of each dimension, as torch has it.
        padding: zeros put on both sides of each dimension.
        dilation: dilation of each dimension, as torch has it.
        output_padding: rows that a transposed convolution adds on the far side of its output.
        groups: 1 for a linear layer.
    """

    kind: Literal["conv", "transposed", "linear"]
    in_channels: int
    out_channels: int
    spatial: Sizes = ()
    kernel: Sizes = ()
    stride: Sizes = ()
    padding: Sizes = ()
    dilation: Sizes = ()
    output_padding: Sizes = ()
    groups: int = 1

    def __str__(self) -> str:
        """Return the shape on one line; two shapes have the same line only when they are equal."""
        sizes = {"k": self.kernel, "s": self.stride, "p": self.padding, "d": self.dilation, "o": self.output_padding}
        parts = [f"{name}{'x'.join(map(str, values))}" for name, values in sizes.items() if values]
        where = [f"@{'x'.join(map(str, self.spatial))}"] if self.spatial else []
        return " ".join([self.kind, f"{self.in_channels}->{self.out_channels}", *parts, f"g{self.groups}", *where])

    @property
    def depthwise(self) -> bool:
        """Whether every input channel is a group of its own."""
        return self.groups == self.in_channels > 1

    @property
    def output(self) -> Sizes:
        """Spatial size of the output."""
        if self.kind == "linear":
            return self.spatial
        rule = _deconvolved if self.kind == "transposed" else _convolved
        extra = self.output_padding or (0,) * len(self.kernel)
        return tuple(map(rule, self.spatial, self.kernel, self.stride, self.padding, self.dilation, extra))

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input."""
        positions = math.prod(self.spatial if self.kind == "transposed" else self.output)
        return self.in_channels // self.groups * self.out_channels * math.prod(self.kernel) * positions

    @property
    def weights(self) -> int:
        """Entries of the weight; the bias is not counted."""
        return self.in_channels // self.groups * self.out_channels * math.prod(self.kernel)

    def with_channels(self, in_channels: int, out_channels: int) -> LayerShape:
        """Return the same layer at other widths; a depthwise one gets as many groups as input channels, any other keeps its groups.

        Raises:
            InputError: when a width is not at least 1, or is no multiple of the groups.
        """
        # a depthwise layer stays one: each channel is a group of its own, at any width
        groups = in_channels if self.depthwise else self.groups
        for name, width in (("in_channels", in_channels), ("out_channels", out_channels)):
            if width < 1 or width % groups:
                raise InputError(f"`{name}` (={width}) must be a positive multiple of the layer's groups ({groups}).")
        return replace(self, in_channels=in_channels, out_channels=out_channels, groups=groups)


def layer_shapes(module: nn.Module, example: torch.Tensor) -> dict[str, list[LayerShape]]:
    """Return the shapes of every convolution (also transposed) and linear layer that runs, in the order of their first call.

    Args:
        module: the network; in eval mode it is left as it was.
        example: (N, C, *spatial).

    Returns:
        Name -> one shape for each call: a layer used three times has three. A layer that runs on k times the example's batch, because
        the network folds windows or frames into it, has k shapes for that call if it is a convolution, and k rows if it is linear.
        A weight that is used without calling its layer, as attention does, is not seen.
    """
    shapes: dict[str, list[LayerShape]] = {}
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, _ConvNd | nn.Linear)]
    hooks = [layer.register_forward_hook(_recorder(name, shapes, len(example)), with_kwargs=True) for name, layer in layers]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _recorder(name: str, recorded: dict[str, list[LayerShape]], batch: int) -> Callable[..., None]:
    def record(layer: Any, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor) -> None:
        x = inputs[0] if inputs else named["input"]
        shapes = _linear(layer, x, batch) if isinstance(layer, nn.Linear) else _convolution(layer, x, output, batch)
        recorded.setdefault(name, []).extend(shapes)

    return record


def _linear(layer: nn.Linear, inputs: torch.Tensor, batch: int) -> list[LayerShape]:
    spatial = tuple(inputs.shape[1:-1])
    rows = math.prod(inputs.shape[:-1]) // batch
    # windows folded into the batch are rows of the same product: a (64, 49, 96) input at batch 1 has 64 * 49 rows
    return [LayerShape("linear", layer.in_features, layer.out_features, spatial if math.prod(spatial) == rows else (rows,))]


def _convolution(layer: _ConvNd, inputs: torch.Tensor, output: torch.Tensor, batch: int) -> list[LayerShape]:
    unbatched = inputs.ndim == len(layer.kernel_size) + 1
    spatial, padding = _padded(layer, tuple(inputs.shape[-len(layer.kernel_size) :]))
    shape = LayerShape(
        "transposed" if isinstance(layer, _ConvTransposeNd) else "conv",
        layer.in_channels,
        layer.out_channels,
        spatial,
        tuple(layer.kernel_size),
        tuple(layer.stride),
        padding,
        tuple(layer.dilation),
        groups=layer.groups,
    )
    if shape.kind == "transposed":
        # Not the layer's attribute: a call may ask for another output size.
        extra = tuple(int(size - least) for size, least in zip(output.shape[-len(spatial) :], shape.output, strict=True))
        shape = replace(shape, output_padding=extra)
    # frames folded into the batch are that many convolutions for one input
    return [shape] * (1 if unbatched else len(inputs) // batch)


def _padded(layer: _ConvNd, spatial: Sizes) -> tuple[Sizes, Sizes]:
    """Return the input size and padding. Like torch, what cannot be written as zeros on both sides is padded before the convolution."""
    sides = layer._reversed_padding_repeated_twice
    # torch lists the last dimension first, and in it the near side first: (left, right, top, bottom) for two dimensions.
    near, far = tuple(sides[-2::-2]), tuple(sides[::-2])
    if layer.padding_mode != "zeros":
        return tuple(map(sum, zip(spatial, near, far, strict=True))), (0,) * len(spatial)
    # Example: "same" padding of an even kernel is 1 in front and 2 behind. LayerShape has 1 on both sides, and an input that is one larger.
    both = tuple(map(min, near, far))
    return tuple(size + first + last - 2 * least for size, first, last, least in zip(spatial, near, far, both, strict=True)), both


def _convolved(size: int, kernel: int, stride: int, padding: int, dilation: int, _: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _deconvolved(size: int, kernel: int, stride: int, padding: int, dilation: int, extra: int) -> int:
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
