"""A data set of Hugging Face `datasets` on disk, as `save_to_disk` writes it: a folder of Arrow files for each split.

    dataset_dict.json                  {"splits": ["train", "validation", "test"]}; a folder without it is one split, "train"
    train/state.json                   the files of the split, in their order
    train/dataset_info.json            what the columns hold: which is an image, the names of a ClassLabel
    train/data-00000-of-00001.arrow    rows; the bytes of an image lie in the file as they were saved, PNG or JPEG

pyarrow alone reads it. Where the bytes of each image lie is noted once, and each is read from there when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.array_types import Array
from optimize.data.file_parts import FilePart, decode_part
from optimize.data.formats.image_folder import SPLIT_FOLDERS
from optimize.data.formats.table import COLUMNS, GROUP, MAX_ROWS, labels_of
from optimize.data.lazy_images import lazy_images
from optimize.errors import InputError, did_you_mean, printable
from optimize.loading.factory import describe
from optimize.loading.huggingface_folder import read_json

NAMED = "a folder of Hugging Face datasets (save_to_disk)"
SPLITS, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_IMAGES = ("image", "img", "images", "pixel_values", "picture")
_ALIASES = {alias: split for split, aliases in SPLIT_FOLDERS.items() for alias in aliases}


def recognises(source: str) -> bool:
    """Return whether the source is a folder that `save_to_disk` wrote."""
    path = Path(source)
    return (path / SPLITS).is_file() or ((path / STATE).is_file() and (path / INFO).is_file())


def read(source: str) -> Mapping[str, Any]:
    """Return the images of each split as a `LazyImages`, with labels, names of classes and what else the columns say.

    Raises:
        InputError: when a file is missing or damaged, a split has an unknown name, or there is no column of images or of labels.
    """
    root = Path(source)
    arrays: dict[str, Any] = {}
    for split, folder in _splits(root).items():
        features = read_json(folder / INFO).get("features")
        features = features if isinstance(features, Mapping) else {}
        image, label = _image_column(features, source), _label_column(features, source)
        columns = {label: "labels", **{name: field for name in features if (field := _further(name)) and name not in (image, label)}}
        parts, values = _rows(folder, image, list(columns))
        if not parts:
            raise InputError(f"`data` (={source}): split {folder.name} has no rows: remove it, or add some.")
        arrays[f"{split}_images"] = lazy_images(parts, decode_part, parallel=True, files=True)
        for name, field in columns.items():
            if None in values[name]:
                raise InputError(f"`data` (={source}): row {values[name].index(None)} of {folder.name} has no {name!r}: fill it in.")
            arrays[f"{split}_{field}"] = labels_of(values[name]) if field == "labels" else np.array([str(cell) for cell in values[name]])
        names = features[label].get("names") if isinstance(features[label], Mapping) else None
        if isinstance(names, list) and names:
            arrays["classes"] = np.array([printable(str(name)) for name in names])
    return arrays


def _splits(root: Path) -> dict[str, Path]:
    """Return the folder of each split.

    Raises:
        InputError: when a name is of no split, or two are of one.
    """
    if not (root / SPLITS).is_file():
        return {"train": root}
    stated = read_json(root / SPLITS).get("splits")
    folders: dict[str, Path] = {}
    for name in stated if isinstance(stated, list) else []:
        split = _ALIASES.get(str(name).lower())
        if split is None:
            near = did_you_mean(str(name), list(_ALIASES))
            raise InputError(f"`data` (={root}) has split {name!r}{near}: name them {', '.join(SPLIT_FOLDERS)}.")
        if split in folders:
            raise InputError(f"`data` (={root}) has {folders[split].name} and {name}, which mean one split: remove or rename one.")
        folders[split] = root / str(name)
    if not folders:
        raise InputError(f"`data` (={root}): {SPLITS} names no split: save the data set again.")
    return folders


def _image_column(features: Mapping[str, Any], source: str) -> str:
    images = [name for name, kind in features.items() if isinstance(kind, Mapping) and kind.get("_type") == "Image"]
    if not images:
        has = ", ".join(map(printable, features)) or "none"
        raise InputError(f"`data` (={source}) has no column of type Image; it has {has}: cast_column('image', Image()) and save it again.")
    return next((name for name in _IMAGES if name in images), images[0])


def _label_column(features: Mapping[str, Any], source: str) -> str:
    by_name = [name for known in COLUMNS["labels"] for name in features if name.lower() == known]
    by_type = [name for name, kind in features.items() if isinstance(kind, Mapping) and kind.get("_type") == "ClassLabel"]
    found = by_name or by_type
    if not found:
        has = ", ".join(map(printable, features)) or "none"
        raise InputError(f"`data` (={source}) has no column of labels; it has {has}: rename_column(…, 'label') and save it again.")
    return found[0]


def _further(name: str) -> str:
    """Return what a column is beside image and label: "patient", "id", a subgroup; empty where it is passed over."""
    lower = name.lower()
    if GROUP.fullmatch(lower):
        return "site_group" if lower == "site" else lower
    return next((field for field in ("patient", "id") if lower in COLUMNS[field]), "")


def _rows(folder: Path, image: str, columns: list[str]) -> tuple[list[FilePart], dict[str, list[Any]]]:
    """Return where each image of a split lies, and the values of the other columns."""
    try:
        arrow = import_module("pyarrow")
    except ImportError as problem:
        raise InputError(f"`data` (={folder}) needs pyarrow: pip install 'optimize[tables]'.") from problem
    state = read_json(folder / STATE)
    if state.get("_indices_data_files"):
        raise InputError(f"`data` (={folder}) is a selection of rows (_indices_data_files): flatten_indices() and save it again.")
    files = state.get("_data_files")
    names = [str(file.get("filename", "")) for file in files if isinstance(file, Mapping)] if isinstance(files, list) else []
    parts: list[FilePart] = []
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise InputError(f"`data` (={folder}): {STATE} names {name!r}, which is no file in this folder: copy the data set again.")
        try:
            for batch, start in _batches(arrow, path):
                parts += _parts(batch.column(image), start, path, len(parts))
                for column in columns:
                    values[column] += batch.column(column).to_pylist()
        except InputError:
            raise
        except Exception as problem:  # whatever pyarrow raises on a damaged file, or one with other columns
            raise InputError(f"`data`: {path} cannot be read as Arrow ({describe(problem)}): copy it again.") from problem
        if len(parts) > MAX_ROWS:
            raise InputError(f"`data` (={folder}) has more than {MAX_ROWS:,} rows: pass a smaller data set.")
    return parts, values


def _batches(arrow: Any, path: Path) -> Any:
    """Yield each batch of a file, which reads no more than is looked at, and the address in memory at which the file begins."""
    with arrow.memory_map(str(path)) as file:
        whole = file.read_buffer()
        with arrow.ipc.open_stream(whole) as stream:
            for batch in stream:
                yield batch, whole.address


def _parts(column: Any, start: int, path: Path, first: int) -> list[FilePart]:
    """Return where the bytes of each image of a batch lie in the file.

    A batch that was mapped from a file points into it: the address of its bytes, less that of the file's beginning, is their position.

    Raises:
        InputError: when an image is only a path.
    """
    fields = {field.name: place for place, field in enumerate(column.type)}
    content = column.flatten()[fields["bytes"]]
    paths = column.flatten()[fields["path"]].to_pylist() if "path" in fields else [None] * len(content)
    if content.null_count:
        row = content.is_null().to_pylist().index(True)
        raise InputError(f"`data`: {path} holds the path of image {first + row} and not its bytes: save it with the images in it.")
    _, offsets, data = content.buffers()
    width = np.int64 if str(content.type).startswith("large") else np.int32
    ends: Array = np.frombuffer(offsets, width)[content.offset : content.offset + len(content) + 1].astype(np.int64)
    base = data.address - start
    if base < 0 or base + int(ends[-1]) > path.stat().st_size:
        raise InputError(f"`data`: {path} is compressed, and single images cannot be read from it: save it without compression.")
    names = [f"{first + row}:{Path(name).name}" if name else str(first + row) for row, name in enumerate(paths)]
    return [
        FilePart(str(path), base + int(begin), int(end - begin), name) for begin, end, name in zip(ends[:-1], ends[1:], names, strict=True)
    ]
