"""What the user's data hold, as far as a recipe needs it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimize.data.arrays import Array, spread
from optimize.data.dataset import Dataset, load_data
from optimize.data.in_memory import input_shape_of
from optimize.data.layout import CLASS_KEYS
from optimize.data.lazy_images import Images, row_batches, taken
from optimize.data.sources import read_arrays
from optimize.errors import InputError

STATISTICS_CASES = 2000
"""Images that mean and std are taken from, at most, evenly spread over the split."""


@dataclass(frozen=True, eq=False)
class DataFacts:
    """What the data hold.

    Args:
        dataset: the four splits, as a run would cut them.
        input_shape: (C, *spatial) of one image as stored; empty where the images do not show it.
        named: whether the data hold the names of the classes.
        mean: mean of each channel, of pixels in 0..1 where they are bytes.
        std: standard deviation of each channel, in the same scale.
        measured_on: name of the split that mean and std were measured on.
        measured_cases: number of images that they were measured on.
    """

    dataset: Dataset
    input_shape: tuple[int, ...]
    named: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    measured_on: str
    measured_cases: int

    @property
    def stored_as_bytes(self) -> bool:
        """Whether the images are stored as bytes."""
        return self.dataset.test.images.dtype == np.uint8

    @property
    def masks(self) -> bool:
        """Whether the data hold masks in place of classes."""
        return self.dataset.test.task == "segmentation"


def inspect_data(source: str) -> DataFacts:
    """Return what the data hold.

    Args:
        source: an `.npz`, or "file.py:factory", which is run.

    Raises:
        InputError: when the data cannot be read, are malformed, or their splits overlap.
    """
    arrays = read_arrays(source)
    named = any(key in arrays for key in CLASS_KEYS)
    outputs = None
    if any(name.endswith("_masks") for name in arrays):
        highest = max(int(arrays[name].max(initial=0)) for name in arrays if name.endswith("_masks"))
        # class numbers need one output each and one for the background; 0 and 1 alone are one mask of one output
        outputs = highest + 1 if highest > 1 else 1
    try:
        shape = input_shape_of(arrays)
    except InputError:
        shape = ()
    dataset = load_data(arrays, num_classes=outputs, input_shape=shape, mask_shape=shape[1:] if outputs else ())
    measured = dataset.train if dataset.train is not None else dataset.calibration
    mean, std, cases = channel_statistics(measured.images)
    return DataFacts(dataset, shape, named, mean, std, measured.name, cases)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Return the mean and the standard deviation of each channel, and the number of images that they were taken from.

    Args:
        images: bytes (N, *spatial, C) or (N, H, W), which are divided by 255; or floats (N, C, *spatial).

    Example:
        >>> mean, std, count = channel_statistics(np.array([[[0, 255]], [[255, 0]]], np.uint8))
        >>> mean, std, count
        ((0.5,), (0.5,), 2)
    """
    chosen = taken(images, spread(len(images), STATISTICS_CASES))
    parts = [_moments(chosen[batch]) for batch in row_batches(chosen)]
    shares = np.array([batch.stop - batch.start for batch in row_batches(chosen)])[:, None] / len(chosen)
    means, variances = (np.array(values) for values in zip(*parts, strict=True))
    mean = (shares * means).sum(0)
    # the variance of all is the mean of the parts' variances plus the variance of their means
    std = np.sqrt((shares * (variances + np.square(means - mean))).sum(0))
    return tuple(round(float(value), 5) for value in mean), tuple(round(float(value), 5) for value in std), len(chosen)


def _moments(images: Array) -> tuple[Array, Array]:
    """Return mean and variance of each channel, 2 x (C,), of images as `channel_statistics` takes them."""
    if images.dtype == np.uint8:
        images = np.moveaxis(images[..., None] if images.ndim == 3 else images, -1, 1) / np.float32(255)
    channels = np.moveaxis(images, 1, 0).reshape(images.shape[1], -1).astype(np.float64)
    return channels.mean(1), channels.var(1)


def relative(path: Path, folder: Path) -> str:
    """Return a path as a toml file in `folder` may name it: relative where both lie in one tree."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())
