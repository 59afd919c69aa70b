"""A folder of image files, one folder for each class: `train/CLASS/…`, `val/CLASS/…`, `test/CLASS/…`, or the classes alone.

This is the tree that `torchvision.datasets.ImageFolder` reads: classes are numbered by the order of their names, and files may lie deeper
in a class's folder. What systems and archives leave behind is passed over: hidden files, `__MACOSX`, `Thumbs.db`, files that are no images.
Files are decoded as they are needed (`optimize.data.image_decoding`), so the tree may be larger than memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.image_decoding import decode_file, is_image_name
from optimize.data.lazy_images import lazy_images
from optimize.errors import InputError, printable
from optimize.progress import note

NAMED = "a folder of image files (train/CLASS/…, val/CLASS/…, test/CLASS/…)"
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "calibration": ("calibration",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of a split's folder, in lower case."""
MAX_FILES = 20_000_000
"""Most files of a tree; a link to a folder further up could make it endless."""
MAX_LOOKED_AT = 2000
"""Most entries of a class's folder that are looked at to recognise the tree."""


def recognises(source: str) -> bool:
    """Return whether the source is a folder with an image in a folder of a class, with or without splits above."""
    root = Path(source)
    if not root.is_dir():
        return False
    splits = _splits(root)
    return any(_shows_image(folder) for split in splits.values() or (root,) for folder in _folders(split))


def read(source: str) -> Mapping[str, Any]:
    """Return the images of each split as a `LazyImages`, with labels, the path of each file and the names of the classes.

    A tree of classes without splits gives one split, "train".

    Raises:
        InputError: when two folders name one split, or a split holds no image.
    """
    root = Path(source)
    splits = _splits(root) or {"train": root}
    files = {split: {folder.name: sorted(_images(folder)) for folder in _folders(path)} for split, path in splits.items()}
    # a folder without any image in any split is no class: notes, masks, scripts
    classes = sorted({name for of_split in files.values() for name, paths in of_split.items() if paths})
    arrays: dict[str, Any] = {"classes": np.array([printable(name) for name in classes])}
    for split, of_split in files.items():
        paths = [path for name in classes for path in of_split.get(name, ())]
        if not paths:
            raise InputError(f"`data` (={source}): {splits[split].name} holds no image in a folder of a class: add some, or remove it.")
        arrays[f"{split}_images"] = lazy_images(paths, decode_file, parallel=True, files=True)
        arrays[f"{split}_labels"] = np.repeat(np.arange(len(classes)), [len(of_split.get(name, ())) for name in classes])
        arrays[f"{split}_names"] = np.array([printable(os.path.relpath(path, root)) for path in paths])
    return arrays


def _splits(root: Path) -> dict[str, Path]:
    """Return the folders of the splits in their usual order; empty where no folder has the name of one.

    Raises:
        InputError: when two folders name one split.
    """
    splits: dict[str, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [folder for folder in _folders(root) if folder.name.lower() in names]
        if len(found) > 1:
            raise InputError(f"`data` (={root}) has {found[0].name} and {found[1].name}, which mean one split: remove or rename one.")
        if found:
            splits[split] = found[0]
    return splits


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__MACOSX")))


def _shows_image(folder: Path) -> bool:
    entries = (name for _, _, names in os.walk(folder) for name in names)
    return any(is_image_name(name) for _, name in zip(range(MAX_LOOKED_AT), entries, strict=False))


def _images(folder: Path) -> Iterator[str]:
    """Yield the paths of the image files of a class; links to files are followed, links to folders below it are not.

    Raises:
        InputError: when there are more than `MAX_FILES`.
    """
    passed_over = count = 0
    for parent, inner, names in os.walk(folder):
        # changed in place, as os.walk asks for, so that it does not go into them
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        for name in names:
            path = os.path.join(parent, name)
            # no device and no pipe, which could be read for ever
            if is_image_name(name) and os.path.isfile(path):
                count += 1
                yield path
            elif not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                passed_over += 1
        if count > MAX_FILES:
            raise InputError(f"`data`: {folder} holds more than {MAX_FILES:,} images: pass a smaller tree.")
    if passed_over and count:
        note(f"{printable(str(folder))}: {passed_over} files that are no images, or cannot be opened, are passed over.")
