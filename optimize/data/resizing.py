"""Image files of any size become images of one size: resized, then cut out of the middle.

Both are those of torchvision's `Resize` and `CenterCrop`, so a network gets what it got in training:

    resize = 256        the shorter side becomes 256 pixels: 500 x 400 -> 320 x 256
    resize = 224,224    both sides
    crop = 224          224 x 224 pixels out of the middle
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optimize.data.array_types import Array
from optimize.data.image_packages import image_package
from optimize.errors import InputError, did_you_mean

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
MAX_SIDE = 16_384


@dataclass(frozen=True)
class Resizing:
    """What happens to the size of every image.

    Args:
        resize: the shorter side in pixels, (1,), or height and width, (2,); empty to leave it.
        crop: side in pixels of the square that is cut out of the middle, (1,), or height and width, (2,); empty for the whole image.
        interpolation: one of `INTERPOLATIONS`.
        files_only: whether data without image files are taken as they are; else they are refused, because arrays are not resized.

    Raises:
        InputError: when a size is not in 1..`MAX_SIDE`, there are more than two, or the interpolation is not known.

    Example:
        >>> Resizing((8,), (6,))(np.zeros((16, 20, 3), np.uint8)).shape
        (6, 6, 3)
    """

    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    interpolation: str = "bilinear"
    files_only: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            sizes = getattr(self, name)
            if len(sizes) > 2 or not all(1 <= size <= MAX_SIDE for size in sizes):
                text = ",".join(map(str, sizes))
                raise InputError(f"`{name}` (={text}) must be one side or height,width, each in 1..{MAX_SIDE}: pass 224 or 224,224.")
        if self.interpolation not in INTERPOLATIONS:
            near = did_you_mean(self.interpolation, INTERPOLATIONS)
            raise InputError(f"`interpolation` (={self.interpolation!r}) must be one of {', '.join(INTERPOLATIONS)}{near}.")

    def __bool__(self) -> bool:
        return bool(self.resize or self.crop)

    def __call__(self, image: Array) -> Array:
        """(H, W, C) -> (H', W', C), of the same type.

        Raises:
            InputError: when the image is smaller than the crop.
        """
        if self.resize:
            image = _resized(image, self._size(image.shape[0], image.shape[1]), self.interpolation)
        if self.crop:
            height, width = self.crop if len(self.crop) == 2 else (*self.crop, *self.crop)
            if image.shape[0] < height or image.shape[1] < width:
                has, wants = f"{image.shape[0]} x {image.shape[1]}", f"{height} x {width}"
                raise InputError(f"`crop` ({wants}) is larger than an image of {has}: pass a smaller one, or a --resize before it.")
            # half a pixel is rounded as in torchvision, to the even one
            top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
            image = image[top : top + height, left : left + width]
        return np.ascontiguousarray(image)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        (side,) = self.resize
        # the longer side is rounded down, as in torchvision
        return (int(side * height / width), side) if width <= height else (side, int(side * width / height))


def _resized(image: Array, size: tuple[int, int], interpolation: str) -> Array:
    """Return the image with another height and width, by Pillow; it averages over what it makes smaller."""
    if image.shape[:2] == size:
        return image
    pillow = image_package("PIL.Image", "`resize`")
    kind = pillow.Resampling[interpolation.upper()]
    whole = image.dtype == np.uint8
    if whole and image.shape[-1] == 3:
        return np.asarray(pillow.fromarray(image).resize(size[::-1], kind))
    # channel by channel: Pillow knows neither 16 bits nor floats of several channels
    planes: list[Any] = [np.ascontiguousarray(image[..., place]) for place in range(image.shape[-1])]
    made = [np.asarray(pillow.fromarray(plane if whole else plane.astype(np.float32)).resize(size[::-1], kind)) for plane in planes]
    return np.stack(made, axis=-1).astype(image.dtype)
