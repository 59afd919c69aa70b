from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Floats


class Tiny(nn.Module):
    """Three convolutions, a residual sum, a transposed convolution, a linear layer; (N, 3, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.tail = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 8 * 8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + torch.relu(self.body(x)))
        x = torch.relu(self.tail(torch.relu(self.up(x))))
        return self.head(x.flatten(1))


@pytest.fixture(scope="session")
def candidate() -> Candidate:
    torch.manual_seed(0)
    return Candidate(Tiny().eval(), torch.randn(1, 3, 8, 8))


@pytest.fixture(scope="session")
def onnx_file(candidate: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(candidate, path)
    return path


@pytest.fixture(scope="session")
def inputs() -> Floats:
    """(40, 3, 8, 8): more than one chunk of a session."""
    return np.random.default_rng(1).standard_normal((40, 3, 8, 8), dtype=np.float32)
