"""Presets of preprocessing: one word for the settings with which many networks were trained.

    imagenet       resize 256, crop 224, bilinear, mean and std of ImageNet
    timm           what timm's configuration of the network says (`--arch timm:NAME`)
    huggingface    what the preprocessor_config.json of the model's folder says

A setting beside the word overrides what the word says of it. In files and flags that override one another, a word also overrides the
settings of the file below it: `--preprocessing imagenet` replaces the `mean` of an `optimize.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.loading.huggingface_folder import preparation
from optimize.loading.libraries import ONE_INDEX

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels of ImageNet, as torchvision and timm use them."""
PRESET_KEYS = ("resize", "crop", "interpolation", "mean", "std", "standardize")
"""Settings that a preset may stand for."""


def overridden(lower: Mapping[str, object], higher: Mapping[str, object]) -> dict[str, object]:
    """Return settings of which `higher` override `lower`; a preset in `higher` also overrides the single settings in `lower`.

    Example:
        >>> overridden({"mean": (0.5,), "seed": 1}, {"preprocessing": "imagenet"})
        {'seed': 1, 'preprocessing': 'imagenet'}
    """
    below = {name: value for name, value in lower.items() if name not in PRESET_KEYS or higher.get("preprocessing") is None}
    return {**below, **higher}


def with_preset(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings with those that their preset stands for; settings that are there already stay.

    Args:
        settings: settings by the names of `Recipe`'s fields.

    Raises:
        InputError: when the preset does not fit the model, or the package that knows it is missing.

    Example:
        >>> with_preset({"preprocessing": "imagenet", "crop": (200,)})["resize"]
        (256,)
    """
    word = settings.get("preprocessing")
    # the lock file of a run names all settings, so nothing is left that the word could say
    if word is None or settings.keys() >= {*PRESET_KEYS, "input_shape"}:
        return dict(settings)
    return {**_stated(str(word), settings), **settings}


def preset_in_words(word: str, settings: Mapping[str, Any]) -> str:
    """Return a sentence that says what a preset stands for, and which settings override it.

    Args:
        word: name of the preset.
        settings: all settings by the names of `Recipe`'s fields.

    Example:
        >>> preset_in_words("imagenet", {**with_preset({"preprocessing": "imagenet"}), "crop": (200,)})
        'preprocessing = imagenet stands for resize 256, crop 224, interpolation bilinear, mean 0.485,0.456,0.406, std 0.229,0.224,0.225; \
used instead: crop 200.'
    """
    stated = _stated(word, settings)
    used = {name: settings.get(name) for name in stated}
    other = {name: value for name, value in used.items() if value != stated[name]}
    instead = f"; used instead: {_listed(other)}" if other else ""
    return f"preprocessing = {word} stands for {_listed(stated)}{instead}."


def _stated(word: str, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that a preset stands for."""
    stated = PREPROCESSING_PRESETS[word](settings)
    # an image's own mean and std take the place of fixed ones
    return {name: value for name, value in stated.items() if not settings.get("standardize") or name not in ("mean", "std")}


def _imagenet(settings: Mapping[str, object]) -> dict[str, object]:
    return {"resize": (256,), "crop": (224,), "interpolation": "bilinear", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def _timm(settings: Mapping[str, object]) -> dict[str, object]:
    """Return what timm's evaluation does: resize to the input's size over `crop_pct`, then crop."""
    library, _, name = str(settings.get("arch") or "").partition(":")
    if library != "timm":
        given = f"`arch` (={settings['arch']}) is none" if settings.get("arch") else "there is no `arch`"
        raise InputError(f"`preprocessing` (=timm) is what timm says of its network, and {given}: pass --arch timm:NAME, or name imagenet.")
    try:
        from timm.models import get_pretrained_cfg
    except ImportError as problem:
        raise InputError(f"`preprocessing` (=timm) needs timm ({describe(problem)}): pip install timm.") from problem
    except RuntimeError as problem:
        raise InputError(f"`preprocessing` (=timm): timm does not load ({describe(problem)}): {ONE_INDEX}.") from problem
    found = get_pretrained_cfg(name)
    if found is None:
        raise InputError(
            f"`preprocessing` (=timm): timm has no configuration of `arch` (={settings['arch']}): pass mean, std, resize and crop."
        )
    said = found.to_dict()
    shape = tuple(settings.get("input_shape") or said["input_size"])  # type: ignore[arg-type]
    height, width = shape[-2:]
    share, mode = float(said.get("crop_pct") or 0.875), str(said.get("crop_mode") or "center")
    scaled = floor(height / share), floor(width / share)
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        kind = f"crop mode {mode!r}" if mode != "center" else f"an input of {height} x {width}"
        raise InputError(
            f"`preprocessing` (=timm): {kind} of `arch` (={settings['arch']}) is not supported: pass resize, crop, mean and std."
        )
    return {
        "resize": scaled[:1] if mode == "center" else scaled,
        "crop": (height,) if height == width else (height, width),
        "interpolation": str(said.get("interpolation") or "bicubic"),
        "mean": tuple(said["mean"]),
        "std": tuple(said["std"]),
        "input_shape": shape,
    }


def _huggingface(settings: Mapping[str, object]) -> dict[str, object]:
    """Return what the folder of the model says of the preparation of images."""
    model = Path(str(settings.get("model", "")))
    if model.is_file():
        rule = "`preprocessing` (=huggingface) is what a model's folder says"
        raise InputError(f"{rule}, and `model` (={model}) is a file: pass its folder.")
    return preparation(model)


def _listed(settings: Mapping[str, Any]) -> str:
    names = {"input_shape": "input"}
    texts = ((names.get(name, name), ",".join(map(str, value)) if isinstance(value, tuple) else value) for name, value in settings.items())
    return ", ".join(f"{name} {value or 'none'}" for name, value in texts)


PREPROCESSING_PRESETS: Mapping[str, Callable[[Mapping[str, object]], dict[str, object]]] = {
    "imagenet": _imagenet,
    "timm": _timm,
    "huggingface": _huggingface,
}
"""Name of each preset -> function from the run's settings to those that it stands for."""
