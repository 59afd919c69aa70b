"""Networks that are no image classifier of a library: signals, tables, sequences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Recurrent(nn.Module):
    """An LSTM on top of convolutions, for a signal (N, 2, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv1d(2, 16, 5, 2, 2), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 24, 5, 2, 2), nn.ReLU())
        self.recurrent, self.head = nn.LSTM(24, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """(N, 2, 128) -> (N, 4)."""
        return torch.as_tensor(self.head(self.recurrent(self.convolutions(signal).transpose(1, 2))[0][:, -1]))


class Scaled(nn.Module):
    """Divides by its largest value, and multiplies by one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.scale = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3), nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, 16, 16) -> (N, 5)."""
        made = torch.relu(self.first(images)) * self.scale
        return torch.as_tensor(self.head(torch.relu(self.second(made)).mean((2, 3))))


def _signal() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Conv1d(12, 32, 7, 2, 3), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 7, 2, 3), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 5)), (12, 500)


def _table() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Flatten(), nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    return nn.Sequential(*layers), (1, 30)


def _volume() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Conv3d(1, 16, 3, 2, 1), nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3)), (1, 16, 16, 16)


ODD: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "ecg_1d": _signal,
    "tabular_mlp": _table,
    "volume_3d": _volume,
    "conv_lstm": lambda: (Recurrent(), (2, 128)),
    "scalar_parameter": lambda: (Scaled(), (3, 16, 16)),
}
