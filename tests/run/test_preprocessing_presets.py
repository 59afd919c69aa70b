"""Presets of preprocessing: computed by hand, and in what order settings override one another."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from optimize.data.dataset import Preprocessing, load_data
from optimize.data.resizing import Resizing
from optimize.errors import InputError
from optimize.run.preprocessing_presets import preset_in_words, with_preset
from optimize.run.recipe import resolve, to_toml

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (300, 411, 3), np.uint8)


def prepared(settings: dict[str, object]) -> np.ndarray:
    """The network's input of `PHOTO`, (C, H, W)."""
    resizing = Resizing(settings["resize"], settings["crop"], settings["interpolation"])  # type: ignore[arg-type]
    return Preprocessing(settings["mean"], settings["std"])(resizing(PHOTO)[None])[0]  # type: ignore[arg-type]


def test_imagenet_is_the_usual_evaluation() -> None:
    # by hand: the shorter side becomes 256, then the middle of 256 x 350 is cut out from row 16 and column 63
    image = Image.fromarray(PHOTO).resize((350, 256), Image.Resampling.BILINEAR)
    middle = np.asarray(image)[16:240, 63:287].astype(np.float64) / 255
    expected = (middle - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepared(with_preset({"preprocessing": "imagenet"})), expected.transpose(2, 0, 1), atol=1e-5)


def timm_that_says(monkeypatch: pytest.MonkeyPatch, **said: object) -> None:
    """Put a timm in place that knows one network, `net`."""
    models = ModuleType("timm.models")
    whole = {"input_size": (3, 224, 224), "mean": (0.5,), "std": (0.25,), "crop_pct": 0.875, "interpolation": "bicubic", **said}
    models.get_pretrained_cfg = lambda name: SimpleNamespace(to_dict=lambda: whole) if name == "net" else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.models", models)


def test_the_settings_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    timm_that_says(monkeypatch)
    made = with_preset({"preprocessing": "timm", "arch": "timm:net"})
    assert (made["resize"], made["crop"], made["interpolation"], made["input_shape"]) == ((256,), (224,), "bicubic", (3, 224, 224))
    # another input: the same share is cut out of it
    made = with_preset({"preprocessing": "timm", "arch": "timm:net", "input_shape": (3, 64, 64)})
    assert (made["resize"], made["crop"]) == ((73,), (64,))
    timm_that_says(monkeypatch, crop_mode="squash", input_size=(3, 100, 200), crop_pct=1.0)
    made = with_preset({"preprocessing": "timm", "arch": "timm:net"})
    assert (made["resize"], made["crop"]) == ((100, 200), (100, 200))


@pytest.mark.parametrize(
    ("said", "settings", "words"),
    [
        ({}, {}, r"there is no `arch`: pass --arch timm:NAME"),
        ({}, {"arch": "net.py:make"}, r"`arch` \(=net.py:make\) is none"),
        ({}, {"arch": "timm:other"}, r"timm has no configuration of `arch` \(=timm:other\)"),
        ({"crop_mode": "border"}, {"arch": "timm:net"}, r"crop mode 'border' of `arch` \(=timm:net\) is not supported"),
        ({"input_size": (3, 100, 200)}, {"arch": "timm:net"}, r"an input of 100 x 200"),
    ],
)
def test_what_timm_does_not_say(monkeypatch: pytest.MonkeyPatch, said: dict[str, object], settings: dict[str, object], words: str) -> None:
    timm_that_says(monkeypatch, **said)
    with pytest.raises(InputError, match=words):
        with_preset({"preprocessing": "timm", **settings})


def test_timm_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(InputError, match=r"needs timm .*: pip install timm"):
        with_preset({"preprocessing": "timm", "arch": "timm:net"})


def test_a_model_that_is_no_folder_states_no_preparation(tmp_path: Path) -> None:
    (tmp_path / "m.pt").touch()
    with pytest.raises(InputError, match=r"is what a model's folder says, and `model` \(=.*m.pt\) is a file: pass its folder"):
        with_preset({"preprocessing": "huggingface", "model": tmp_path / "m.pt"})


def test_a_setting_beside_the_word_overrides_it_and_a_word_the_file_below(tmp_path: Path) -> None:
    (tmp_path / "optimize.toml").write_text("[data]\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\npad = 1\n")
    call = {"target": "onnxruntime", "prefix": ""}
    recipe = resolve(tmp_path / "m.pt", overrides={"preprocessing": "imagenet", "crop": "200"}, **call)  # type: ignore[arg-type]
    assert (recipe.resize, recipe.crop, recipe.mean[0], recipe.pad) == ((256,), (200,), 0.485, 1)
    assert "crop 224" in preset_in_words("imagenet", vars(recipe))
    assert preset_in_words("imagenet", vars(recipe)).endswith("; used instead: crop 200.")
    # the lock file holds what the word stood for, so it says the same where the word no longer could
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text(to_toml(recipe))
    assert resolve(recipe_file=lock) == recipe
    recipe = resolve(tmp_path / "m.pt", overrides={"preprocessing": "imagenet", "standardize": "image"}, **call)  # type: ignore[arg-type]
    assert (recipe.mean, recipe.standardize, recipe.crop) == ((), "image", (224,))


def test_an_unknown_word_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"`--preprocessing` \(='imagnet'\) must be one of imagenet, .*did you mean 'imagenet'"):
        resolve("m.pt", target="onnxruntime", overrides={"preprocessing": "imagnet"})


def test_arrays_are_left_as_they_are_where_a_word_resizes() -> None:
    splits = {name: (RNG.integers(0, 256, (8, 8, 8, 3), np.uint8), np.arange(8) % 2) for name in ("val", "test")}
    data = load_data(splits, resizing=Resizing((256,), (224,), files_only=True))
    assert data.test.inputs().shape == (8, 3, 8, 8)
    assert data.notes[0] == "The images are arrays: resize and crop, which are for image files, are not applied."
    with pytest.raises(InputError, match="are for image files"):
        load_data(splits, resizing=Resizing((256,), (224,)))
