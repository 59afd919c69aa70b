"""U-Net (Ronneberger et al., arXiv:1505.04597) with batch norms and padded convolutions: the mask is as large as the image.

On the way down every level has two 3x3 convolutions and halves the image by a max-pool; on the way up a 2x2 transposed convolution doubles
it again, and the encoder's features of that level are put beside it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU: (N, before, H, W) -> (N, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One level's features."""
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


class UNet(nn.Module):
    """(N, channels, H, W) -> (N, num_classes, H, W) logits; H and W must be divisible by 2 ** depth.

    Args:
        channels: of the image.
        num_classes: outputs; one for a single foreground, whose mask is where the logit is above 0.
        width: channels of the first level; each level below has twice as many as the one above.
        depth: how often the image is halved.
    """

    def __init__(self, channels: int = 3, num_classes: int = 1, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(DoubleConv(before, after) for before, after in zip((channels, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * each, each, 2, stride=2) for each in widths[:-1])
        self.decoder = nn.ModuleList(DoubleConv(2 * each, each) for each in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, num_classes, H, W)."""
        skips = []
        for level, encode in enumerate(self.encoder):
            x = encode(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, decode, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = decode(torch.cat([up(x), skip], 1))
        logits: torch.Tensor = self.head(x)
        return logits


def unet(channels: int = 3, num_classes: int = 1, width: int = 32, depth: int = 4) -> UNet:
    """U-Net; 7,763,041 parameters with three channels, one output, width 32 and depth 4."""
    return UNet(channels, num_classes, width, depth)
