"""ResNet for large images (He et al., arXiv:1512.03385, table 1), with bottleneck blocks and the stride in the 3x3 convolution.

The names of the layers are those of the usual implementation, so that its weights fit.
"""

from __future__ import annotations

import torch
from torch import nn


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut: (N, before, H, W) -> (N, 4 * inside, H / stride, W / stride)."""

    def __init__(self, before: int, inside: int, stride: int) -> None:
        super().__init__()
        after = 4 * inside
        self.conv1 = nn.Conv2d(before, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))
        self.downsample = shortcut if stride != 1 or before != after else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One residual step."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu(y)
        return out


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, num_classes), for images of 224 pixels or about that.

    Args:
        blocks: blocks of each of the four stages.
        num_classes: outputs.
    """

    def __init__(self, blocks: tuple[int, int, int, int], num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                *(
                    Bottleneck((64 if stage == 0 else 128 << stage) if k == 0 else 256 << stage, 64 << stage, 2 if stage and k == 0 else 1)
                    for k in range(count)
                )
            )
            for stage, count in enumerate(blocks)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet50; 25,557,032 parameters with 1,000 classes."""
    return ResNet((3, 4, 6, 3), num_classes)
