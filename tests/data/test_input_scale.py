"""Float images beside mean and std."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.data.input_scale import require_scale
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError

IMAGES = np.random.default_rng(0).uniform(0, 1, (10, 3, 8, 8)).astype(np.float32)
HALF = Preprocessing((0.5,), (0.5,))


def test_images_of_the_right_scale_pass() -> None:
    require_scale({"train": IMAGES, "val": IMAGES * 1.5, "test": IMAGES}, HALF)
    require_scale({"val": IMAGES * 255}, Preprocessing((127.5,), (127.5,)))
    require_scale({"val": IMAGES * 4000 - 1000}, Preprocessing((-200.0,), (300.0,)))  # Hounsfield units
    require_scale({"val": IMAGES * 255}, Preprocessing())  # taken as they are
    require_scale({"val": IMAGES * 255}, Preprocessing((0.0,), (1.0,)))  # likewise
    require_scale({"val": (IMAGES * 255).astype(np.uint8)}, HALF)  # divided by 255 first
    dark = np.zeros_like(IMAGES)
    dark[0, 0, 0, 0] = 1
    require_scale({"val": dark}, HALF)


@pytest.mark.parametrize(
    ("images", "preprocessing", "words"),
    [
        (IMAGES * 255, HALF, r"`val_images` are floats from .+ to 25\d.*, and mean \(=0.5\) and std \(=0.5\) .* divide the images by 255"),
        (IMAGES, Preprocessing((123.7,) * 3, (58.4,) * 3), "for images in 0..255: divide mean and std by 255"),
        (IMAGES * 1e5, Preprocessing((3.0,), (2.0,)), "of another scale: write them in the scale of the images"),
    ],
)
def test_images_of_another_scale_are_refused(images: np.ndarray, preprocessing: Preprocessing, words: str) -> None:
    with pytest.raises(InputError, match=words):
        require_scale({"val": images}, preprocessing)


def test_splits_of_different_scales_are_refused() -> None:
    with pytest.raises(InputError, match=r"`train_images` reach to 25\d.* and `test_images` only to .*: all splits must have one scale"):
        require_scale({"train": IMAGES * 255, "val": IMAGES * 255, "test": IMAGES}, Preprocessing())
