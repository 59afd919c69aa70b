"""Image files of any kind become what the network reads, item by item as they are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from optimize.data.array_types import Array
from optimize.data.image_cache import kept
from optimize.data.image_decoding import to_channels
from optimize.data.lazy_images import LazyImages


def fitted_files(arrays: Mapping[str, Array], input_shape: Sequence[int]) -> dict[str, Array]:
    """Return the arrays with each stack of image files in the network's number of channels, decoded only once; the rest is left as it is.

    Args:
        arrays: the arrays of the user's data; images may be a `LazyImages`.
        input_shape: shape of one input of the network, (C, *spatial).
    """
    fitted = dict(arrays)
    for name, images in arrays.items():
        # mypy takes every entry for an array; those of `LazyImages` are few, and are indexed alike
        if isinstance(images, LazyImages) and images.files:
            fitted[name] = cast(Array, kept(images.map(partial(to_channels, channels=input_shape[0]))))
    return fitted
