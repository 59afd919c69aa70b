"""CNN5: five convolutions, each halving the image, and a two-layer head; about 9 in 10 of its parameters sit in the head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class CNN5(nn.Module):
    """(N, 3, size, size) -> (N, num_classes).

    Args:
        num_classes: outputs.
        size: height and width of the input, at least 32.
        widths: channels of the five convolutions.
    """

    def __init__(self, num_classes: int = 2, size: int = 224, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        blocks = [_block(before, after) for before, after in zip((3, *widths), widths, strict=False)]
        self.features = nn.Sequential(*blocks)
        side = size // 2 ** len(blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(side * side * widths[-1], 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, num_classes)."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


def cnn5(num_classes: int = 2, size: int = 224, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> CNN5:
    """CNN5; 29,606,914 parameters at 224x224 with two classes."""
    return CNN5(num_classes, size, widths)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
