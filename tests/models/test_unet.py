from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.data.dataset import Preprocessing, load_data
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.loading.factory import load_factory
from optimize.loading.load import load_model
from tests.models.conftest import ROOT

FILE = f"{ROOT}/models/unet.py"
# All of the brain scans take a minute; these two patients of the test split have 0.9200 and 0.8535.
PATIENTS = ("TCGA_CS_4942_19970222", "TCGA_CS_6669_20020102")


def _unet(**settings: int) -> nn.Module:
    module = load_factory(f"{FILE}:unet")(**settings)
    assert isinstance(module, nn.Module)
    return module


def _by_formula(channels: int, classes: int, width: int, depth: int) -> int:
    """Weights and biases; a double convolution has two norms of two parameters per channel."""

    def double(before: int, after: int) -> int:
        return 9 * before * after + 9 * after * after + 4 * after

    widths = [width * 2**level for level in range(depth + 1)]
    down = sum(double(*pair) for pair in zip((channels, *widths), widths, strict=False))
    up = sum(4 * 2 * each * each + each + double(2 * each, each) for each in widths[:-1])
    return down + up + width * classes + classes


def _macs_by_formula(side: int, channels: int, classes: int, width: int, depth: int) -> int:
    total, before = side * side * width * classes, channels
    for level in range(depth + 1):
        each, pixels = width * 2**level, (side // 2**level) ** 2
        total += 9 * pixels * (before * each + each * each)
        if level < depth:
            # a 2x2 transposed convolution of stride 2 reads every pixel of the level below once
            total += pixels // 4 * 4 * 2 * each * each + 9 * pixels * (2 * each * each + each * each)
        before = each
    return total


@pytest.mark.parametrize(("settings", "count"), [((3, 1, 32, 4), 7_763_041), ((1, 4, 8, 2), None), ((2, 3, 5, 1), None)])
def test_parameter_count(settings: tuple[int, int, int, int], count: int | None) -> None:
    channels, classes, width, depth = settings
    with torch.device("meta"):
        module = _unet(channels=channels, num_classes=classes, width=width, depth=depth)
    found = sum(parameter.numel() for parameter in module.parameters())
    assert found == _by_formula(*settings)
    assert count in (None, found)


def test_work() -> None:
    small = Candidate(_unet(width=4, depth=2).eval(), torch.zeros(1, 3, 16, 16))
    assert macs(small) == _macs_by_formula(16, 3, 1, 4, 2)
    assert round(_macs_by_formula(128, 3, 1, 32, 4) / 1e9, 3) == 3.018


@pytest.mark.parametrize("depth", [1, 3])
def test_any_size_divisible_by_two_to_the_depth(depth: int) -> None:
    module = _unet(channels=2, num_classes=3, width=4, depth=depth).eval()
    for height, width in ((2**depth, 2**depth), (3 * 2**depth, 5 * 2**depth)):
        assert module(torch.zeros(2, 2, height, width)).shape == (2, 3, height, width)


def test_loads_the_reference_weights(shared: Path) -> None:
    candidate = load_model(shared / "models" / "unet32_lgg128.safetensors", arch=f"{FILE}:unet", input_shape=(3, 128, 128))
    assert candidate.parameters == 7_763_041
    assert macs(candidate) == _macs_by_formula(128, 3, 1, 32, 4)
    scans = {"num_classes": 1, "mask_shape": (128, 128), "input_shape": (3, 128, 128), "preprocessing": Preprocessing(standardize="image")}
    test = load_data(shared / "lgg_mri_seg_128.npz", **scans).test
    assert test.patients is not None
    some = test.take(np.flatnonzero(np.isin(test.patients, PATIENTS) & test.labels.any((1, 2, 3)))[::3])
    found = score_split(candidate.predict, some, ("tumour",), "").overall
    assert found == pytest.approx(0.88, abs=0.05)
