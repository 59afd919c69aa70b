"""Check that float images have the scale that mean and std are written for.

Float images are not rescaled. Images in 0..255 with a mean and a std for 0..1 give inputs a hundred times too large, and the outputs
for them say nothing about the network. So before anything is computed the images are compared with mean and std, and the splits with
one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from optimize.data.arrays import Array, spread
from optimize.data.lazy_images import Images
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError

CASES = 256
"""Images of a split that are enough to see its scale by."""
MAX_VALUES = 2**24
"""Most values of a split that are looked at, where that is not fewer than 8 images: it bounds the memory."""
FAR = 20.0
"""Most stds that the images may spread, or lie away from the mean."""
NARROW = 0.1
"""Share of a std that the range of the images must have at least."""


def require_scale(splits: Mapping[str, Images], preprocessing: Preprocessing) -> None:
    """Check that float images fit mean and std, and that the splits have one scale.

    Args:
        splits: name in the user's data, such as "train" -> images, (N, C, *spatial) where they are floats.
        preprocessing: preprocessing that turns images into the network's input.

    Raises:
        InputError: when they do not.
    """
    floats = {name: _some(images) for name, images in splits.items() if images.dtype.kind == "f"}
    for name, images in floats.items():
        _require_fit(name, images, preprocessing)
    reach = {name: float(np.abs(images).max(initial=0.0)) for name, images in floats.items()}
    reach = {name: value for name, value in reach.items() if value > 0}
    if reach:
        small, large = min(reach, key=reach.__getitem__), max(reach, key=reach.__getitem__)
        # one split in 0..1 and another in 0..255 differ by 255; splits of one kind hardly by 20
        if reach[large] > FAR * reach[small]:
            said = f"`{large}_images` reach to {reach[large]:.4g} and `{small}_images` only to {reach[small]:.4g}"
            raise InputError(f"{said}: all splits must have one scale; store them alike.")


def _require_fit(name: str, images: Array, preprocessing: Preprocessing) -> None:
    mean, std = (np.asarray(values, dtype=np.float64) for values in (preprocessing.mean, preprocessing.std))
    # without a mean, or with 0 and 1, nothing was said about the scale
    if not len(mean) or (not mean.any() and (std == 1).all()):
        return
    channels = np.moveaxis(images.astype(np.float64), 1, 0).reshape(images.shape[1], -1)
    low, high = float(channels.min()), float(channels.max())
    spread, away = channels.std(1) / std, np.abs(channels.mean(1) - mean) / std
    if max(spread.max(), away.max()) <= FAR and ((channels.max(1) - channels.min(1)) / std).max() >= NARROW:
        return
    said = f"`{name}_images` are floats from {low:.4g} to {high:.4g}, and mean (={_text(mean)}) and std (={_text(std)}) are"
    if high > 2 and mean.max() <= 1 and std.max() <= 1:
        raise InputError(f"{said} for images in 0..1: divide the images by 255, or store them as uint8.")
    if high <= 2 and (mean.max() > 1 or std.max() > 2):
        raise InputError(f"{said} for images in 0..255: divide mean and std by 255.")
    raise InputError(f"{said} of another scale: write them in the scale of the images.")


def _some(images: Images) -> Array:
    # large images are many values each, so fewer of them show the scale as well
    return np.asarray(images[spread(len(images), min(CASES, max(8, MAX_VALUES // prod(images.shape[1:]))))])


def _text(values: Array) -> str:
    return ",".join(f"{value:g}" for value in values)
