"""What the files of a Hugging Face folder say of its network: `config.json` and `preprocessor_config.json`, read as plain JSON.

Nothing here needs the package transformers; `optimize/loading/formats/huggingface.py` builds the network with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.loading.factory import describe

CONFIG, PREPROCESSOR, INDEX = "config.json", "preprocessor_config.json", "model.safetensors.index.json"
MAX_JSON_BYTES = 2**24
"""Most bytes of a file of JSON that are read."""
MAX_SIDE = 16_384
_NO_NAME = re.compile(r"LABEL_\d+")
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the interpolations that this package has."""


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder with a `config.json` beside weights, or beside an index of them."""
    return (path / CONFIG).is_file() and any(_weights(path))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON.

    Raises:
        InputError: when it cannot be read, is larger than `MAX_JSON_BYTES`, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"`model`: {path} is larger than any {path.name}: copy it again.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"`model`: {path} cannot be read as JSON ({describe(problem)}): copy it again.") from problem
    if not isinstance(content, dict):
        raise InputError(f"`model`: {path} holds a {type(content).__name__} and no object: copy it again.")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Return the files of weights: `model.safetensors`, or those that the index names.

    Raises:
        InputError: when there is none, one is missing, or the index names a file outside of the folder.
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not (folder / INDEX).is_file():
        others = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".safetensors", ".h5", ".msgpack")))
        found = f"; it has {others}" if others else ""
        raise InputError(f"`model` (={folder}) has no model.safetensors{found}: save it again with save_pretrained.")
    placed = read_json(folder / INDEX).get("weight_map")
    names = sorted(set(map(str, placed.values()))) if isinstance(placed, Mapping) else []
    if not names:
        raise InputError(f"`model` (={folder}): {INDEX} names no file: copy it again.")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"`model` (={folder}): {INDEX} names {name!r}, which is no .safetensors in this folder: copy it again.")
        if not (folder / name).is_file():
            raise InputError(f"`model` (={folder}) lacks {name}, which {INDEX} names: copy it again.")
    return [folder / name for name in names]


def class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes that a folder's `id2label` gives, in the order of the outputs.

    Empty where the path is no such folder, or where the names are placeholders (`LABEL_0`).
    """
    if not is_folder(path):
        return ()
    names = read_json(path / CONFIG).get("id2label")
    if not isinstance(names, Mapping) or set(names) != {str(number) for number in range(len(names))}:
        return ()
    listed = tuple(str(names[str(number)]).strip() for number in range(len(names)))
    plain = all(listed) and len(set(listed)) == len(listed) and not all(map(_NO_NAME.fullmatch, listed))
    return listed if plain else ()


def input_shape(folder: Path) -> tuple[int, ...]:
    """Return the shape of one input, (C, H, W), as the preparation of images, else the network's settings say it; empty where none does."""
    config = read_json(folder / CONFIG)
    size = sides(config.get("image_size"))
    if (folder / PREPROCESSOR).is_file():
        size = output_size(read_json(folder / PREPROCESSOR)) or size
    channels = config.get("num_channels", 3)
    if not size or not isinstance(channels, int) or not 1 <= channels <= MAX_SIDE:
        return ()
    return channels, *size


def preparation(folder: Path) -> dict[str, object]:
    """Return the preparation of images that a folder's `preprocessor_config.json` states.

    transformers computes (x * rescale_factor - mean) / std of pixels x in 0 to 255. This package computes (x / 255 - mean) / std; so mean
    and std are divided by 255 * rescale_factor.

    Returns:
        `resize`, `crop`, `interpolation`, `mean` and `std`, as the settings of these names have them.

    Raises:
        InputError: when the folder has no such file, or it states what is not done here.

    Example:
        >>> import tempfile
        >>> stated = {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True, "image_mean": [0.5], "image_std": [0.25]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, PREPROCESSOR).write_text(json.dumps(stated))
        ...     preparation(Path(folder))
        {'resize': (256,), 'crop': (224, 224), 'interpolation': 'bilinear', 'mean': (0.5,), 'std': (0.25,)}
    """
    where = f"`preprocessing` (=huggingface): {folder / PREPROCESSOR}"
    if not (folder / PREPROCESSOR).is_file():
        raise InputError(f"{where} does not exist: pass mean, std, resize and crop, or the folder that has it as the model.")
    stated = read_json(folder / PREPROCESSOR)
    unknown = [name for name in ("do_flip_channel_order", "rescale_offset", "do_pad") if stated.get(name)]
    if unknown or stated.get("resample", 2) not in RESAMPLING:
        what = unknown[0] if unknown else f"resample = {stated['resample']}"
        raise InputError(f"{where} states {what}, which is not done here: prepare the images yourself, and pass them as arrays.")
    factor = 255 * _number(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 255.0
    mean, std = _numbers(stated.get("image_mean")), _numbers(stated.get("image_std"))
    if not stated.get("do_normalize", bool(mean)):
        mean, std = ((), ()) if math.isclose(factor, 1) else ((0.0,), (1.0,))
    if not factor > 0 or len(mean) != len(std):
        raise InputError(f"{where} states a scale, mean or std that does not fit: pass mean and std.")
    # nine digits, so that 255 * (1 / 255) leaves 0.485 as it is
    mean, std = (tuple(float(f"{value / factor:.9g}") for value in values) for values in (mean, std))
    resize, crop = _resizing(stated)
    return {"resize": resize, "crop": crop, "interpolation": RESAMPLING[stated.get("resample", 2)], "mean": mean, "std": std}


def _resizing(stated: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sides to which images are resized, and those that are cut out of the middle."""
    crop = output_size(stated) if stated.get("do_center_crop") else ()
    size, edge = stated.get("size"), 0
    if not stated.get("do_resize", True) or size is None:
        return (), crop
    if isinstance(size, Mapping) and isinstance(size.get("shortest_edge"), int):
        edge = int(size["shortest_edge"])
    elif isinstance(size, int) and crop:
        edge = size  # older files mean the shorter side where something is cut out after
    share = stated.get("crop_pct")
    if edge and share:
        # ConvNeXt's own: from 384 pixels on both sides are set, below the middle of a larger image is cut out
        return ((edge, edge), ()) if edge >= 384 else ((int(edge / _number(share)),), (edge, edge))
    return ((edge,) if edge else sides(size)), crop


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value else math.nan


def _numbers(values: object) -> tuple[float, ...]:
    plain = values if isinstance(values, list) else [] if values is None else [values]
    return tuple(float(value) if isinstance(value, int | float) else math.nan for value in plain)


def output_size(preprocessor: Mapping[str, Any]) -> tuple[int, ...]:
    """Return (H, W) of the images that a preparation makes; empty where their size depends on the image."""
    if preprocessor.get("do_center_crop") and preprocessor.get("crop_size"):
        return sides(preprocessor["crop_size"])
    if not preprocessor.get("do_resize", True):
        return ()
    size = preprocessor.get("size")
    if preprocessor.get("crop_pct") and isinstance(size, Mapping) and "shortest_edge" in size:
        return sides(size["shortest_edge"])
    return sides(size)


def sides(size: object) -> tuple[int, ...]:
    """Return (H, W) of 224, [224, 224] or {"height": 224, "width": 224}; empty for everything else.

    Example:
        >>> sides(224), sides({"height": 224, "width": 192}), sides({"shortest_edge": 224})
        ((224, 224), (224, 192), ())
    """
    if isinstance(size, Mapping):
        size = [size.get("height"), size.get("width")]
    pair: Sequence[Any] = size if isinstance(size, list) and len(size) == 2 else [size, size]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE for side in pair)
    return tuple(pair) if whole else ()


def _weights(path: Path) -> list[Path]:
    return [file for pattern in ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.msgpack", "*.h5") for file in path.glob(pattern)]
