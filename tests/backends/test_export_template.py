"""A file that was filled computes what torch computes; where it cannot, the network is traced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends import export_template as module
from optimize.backends import onnx_target_names
from optimize.backends.export import export_onnx
from optimize.backends.export_template import Exporter
from optimize.candidate import Candidate


class Block(nn.Module):
    """A grouped convolution, a transposed one, each with its batch norm, a norm that stands alone, a flattening and linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, width, 3, groups=width)
        self.up, self.up_norm = nn.ConvTranspose2d(width, width, 2, 2), nn.BatchNorm2d(width)
        self.alone = nn.BatchNorm2d(width)
        self.wide, self.wide_norm, self.head = nn.Linear(64 * width, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.deep(torch.relu(self.norm(self.first(inputs))))
        x = self.alone(torch.relu(self.up_norm(self.up(x))))
        return torch.Tensor(self.head(torch.relu(self.wide_norm(self.wide(torch.flatten(x, 1))))))


class Shuffle(nn.Module):
    """Channels are split by a number that is written into the file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.first(inputs)
        return torch.Tensor(self.last(x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)).flatten(1))


def candidate(network: nn.Module, seed: int) -> Candidate:
    """Every batch norm has statistics of its own: folding it changes the weights."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 2)
    return Candidate(network.eval(), torch.randn(1, 3, 8, 8))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """The candidates that were traced."""
    seen: list[Candidate] = []

    def trace(candidate: Candidate, path: Path, inputs: np.ndarray | None = None) -> object:
        seen.append(candidate)
        return export_onnx(candidate, path, inputs)

    monkeypatch.setattr(module, "export_onnx", trace)
    return seen


def test_networks_of_other_widths_are_filled_in(tmp_path: Path, traced: list[Candidate], any_target: str) -> None:
    """The runtime runs what was filled, and torch is the oracle."""
    from optimize.backends import backend

    exporter, first = Exporter(), candidate(Block(8), 0)
    exporter.fill(first, tmp_path / "model.onnx")
    runtime = backend(onnx_target_names()[0] if any_target not in onnx_target_names() else any_target)
    for width in (5, 3):
        other = candidate(Block(width), width)
        exporter.fill(other, tmp_path / "model.onnx")
        cases = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)
        with runtime.build(runtime.convert(tmp_path / "model.onnx", tmp_path / str(width), "f32"), threads=1) as session:
            np.testing.assert_allclose(session.predict(cases), other.predict(cases), rtol=1e-3, atol=1e-4)
    assert traced == [first]


def test_a_file_that_differs_from_torch_is_traced_and_its_topology_ever_after(
    tmp_path: Path, traced: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [candidate(Block(width), 0) for width in (4, 3, 2)]
    exporter = Exporter()
    exporter.fill(networks[0], tmp_path / "model.onnx")
    # as if the folding of batch norms had been misunderstood
    monkeypatch.setattr(module, "_folded", lambda network, *names: 2 * network.first.weight.detach().numpy())
    for network in networks[1:]:
        exporter.fill(network, tmp_path / "model.onnx")
    assert traced == networks


def test_numbers_of_channels_in_a_file_are_not_filled(tmp_path: Path, traced: list[Candidate]) -> None:
    networks, exporter = [candidate(Shuffle(width), 0) for width in (8, 6)], Exporter()
    for network in networks:
        exporter.fill(network, tmp_path / "model.onnx")
    assert traced == networks


def test_the_original_is_traced_once(tmp_path: Path, traced: list[Candidate]) -> None:
    original, exporter = candidate(Block(3), 0), Exporter()
    parities = [exporter.export(original, tmp_path / name) for name in ("a.onnx", "b.onnx")]
    assert traced == [original]
    assert parities[0] is parities[1]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
