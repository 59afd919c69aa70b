from __future__ import annotations

import pytest
import torch

from optimize.loading.factory import load_factory
from tests.models.conftest import ROOT

make = load_factory(f"{ROOT}/models/cnn5.py:cnn5")


def _by_formula(widths: list[int], size: int, classes: int) -> int:
    convs = sum(9 * before * after + after + 2 * after for before, after in zip([3, *widths], widths, strict=False))
    return convs + ((size // 32) ** 2 * widths[-1] + 1) * 1024 + 1025 * classes


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({}, 29_606_914),
        ({"size": 128}, 12_305_410),
        ({"widths": [64, 116, 256, 128, 160]}, 8_848_446),
        ({"widths": [4, 5, 6, 7, 8], "size": 64, "num_classes": 3}, _by_formula([4, 5, 6, 7, 8], 64, 3)),
    ],
)
def test_parameter_count(args: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        module = make(**args)
    assert isinstance(module, torch.nn.Module)
    assert sum(parameter.numel() for parameter in module.parameters()) == count


def test_runs() -> None:
    module = make(size=64, widths=[4, 5, 6, 7, 8], num_classes=3)
    assert isinstance(module, torch.nn.Module)
    assert module.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
