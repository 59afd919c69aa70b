"""ResNet for 32x32 images (He et al., arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

Where a stage begins, its shortcut has no parameters (option A): every second pixel is taken and the missing channels are zeros, half
of them before and half after the ones there are.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut: (N, before, H, W) -> (N, after, H/stride, W/stride)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride = stride
        self.side = (after - before) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One residual step."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.side:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.side, self.side))
        return functional.relu(x + y)


class ResNet(nn.Module):
    """(N, 3, 32, 32) -> (N, num_classes).

    Args:
        blocks: residual blocks per stage; the depth is 6 * blocks + 2.
        num_classes: outputs.
    """

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, num_classes)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def resnet20(num_classes: int = 10) -> ResNet:
    """ResNet20; 269,722 parameters with ten classes."""
    return ResNet(3, num_classes)


def resnet56(num_classes: int = 10) -> ResNet:
    """ResNet56; 853,018 parameters with ten classes."""
    return ResNet(9, num_classes)


def _stage(before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(before, after, stride), *(Block(after, after, 1) for _ in range(blocks - 1)))
