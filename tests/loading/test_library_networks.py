"""Networks that a library builds, by a library made here; and the real ones, where they are installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import optimize as opt
from optimize.errors import InputError
from optimize.loading.libraries import library_names, of_library


def tiny(num_classes: int = 1000, in_chans: int = 3, pretrained: bool = False) -> nn.Module:
    assert not pretrained
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library in the place of timm."""
    made = ModuleType("timm")
    made.list_models = lambda: ["tiny"]  # type: ignore[attr-defined]
    made.list_pretrained = lambda: ["tiny.tv_in1k"]  # type: ignore[attr-defined]
    made.create_model = lambda name, **arguments: tiny(**arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", made)


def saved(module: nn.Module, folder: Path) -> Path:
    torch.save({"state_dict": {f"model.{name}": value for name, value in module.state_dict().items()}}, folder / "model.pt")
    return folder / "model.pt"


def test_classes_and_channels_are_those_of_the_weights(tmp_path: Path) -> None:
    trained = tiny(8, 1)
    candidate = opt.load_model(saved(trained, tmp_path), arch="timm:tiny", input_shape=(1, 8, 8))
    assert "arch_args { in_chans = 1, num_classes = 8 } were read from the shapes of the weights" in candidate.notes
    torch.testing.assert_close(candidate.module(candidate.example), trained.eval()(candidate.example))


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not fit `--arch` \(='timm:tiny'\)"):
        opt.load_model(saved(tiny(8), tmp_path), arch="timm:tiny", arch_args={"num_classes": 7}, input_shape=(3, 8, 8))


@pytest.mark.parametrize(
    ("arch", "arguments", "words"),
    [
        ("timm:tine", {}, r"timm has no network 'tine' \(did you mean 'tiny'\?\)|timm has no network 'tine'"),
        ("timm:tiny", {"pretrained": True}, r"`arch_args` \(pretrained=True\) would download weights: leave it out"),
        ("timm:tiny", {"depth": 3}, r"`--arch` \(='timm:tiny'\) cannot be built \(TypeError"),
        ("tinn:tiny", {}, r"must read 'path/to/file.py:factory'"),
    ],
)
def test_mistakes_are_said_in_a_line(arch: str, arguments: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        opt.load_model(saved(tiny(), tmp_path), arch=arch, arch_args=arguments, input_shape=(3, 8, 8))


@pytest.mark.parametrize("name", library_names())
def test_a_library_that_is_missing_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("timm", "torchvision", "monai", "monai.networks", "segmentation_models_pytorch"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"`--arch` \(='{name}:x'\) needs [\w-]+ \(.*\): pip install [\w-]+"):
        opt.load_model(saved(tiny(), tmp_path), arch=f"{name}:x", input_shape=(3, 8, 8))


def test_operators_that_do_not_load_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[str]:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys.modules["timm"], "list_models", fails)
    with pytest.raises(InputError, match="install torch and torchvision from the same package index"):
        opt.load_model(saved(tiny(), tmp_path), arch="timm:tiny", input_shape=(3, 8, 8))


def test_a_recipe_keeps_the_name_as_it_is(tmp_path: Path) -> None:
    from optimize.run.parsing import architecture

    assert architecture("timm:tiny", "arch", tmp_path) == "timm:tiny"
    assert architecture("net.py:make", "arch", tmp_path) == str(tmp_path / "net.py:make")
    assert not of_library("timm.py:make")


def test_weights_know_the_version_of_their_class(tmp_path: Path) -> None:
    class Versioned(nn.Conv2d):
        _version = 3

        def _load_from_state_dict(self, state: dict[str, torch.Tensor], prefix: str, metadata: dict[str, int], *rest: object) -> None:
            assert metadata.get("version") == 3
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    from optimize.loading.weights import fill

    module = nn.Sequential(Versioned(1, 2, 3), nn.Flatten())
    fill(module, {name: torch.ones_like(value) for name, value in module.state_dict().items()}, tmp_path, "net.py:make")
    assert bool((module[0].weight == 1).all())
