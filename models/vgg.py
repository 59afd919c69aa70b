"""VGG (Simonyan & Zisserman, arXiv:1409.1556), in two forms.

`vgg16`, `vgg16_bn`, `vgg19`, `vgg19_bn`: the original with its three-layer head, parameters named `features.*` and `classifier.*`.
`vgg16_compact`, `vgg19_compact`: one flat `nn.Sequential` for small inputs, convolutions without bias, a single linear head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import nn

Plan: TypeAlias = Sequence[tuple[int, int]]
"""(convolutions, channels) of each stage; a 2x2 max-pool ends every stage."""

VGG16: Plan = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
VGG19: Plan = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


class VGG(nn.Module):
    """(N, 3, H, W) -> (N, num_classes); the last feature map is averaged to 7x7, so any size from 32 fits.

    Args:
        plan: the stages.
        num_classes: outputs.
        batch_norm: a batch norm after every convolution.
        dropout: share of the head's activations dropped in training.
    """

    def __init__(self, plan: Plan, num_classes: int = 1000, *, batch_norm: bool = True, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stages(plan, bias=True, batch_norm=batch_norm))
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(plan[-1][1] * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, num_classes)."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def vgg16(num_classes: int = 1000) -> VGG:
    """VGG16 without batch norm."""
    return VGG(VGG16, num_classes, batch_norm=False)


def vgg16_bn(num_classes: int = 1000) -> VGG:
    """VGG16 with batch norm; 134,277,186 parameters with two classes."""
    return VGG(VGG16, num_classes)


def vgg19(num_classes: int = 1000) -> VGG:
    """VGG19 without batch norm; 139,603,016 parameters with eight classes."""
    return VGG(VGG19, num_classes, batch_norm=False)


def vgg19_bn(num_classes: int = 1000) -> VGG:
    """VGG19 with batch norm."""
    return VGG(VGG19, num_classes)


def vgg16_compact(num_classes: int = 8, width: float = 0.5) -> nn.Sequential:
    """VGG16 for 32x32 inputs at a share of its width: (N, 3, 32, 32) -> (N, num_classes)."""
    plan = [(convolutions, int(channels * width)) for convolutions, channels in VGG16]
    return nn.Sequential(*_stages(plan, bias=False, batch_norm=True), nn.Flatten(), nn.Linear(plan[-1][1], num_classes))


def vgg19_compact(num_classes: int = 8, width: float = 1.0) -> nn.Sequential:
    """VGG19 for small inputs, whose last feature map is averaged: (N, 3, H, W) -> (N, num_classes), H and W of 32 or more.

    20,033,992 parameters at full width with eight classes.
    """
    plan = [(convolutions, int(channels * width)) for convolutions, channels in VGG19]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(plan[-1][1], num_classes))
    return nn.Sequential(*_stages(plan, bias=False, batch_norm=True), *head)


def _stages(plan: Plan, *, bias: bool, batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for convolutions, channels in plan:
        for _ in range(convolutions):
            layers.append(nn.Conv2d(before, channels, 3, padding=1, bias=bias))
            layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return layers
