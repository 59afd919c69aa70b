from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from optimize.data.dataset import Preprocessing, load_data
from optimize.loading.factory import load_factory
from optimize.loading.load import load_model
from tests.models.conftest import ROOT

FILE = f"{ROOT}/models/vgg.py"


def _meta(factory: str, **args: object) -> nn.Module:
    with torch.device("meta"):
        module = load_factory(f"{FILE}:{factory}")(**args)
    assert isinstance(module, nn.Module)
    return module


@pytest.mark.parametrize(
    ("factory", "args", "count"),
    [
        ("vgg16", {}, 138_357_544),  # table 2 of the paper, with 1000 classes
        ("vgg19", {}, 143_667_240),
        ("vgg16_bn", {"num_classes": 2}, 134_277_186),
        ("vgg19", {"num_classes": 8}, 139_603_016),
        ("vgg19_bn", {"num_classes": 8}, 139_603_016 + 2 * (2 * 64 + 2 * 128 + 4 * 256 + 8 * 512)),
        ("vgg16_compact", {}, 3_684_328),
        # 16 convolutions of 3x3 without bias, two numbers a channel for the batch norms, and the head
        (
            "vgg19_compact",
            {},
            9 * (3 * 64 + 64**2 + 64 * 128 + 128**2 + 128 * 256 + 3 * 256**2 + 256 * 512 + 7 * 512**2)
            + 2 * (2 * 64 + 2 * 128 + 4 * 256 + 8 * 512)
            + (512 + 1) * 8,
        ),
    ],
)
def test_parameter_count(factory: str, args: dict[str, object], count: int) -> None:
    assert sum(parameter.numel() for parameter in _meta(factory, **args).parameters()) == count


def test_names_are_those_of_published_weights() -> None:
    names = list(_meta("vgg16_bn").state_dict())
    assert [name for name in names if name.endswith("weight")][:3] == ["features.0.weight", "features.1.weight", "features.3.weight"]
    assert {"features.40.weight", "features.41.running_var", "classifier.0.weight", "classifier.3.bias", "classifier.6.bias"} <= set(names)
    convs = [name for name, module in _meta("vgg19").named_modules() if isinstance(module, nn.Conv2d)]
    assert (len(convs), convs[-1]) == (16, "features.34")


def test_any_size_from_32_fits() -> None:
    from_file = load_factory(f"{FILE}:VGG")(((1, 2), (1, 3)), 5)
    assert isinstance(from_file, nn.Module)
    assert from_file.eval()(torch.zeros(2, 3, 33, 47)).shape == (2, 5)
    compact = load_factory(f"{FILE}:vgg19_compact")(num_classes=5, width=0.0625)
    assert isinstance(compact, nn.Module)
    assert compact.eval()(torch.zeros(2, 3, 64, 47)).shape == (2, 5)


def test_reference_weights_reach_their_published_accuracy(shared: Path) -> None:
    candidate = load_model(shared / "models" / "vgg16_half_blood28.safetensors", arch=f"{FILE}:vgg16_compact", input_shape=(3, 32, 32))
    data = load_data(
        shared / "bloodmnist_rebuilt_28.npz",
        preprocessing=Preprocessing((0.79616, 0.65997, 0.69649), (0.22092, 0.25112, 0.09444), 2),
        input_shape=(3, 32, 32),
        num_classes=8,
        drop_overlap=True,
    )
    right = candidate.predict(data.test.inputs()).argmax(axis=1) == data.test.labels
    assert round(100 * float(right.mean()), 2) == 96.20
