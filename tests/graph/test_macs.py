from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.macs import macs


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.conv(x)))


# (N, 4, 12, 10) in. Convolution: in / groups * out * kernel area * output positions; transposed: the same with input positions.
CASES = {
    "conv": (nn.Conv2d(4, 6, 3), 4 * 6 * 9 * (10 * 8)),
    "stride": (nn.Conv2d(4, 6, 3, stride=2, padding=1), 4 * 6 * 9 * (6 * 5)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), 4 * 6 * 9 * (8 * 6)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), 2 * 6 * 9 * (10 * 8)),
    "depthwise": (nn.Conv2d(4, 8, (5, 3), groups=4, padding=(2, 1)), 1 * 8 * 15 * (12 * 10)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), 4 * 6 * 9 * (12 * 10)),
    "transposed groups": (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), 4 * 3 * 4 * (12 * 10)),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(480, 7)), 480 * 7),
    "linear on the last axis": (nn.Linear(10, 7, bias=False), 4 * 12 * 10 * 7),
    "reused conv": (Twice(), 2 * 4 * 4 * 9 * (12 * 10)),
    "nothing to multiply": (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_formula(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    module, expected = CASES[case]
    assert macs(Candidate(module.eval(), torch.randn(1, 4, 12, 10))) == expected
    assert capfd.readouterr() == ("", "")
