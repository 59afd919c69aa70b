from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from optimize.loading.factory import load_factory
from optimize.loading.load import load_model
from tests.models.conftest import ROOT

FILE = f"{ROOT}/models/resnet_cifar.py"


def _by_formula(blocks: int, classes: int) -> int:
    total = 9 * 3 * 16 + 2 * 16 + 64 * classes + classes
    for before, after in ((16, 16), (16, 32), (32, 64)):
        total += 9 * before * after + 9 * after * after * (2 * blocks - 1) + 4 * after * blocks
    return total


@pytest.mark.parametrize(("factory", "blocks", "count"), [("resnet20", 3, 269_722), ("resnet56", 9, 853_018)])
def test_parameter_count(factory: str, blocks: int, count: int) -> None:
    with torch.device("meta"):
        module = load_factory(f"{FILE}:{factory}")()
    assert isinstance(module, nn.Module)
    assert sum(parameter.numel() for parameter in module.parameters()) == _by_formula(blocks, 10) == count


def test_shortcut_subsamples_and_pads_with_zeros() -> None:
    block = load_factory(f"{FILE}:Block")(2, 4, 2)
    assert isinstance(block, nn.Module)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)  # the residual branch gives zero, what remains is the shortcut
    x = torch.rand(1, 2, 4, 4)
    y = block.eval()(x)
    torch.testing.assert_close(y[:, 1:3], x[:, :, ::2, ::2])
    assert y.shape == (1, 4, 2, 2)
    assert not y[:, [0, 3]].any()


def test_loads_the_published_weights(shared: Path) -> None:
    candidate = load_model(shared / "models" / "cifar10_resnet20-12fca82f.th", arch=f"{FILE}:resnet20", input_shape=(3, 32, 32))
    assert candidate.parameters == 269_722
    raw = torch.load(shared / "models" / "cifar10_resnet20-12fca82f.th", weights_only=True, map_location="cpu")["state_dict"]
    torch.testing.assert_close(candidate.module.state_dict()["layer3.2.bn2.running_var"], raw["module.layer3.2.bn2.running_var"])
