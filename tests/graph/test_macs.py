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


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Last(nn.Module):
    """The outputs of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Of(nn.Module):
    """A function of the input and a constant."""

    def __init__(self, function: object, *shape: int) -> None:
        super().__init__()
        self.function, self.constant = function, torch.randn(*shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.constant)  # type: ignore[operator]


SEQUENCES = {
    # (shape, module, closed formula); L tokens of E numbers in H heads take 2 H L L (E / H) for the products of attention
    "attention": ((1, 4, 197, 64), Attention(), 2 * 4 * 197 * 197 * 64),
    "encoder layer": (
        *((1, 17, 64), nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)),
        17 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * 17 * 17 * 64,
    ),
    "lstm": ((1, 10, 24), Last(nn.LSTM(24, 16, batch_first=True)), 10 * 4 * 16 * (24 + 16)),
    "lstm of two layers, both ways": (
        *((1, 10, 24), Last(nn.LSTM(24, 16, 2, batch_first=True, bidirectional=True))),
        2 * 10 * 4 * 16 * (24 + 16) + 2 * 10 * 4 * 16 * (32 + 16),
    ),
    "gru": ((1, 10, 24), Last(nn.GRU(24, 16, batch_first=True)), 10 * 3 * 16 * (24 + 16)),
    "matmul": ((1, 3, 4, 5), Of(torch.matmul, 5, 6), 3 * 4 * 5 * 6),
    "einsum": ((1, 3, 5), Of(lambda x, c: torch.einsum("bij,bjk->bik", x, c), 1, 5, 6), 3 * 5 * 6),
    "matrix times vector": ((1, 4, 5), Of(lambda x, c: torch.mv(x[0], c), 5), 4 * 5),
    "bilinear": ((1, 3, 5), Of(lambda x, c: nn.functional.bilinear(x, x, c), 7, 5, 5), 3 * 7 * 5 * 5),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_closed_formula_of_sequences(case: str) -> None:
    shape, module, expected = SEQUENCES[case]
    assert macs(Candidate(module.eval(), torch.randn(*shape))) == expected
    assert torch.backends.mha.get_fastpath_enabled()
