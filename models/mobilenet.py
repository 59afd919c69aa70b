"""MobileNet (Howard et al., arXiv:1704.04861) for 32x32 images: depthwise convolutions, each followed by a pointwise one."""

from __future__ import annotations

from torch import nn

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""(channels, stride) of each block; the first convolution keeps the 32x32 pixels, so the last map has 2x2."""


def mobilenet(num_classes: int = 10, width: float = 1.0) -> nn.Sequential:
    """(N, 3, 32, 32) -> (N, num_classes); 3,217,226 parameters with ten classes.

    Args:
        num_classes: outputs.
        width: factor on every number of channels.
    """
    before = int(32 * width)
    layers = [_normed(nn.Conv2d(3, before, 3, padding=1, bias=False))]
    for channels, stride in BLOCKS:
        after = int(channels * width)
        layers.append(_normed(nn.Conv2d(before, before, 3, stride=stride, padding=1, groups=before, bias=False)))
        layers.append(_normed(nn.Conv2d(before, after, 1, bias=False)))
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


def _normed(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())
