"""ResNet50 has the published numbers of parameters and operations."""

from __future__ import annotations

import torch

from models.resnet import resnet50
from optimize.candidate import Candidate
from optimize.graph.macs import macs


def test_resnet50_is_the_published_one() -> None:
    net = resnet50().eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == 25_557_032
    # 4.09 billion multiply-accumulates at 224 pixels, the figure that is quoted everywhere
    assert round(macs(Candidate(net, torch.zeros(1, 3, 224, 224))) / 1e9, 2) == 4.09
