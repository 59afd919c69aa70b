"""RAAGR2-Net: a U-Net with residual atrous pyramids, attention gates and recurrent convolutions, for brain tumours in MRI slices.

Four variants: "base", and three that share the 3x3 depthwise kernels of a pyramid between its dilations: "shared" (one kernel for all
four), "paired" (one for dilations 1 and 3, one for 6 and 9), "encoder-decoder" (as "shared", in the decoder too; nothing is shared between
encoder and decoder, in spite of the name).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import nn

Variant: TypeAlias = Literal["base", "shared", "paired", "encoder-decoder"]

DILATIONS = (1, 3, 6, 9)
WIDTHS = (32, 64, 128, 256, 512)


class RAAGR2(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W) in (0, 1); H and W are multiples of 2 ** (stages - 1).

    Args:
        inputs: channels of the input.
        outputs: classes, each with a sigmoid of its own.
        widths: channels of each encoder stage; for "base" each a multiple of the one before, the first of `inputs`.
        variant: see above.
    """

    def __init__(self, inputs: int = 4, outputs: int = 5, widths: Sequence[int] = WIDTHS, variant: Variant = "base") -> None:
        super().__init__()
        kernels = 2 if variant == "paired" else 1
        dead = variant == "encoder-decoder"
        steps = list(zip((inputs, *widths), widths, strict=False))
        self.encoder = nn.ModuleList(Pyramid(i, o) if variant == "base" else SharedPyramid(i, o, kernels, dead=dead) for i, o in steps)
        self.pool = nn.MaxPool2d(2)
        rising = [(after, before) for before, after in reversed(steps[1:])]
        self.up = nn.ModuleList(_up(i, o) for i, o in rising)
        self.gate = nn.ModuleList(AttentionGate(o, o, o // 2) for _, o in rising)
        self.decoder = nn.ModuleList(SharedPyramid(2 * o, o, kernels) if dead else RecurrentBlock(2 * o, o) for _, o in rising)
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probability of every class at every pixel."""
        skips = []
        for place, stage in enumerate(self.encoder):
            x = stage(self.pool(x) if place else x)
            skips.append(x)
        for up, gate, decode, skip in zip(self.up, self.gate, self.decoder, reversed(skips[:-1]), strict=True):
            x = up(x)
            x = decode(torch.cat([gate(x, skip), x], 1))
        return torch.sigmoid(self.head(x))


class Pyramid(nn.Module):
    """Four dilations side by side, (N, before, H, W) -> (N, after, H, W); two depthwise and two dense, fused with the input."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(_atrous(before, after, dilation, separable=dilation < DILATIONS[2]) for dilation in DILATIONS)
        self.second = nn.ModuleList(_pointwise(after, after) for _ in DILATIONS)
        self.fuse = _pointwise(4 * after + before, after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each branch is its first stage plus what the second makes of it."""
        firsts = [first(x) for first in self.first]
        branches = [made + second(made) for made, second in zip(firsts, self.second, strict=True)]
        fused: torch.Tensor = self.fuse(torch.cat([*branches, x], 1))
        return fused


class SharedPyramid(nn.Module):
    """The pyramid whose depthwise convolutions share their kernels, (N, before, H, W) -> (N, after, H, W).

    Args:
        before: channels in.
        after: channels out.
        kernels: 1 for all dilations, 2 for pairs of them.
        dead: hold another kernel that is never used, as the published encoder does.
    """

    def __init__(self, before: int, after: int, kernels: int, *, dead: bool = False) -> None:
        super().__init__()
        self.depthwise = nn.ModuleList(_depthwise(before, before, dilation) for dilation in DILATIONS)
        for place, layer in enumerate(self.depthwise):
            head = self.depthwise[place * kernels // 4 * (4 // kernels)]
            layer.weight, layer.bias = head.weight, head.bias
            nn.init.normal_(head.weight)  # type: ignore[arg-type]
            nn.init.normal_(head.bias)  # type: ignore[arg-type]
        self.mix = nn.ModuleList(_pointwise(before, after) for _ in DILATIONS)
        self.project = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for _ in DILATIONS)
        self.fuse = _pointwise(4 * after + before, after, bias=False)
        self.unused = _depthwise(before, before, 1) if dead else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each branch is a pointwise convolution with activation plus a plain one, of the same depthwise output."""
        taken = [layer(x) for layer in self.depthwise]
        branches = [mix(each) + project(each) for each, mix, project in zip(taken, self.mix, self.project, strict=True)]
        fused: torch.Tensor = self.fuse(torch.cat([*branches, x], 1))
        return fused


class AttentionGate(nn.Module):
    """A skip connection weighed by what comes from below, for every channel and pixel.

    Args:
        gate: channels from below.
        skip: channels of the skip connection.
        between: channels inside.
    """

    def __init__(self, gate: int, skip: int, between: int) -> None:
        super().__init__()
        self.of_gate = nn.Sequential(nn.Conv2d(gate, between, 1), nn.BatchNorm2d(between))
        self.of_skip = nn.Sequential(nn.Conv2d(skip, between, 1), nn.BatchNorm2d(between))
        self.weigh = nn.Sequential(nn.Conv2d(between, skip, 1), nn.BatchNorm2d(skip), nn.Sigmoid())

    def forward(self, gate: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(N, gate, H, W) and (N, skip, H, W) -> (N, skip, H, W)."""
        weights: torch.Tensor = self.weigh(torch.relu(self.of_gate(gate) + self.of_skip(skip)))
        return skip * weights


class RecurrentBlock(nn.Module):
    """Two recurrent units around a shortcut, (N, before, H, W) -> (N, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(before, after, 1)
        self.drop = nn.Dropout(0.2)
        self.units = nn.Sequential(Recurrent(after), Recurrent(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One residual step."""
        x = self.drop(self.enter(x))
        made: torch.Tensor = x + self.units(x)
        return made


class Recurrent(nn.Module):
    """One depthwise separable convolution called three times, with the same weights and the same norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.step = nn.Sequential(_depthwise(channels, channels, 1), *_pointwise(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each call but the first reads the input plus the last call's output."""
        made: torch.Tensor = self.step(x)
        for _ in range(2):
            made = self.step(x + made)
        return made


def raagr2(inputs: int = 4, outputs: int = 5, width: float = 1.0, variant: Variant = "base") -> RAAGR2:
    """RAAGR2-Net; 8,911,301 parameters, or 5,046,221 "shared", 5,051,061 "paired", 6,621,141 "encoder-decoder"."""
    return RAAGR2(inputs, outputs, [int(channels * width) for channels in WIDTHS], variant)


def _atrous(before: int, after: int, dilation: int, *, separable: bool) -> nn.Sequential:
    if separable:
        return nn.Sequential(_depthwise(before, after, dilation), *_pointwise(after, after))
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(after), nn.ReLU())


def _depthwise(before: int, after: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, groups=before)


def _pointwise(before: int, after: int, *, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=bias), nn.BatchNorm2d(after), nn.ReLU())


def _up(before: int, after: int) -> nn.Sequential:
    grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(grow, nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
