"""TorchScript files: rebuilt by way of ONNX, and only when their author is trusted."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import optimize as opt
from optimize.errors import InputError
from optimize.graph.trace import trace
from optimize.loading.file_network import FileNetwork


class Branches(nn.Module):
    """A loop that tracing would unroll and scripting keeps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = 0
        while count < x.shape[2]:
            x = x * 0.5 + 0.1
            count += 1
        return x.flatten(1)[:, :4]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)]
    nn.init.uniform_(layers[1].running_var, 0.5, 2)
    return nn.Sequential(*layers).eval()


def saved(module: nn.Module, path: Path, *, traced: bool) -> Path:
    with warnings.catch_warnings(action="ignore"):
        script = torch.jit.trace(module, torch.randn(1, 3, 8, 8)) if traced else torch.jit.script(module)
        script.save(str(path))
    return path


@pytest.mark.parametrize("traced", [True, False])
def test_it_computes_the_same_for_any_batch_and_can_be_cut(traced: bool, tmp_path: Path) -> None:
    candidate = opt.load_model(saved(net(), tmp_path / "net.pt", traced=traced), input_shape=(3, 8, 8), trust_pickle=True)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 8, 8), np.float32)
    np.testing.assert_allclose(candidate.predict(inputs), net()(torch.from_numpy(inputs)).detach().numpy(), atol=1e-5)
    assert [group.size for group in trace(candidate).groups] == [8]
    assert candidate.parameters == sum(parameter.numel() for parameter in net().parameters())


def test_what_is_no_plain_layer_is_run_as_it_is(tmp_path: Path) -> None:
    candidate = opt.load_model(saved(Branches(), tmp_path / "net.pt", traced=False), input_shape=(3, 8, 8), trust_pickle=True)
    assert isinstance(candidate.module, FileNetwork)
    assert "the network of net.pt is compiled as it is, and nothing can be cut out of it" in candidate.notes[0]
    inputs = np.random.default_rng(0).standard_normal((5, 3, 8, 8), np.float32)
    np.testing.assert_allclose(candidate.predict(inputs), Branches()(torch.from_numpy(inputs)).numpy(), atol=1e-6)


def test_it_needs_the_users_word_a_shape_and_a_whole_file(tmp_path: Path) -> None:
    path = saved(net(), tmp_path / "net.pt", traced=True)
    with pytest.raises(InputError, match=r"is TorchScript, which is a program, and torch runs it: .* pass --trust-pickle"):
        opt.load_model(path, input_shape=(3, 8, 8))
    with pytest.raises(InputError, match="is TorchScript, which does not say it: pass --input C,H,W"):
        opt.load_model(path, trust_pickle=True)
    with pytest.raises(InputError, match=r"cannot be rebuilt \(") as caught:
        opt.load_model(path, input_shape=(5, 8, 8), trust_pickle=True)
    assert "\n" not in str(caught.value)
