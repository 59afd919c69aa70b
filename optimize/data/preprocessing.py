"""How stored images become the network's input, and where in its outputs the image lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimize.candidate import Floats
from optimize.data.arrays import Array
from optimize.errors import InputError

WHOLE_EPSILON, FLOAT_EPSILON = 1.0, 1e-6
"""Added to an image's standard deviation: one grey level where pixels are 0 to 255, next to nothing where their scale is not known."""


@dataclass(frozen=True)
class Preprocessing:
    """From stored images to the network's input: (x - mean) / std per channel, then `pad` zeros around.

    Args:
        mean: mean of each channel, or one for all channels; uint8 images are scaled to 0..1 first. Empty: nothing is subtracted.
        std: standard deviation of each channel, or one for all channels, in the same scale as `mean`. Empty: nothing is divided.
        pad: zeros on each side of each spatial axis, added after normalising.
        standardize: "image": mean and std are those of each image's own channel, of x as it is stored (0 to 255 where images are uint8);
            `WHOLE_EPSILON` or `FLOAT_EPSILON` is added to the std. None: `mean` and `std` are used.

    Raises:
        InputError: when `mean` and `std` have other lengths, `std` is not above 0, or both `mean` and `standardize` are given.

    Example:
        >>> stored = np.full((2, 4, 4, 3), 255, np.uint8)
        >>> inputs = Preprocessing(mean=(0.5,), std=(0.25,), pad=1)(stored)
        >>> inputs.shape, float(inputs[0, 0, 1, 1]), float(inputs[0, 0, 0, 0])
        ((2, 3, 6, 6), 2.0, 0.0)
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = 0
    standardize: str | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if not hasattr(value := getattr(self, name), "__len__") or isinstance(value, str):
                raise InputError(f"`{name}` (={value!r}) must hold one value per channel: pass a list or a tuple.")
        if len(self.mean) != len(self.std):
            raise InputError(f"`mean` has {len(self.mean)} values and `std` {len(self.std)}: pass both, one value per channel.")
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise InputError(f"`mean` (={_text(self.mean)}) must be finite and `std` (={_text(self.std)}) above 0.")
        if self.pad < 0:
            raise InputError(f"`pad` (={self.pad}) must be 0 or more.")
        if self.standardize not in (None, "image"):
            raise InputError(f"`standardize` (={self.standardize!r}) must be 'image', or be left out.")
        if self.standardize and self.mean:
            raise InputError(f"`standardize` (={self.standardize}) excludes `mean` (={_text(self.mean)}) and `std`: pass one or the other.")

    def __call__(self, images: Array) -> Floats:
        """Uint8 (N, *spatial, C) or (N, H, W), or float (N, C, *spatial) -> (N, C, *spatial), contiguous."""
        whole = images.dtype == np.uint8
        if whole:
            images = np.moveaxis(images[..., None] if images.ndim == 3 else images, -1, 1)
        spatial = [size + 2 * self.pad for size in images.shape[2:]]
        inputs = np.zeros((*images.shape[:2], *spatial), dtype=np.float32)
        # Everything happens inside the result, so that no second array of its size is ever made.
        inside = self.inner(inputs)
        inside[...] = images
        if self.standardize:
            _standardize(inside, WHOLE_EPSILON if whole else FLOAT_EPSILON)
        # standardizing takes the scale off anyway, so bytes are divided only without it
        elif whole:
            inside /= np.float32(255)
        if self.mean:
            shape = (-1, *[1] * len(spatial))
            inside -= np.asarray(self.mean, dtype=np.float32).reshape(shape)
            inside /= np.asarray(self.std, dtype=np.float32).reshape(shape)
        return inputs

    def check(self, channels: int, dtype: np.dtype) -> None:
        """Check that `mean` and `std` fit images of these channels and this type.

        Raises:
            InputError: when they do not.
        """
        if len(self.mean) not in (0, 1, channels):
            raise InputError(f"`mean` (={_text(self.mean)}) has {len(self.mean)} values: the network's input has {channels} channels.")
        if dtype == np.uint8 and any(abs(value) > 1 for value in self.mean):
            raise InputError(
                f"`mean` (={_text(self.mean)}) is above 1, but uint8 images are divided by 255 first: divide mean and std by 255."
            )

    def inner(self, padded: Floats) -> Floats:
        """Return a view without the `pad`, of inputs or of outputs as large as they are, (N, any, *spatial); class outputs (N, K) stay."""
        return padded[(slice(None), slice(None), *[slice(self.pad, size - self.pad) for size in padded.shape[2:]])]


def _standardize(images: Floats, epsilon: float) -> None:
    """Take mean and std off each channel of each image, in place."""
    axes = tuple(range(1, images.ndim - 1))
    for image in images:
        image -= image.mean(axes, keepdims=True, dtype=np.float64)
        image /= image.std(axes, keepdims=True, dtype=np.float64) + epsilon


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
