from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

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


class Applied(nn.Module):
    def __init__(self, operation: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: torch.Tensor) -> Any:
        return self.operation(x)


class Attention(nn.Module):
    def __init__(self, *, need_weights: bool) -> None:
        super().__init__()
        self.attention, self.need_weights = nn.MultiheadAttention(32, 4, batch_first=True), need_weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attention(x, x, x, need_weights=self.need_weights)[0]
        return output


class Recurrent(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)[0]
        return output


def attend(x: torch.Tensor, **settings: Any) -> torch.Tensor:
    heads = x.unflatten(-1, (4, -1)).transpose(1, 2)
    return functional.scaled_dot_product_attention(heads, heads, heads, **settings)


# (1, n, d) in, here n = 10 tokens of d = 32 channels. Attention takes 2 n^2 d whatever the number of heads, its projections 4 n d^2.
PROJECTIONS, ATTENTION = 4 * 10 * 32 * 32, 2 * 10 * 10 * 32
GATES = 10 * 16 * (32 + 16)  # for each of 10 steps, 16 units read 32 inputs and 16 states
TOKENS = {
    "attention": (Applied(attend), ATTENTION),
    "attention with a mask": (Applied(lambda x: attend(x, attn_mask=torch.zeros(10, 10))), ATTENTION),
    "causal attention": (Applied(lambda x: attend(x, is_causal=True)), ATTENTION),  # the products exist, though half of them are not used
    "values of another width": (
        Applied(lambda x: functional.scaled_dot_product_attention(x, x, torch.cat([x, x], -1))),
        10 * 10 * 32 + 10 * 10 * 64,
    ),
    "multi-head attention": (Attention(need_weights=False), PROJECTIONS + ATTENTION),
    "multi-head attention with weights": (Attention(need_weights=True), PROJECTIONS + ATTENTION),
    "encoder layer": (nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), PROJECTIONS + ATTENTION + 2 * 10 * 32 * 48),
    "encoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2, enable_nested_tensor=False),
        2 * (PROJECTIONS + ATTENTION + 2 * 10 * 32 * 48),
    ),
    "matmul": (Applied(lambda x: x @ x.mT), 10 * 10 * 32),
    "bmm": (Applied(lambda x: torch.bmm(x.mT, x)), 10 * 32 * 32),
    "baddbmm": (Applied(lambda x: torch.baddbmm(torch.zeros(1, 10, 10), x, x.mT)), 10 * 10 * 32),
    "einsum": (Applied(lambda x: torch.einsum("bnd,bmd->bnm", x, x)), 10 * 10 * 32),
    "outer product": (Applied(lambda x: torch.einsum("bn,bm->bnm", x[:, :, 0], x[:, :, 1])), 0),  # nothing is added up
    "matrix and vector": (Applied(lambda x: (x[0] @ x[0, 0])[None]), 10 * 32),
    "two vectors": (Applied(lambda x: (x[0, 0] @ x[0, 1]).view(1, 1)), 32),
    "linear": (nn.Linear(32, 7), 10 * 32 * 7),
    "conv1d": (nn.Conv1d(10, 6, 3, groups=2), 5 * 6 * 3 * 30),
    "transposed conv1d": (nn.ConvTranspose1d(10, 6, 3, stride=2), 10 * 6 * 3 * 32),
    "conv3d": (nn.Sequential(nn.Unflatten(1, (2, 5, 1)), nn.Conv3d(2, 4, (3, 1, 5))), 2 * 4 * 15 * 3 * 28),
    "rnn": (Recurrent(nn.RNN(32, 16, batch_first=True)), GATES),
    "gru": (Recurrent(nn.GRU(32, 16, batch_first=True)), 3 * GATES),
    "lstm": (Recurrent(nn.LSTM(32, 16, batch_first=True)), 4 * GATES),
    "lstm of two layers in both directions": (
        Recurrent(nn.LSTM(32, 16, 2, batch_first=True, bidirectional=True)),
        2 * 4 * GATES + 2 * 4 * 10 * 16 * (2 * 16 + 16),
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_closed_formula_on_tokens(case: str) -> None:
    module, expected = TOKENS[case]
    assert macs(Candidate(module.eval(), torch.randn(1, 10, 32))) == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_attention_of_the_usual_size() -> None:
    heads = Applied(lambda x: functional.scaled_dot_product_attention(x, x, x))
    assert macs(Candidate(heads.eval(), torch.randn(1, 4, 197, 64))) == 2 * 4 * 197 * 197 * 64 == 19_870_208


def test_a_small_vision_transformer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(1, 32, 4, 4), nn.Linear(32, 8)
            self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))
            return output

    # patches 16 x 32 for each of 64 positions, the encoder layer of the module's example, and the head
    assert macs(Candidate(Net().eval(), torch.randn(1, 1, 32, 32))) == 64 * 16 * 32 + 786_432 + 32 * 8 == 819_456
