"""Image files of any kind become what the network reads, item by item as they are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from optimize.data.array_types import Array
from optimize.data.image_cache import kept
from optimize.data.image_decoding import to_channels
from optimize.data.lazy_images import LazyImages
from optimize.data.resizing import Resizing
from optimize.errors import InputError

AS_IT_IS = Resizing()


def fitted_files(arrays: Mapping[str, Array], input_shape: Sequence[int], resizing: Resizing = AS_IT_IS) -> dict[str, Array]:
    """Return the arrays with each stack of image files as the network reads it, decoded only once; the rest is left as it is.

    Args:
        arrays: the arrays of the user's data; images may be a `LazyImages`.
        input_shape: shape of one input of the network, (C, *spatial).
        resizing: what happens to the size of every image.

    Raises:
        InputError: when an image cannot be decoded or is smaller than the crop.
    """
    fitted = dict(arrays)
    for name, images in arrays.items():
        # mypy takes every entry for an array; those of `LazyImages` are few, and are indexed alike
        if isinstance(images, LazyImages) and images.files:
            step = partial(_fitted, resizing=resizing, channels=input_shape[0])
            fitted[name] = cast(Array, kept(images.map(step)))
    return fitted


def applicable(resizing: Resizing, arrays: Mapping[str, Array]) -> tuple[Resizing, tuple[str, ...]]:
    """Return what happens to the size of these data, and a sentence for the report where arrays are left as they are.

    Args:
        resizing: what is asked for.
        arrays: the arrays of the user's data.

    Raises:
        InputError: when images are to be resized, none of the arrays holds image files, and not `files_only`.

    Example:
        >>> import numpy as np
        >>> applicable(Resizing((256,), (224,), files_only=True), {"val_images": np.zeros((1, 224, 224, 3), np.uint8)})[1]
        ('The images are arrays: resize and crop, which are for image files, are not applied.',)
    """
    if not resizing or any(isinstance(images, LazyImages) and images.files for images in arrays.values()):
        return resizing, ()
    if not resizing.files_only:
        raise InputError("`resize` and `crop` are for image files, and the data are arrays: leave them out, or store the images resized.")
    return AS_IT_IS, ("The images are arrays: resize and crop, which are for image files, are not applied.",)


def _fitted(image: Array, *, resizing: Resizing, channels: int) -> Array:
    return to_channels(resizing(image) if resizing else image, channels)
