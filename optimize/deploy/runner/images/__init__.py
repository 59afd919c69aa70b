"""One reader a format: `NAME`, `ENDINGS`, `matches(path, head)` and `read(path)`, found by what a file holds.

A reader returns the numbers as the format defines them, with the axes in the format's order. Nothing is resized, windowed or turned.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import WrongInput
from ..preprocess import Array, Preprocessing

HEAD_BYTES = 352
"""Bytes of a file's start that tell its format: those of the header of NIfTI."""
MAX_BYTES = 1 << 30
"""Largest size of a file, and of the numbers in it: a few packed bytes can hold gigabytes of zeros."""


@dataclass(frozen=True)
class Picture:
    """The numbers of one file.

    Args:
        values: the numbers.
        channels_last: whether the last axis holds channels.
        as_stored: whether the axes are in the order in which the run stored images, as in an array that was saved for it; such a file may
            hold several images.
    """

    values: Array
    channels_last: bool = False
    as_stored: bool = False


def is_image(path: Path) -> bool:
    """Return whether some reader knows a file, by its first bytes."""
    head = _head(path)
    return any(module.matches(path, head) for module in _READERS)


def is_named_as_image(path: Path) -> bool:
    """Return whether a file has an ending that files of images have, whatever it holds."""
    return path.name.lower().endswith(tuple(ending for module in _READERS for ending in module.ENDINGS))


def read(path: Path, wanted: Preprocessing) -> Iterator[Array]:
    """Return the images of one file as the run stored them, each (*spatial, C) uint8 or (C, *spatial) float32.

    Args:
        path: file of an image.
        wanted: what the network takes.

    Raises:
        WrongInput: when the file is of no known format, damaged, or not of the size, the channels or the kind that the network takes.
    """
    head = _head(path)
    module = next((module for module in _READERS if module.matches(path, head)), None)
    if module is None:
        known = ", ".join(module.NAME for module in _READERS)
        raise WrongInput(f"`{path}` is of no known format: give a file of {known}.")
    picture = module.read(path)
    if picture.as_stored:
        yield from _stack(path, picture.values, wanted)
    else:
        yield _as_stored(path, picture, wanted)


def _stack(path: Path, values: Array, wanted: Preprocessing) -> Iterator[Array]:
    """Return the images of an array in the order of axes that the run used: one image, or a stack of them."""
    shape, (*spatial, channels) = wanted.stored_shape, wanted.stored_shape
    # an image of one channel may come without that axis
    short = tuple(spatial) if wanted.whole and channels == 1 else shape[1:] if not wanted.whole and shape[0] == 1 else None
    if values.shape == shape or values.shape == short:
        values = values[None]
    if values.shape[1:] not in (shape, short) or not len(values):
        raise WrongInput(f"`{path}` is an array of shape {values.shape}, {_required(wanted)}: save it as it was stored for the run.")
    for value in values:
        yield _typed(path, value.reshape(shape), wanted)


def _as_stored(path: Path, picture: Picture, wanted: Preprocessing) -> Array:
    """Return an image of a file with its axes in the order that the run used."""
    values = picture.values if picture.channels_last else picture.values[..., None]
    spatial = tuple(size for size in wanted.stored_shape[:-1]) if wanted.whole else wanted.stored_shape[1:]
    # a volume of one slice is an image too
    while values.ndim - 1 > len(spatial) and values.shape[-2] == 1:
        values = values[..., 0, :]
    channels = wanted.input_shape[0]
    if values.shape != (*spatial, channels):
        size = " x ".join(map(str, values.shape[:-1]))
        found = f"{size} with {_channels(values.shape[-1])}"
        same = values.shape[:-1] == spatial
        remedy = f"convert it to {_channels(channels)} as for the run" if same else "bring it to that size as for the run"
        raise WrongInput(f"`{path}` is {found}, {_required(wanted)}: {remedy}; nothing is {'converted' if same else 'resized'} here.")
    return _typed(path, values if wanted.whole else np.moveaxis(values, -1, 0), wanted)


def _typed(path: Path, values: Array, wanted: Preprocessing) -> Array:
    """Return the numbers in the type that the run stored."""
    found = f"`{path}` holds numbers of type {values.dtype}"
    if wanted.whole:
        if values.dtype != np.uint8:
            raise WrongInput(f"{found}, the run's images were uint8, 0 to 255: convert it as for the run.")
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "fiu":
        raise WrongInput(f"{found}, the run's images were floats: convert it as for the run.")
    floats = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(floats).all():
        raise WrongInput(f"`{path}` holds numbers that are not finite: replace them as for the run.")
    return floats


def _required(wanted: Preprocessing) -> str:
    shape = wanted.stored_shape
    spatial, channels = (shape[:-1], shape[-1]) if wanted.whole else (shape[1:], shape[0])
    return f"the network takes {' x '.join(map(str, spatial))} with {_channels(channels)}"


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"


def _head(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WrongInput(f"`{path}` is larger than {MAX_BYTES >> 20} MiB: cut it into smaller files.")
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as problem:
        raise WrongInput(f"`{path}` cannot be read ({problem.strerror}): give an image.") from None


_READERS = tuple(importlib.import_module(f".{module.name}", __name__) for module in pkgutil.iter_modules(__path__))
