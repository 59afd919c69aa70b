"""Each image by its own mean and std, against numpy; the rest of `Preprocessing` is in `test_dataset.py`."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
STANDARDIZE = Preprocessing(standardize="image")


def by_hand(images: np.ndarray, epsilon: float) -> np.ndarray:
    """(N, C, *spatial) float64."""
    axes = tuple(range(2, images.ndim))
    return (images - images.mean(axes, keepdims=True)) / (images.std(axes, keepdims=True) + epsilon)


def test_whole_numbers_are_taken_as_stored_and_the_std_gets_one_more() -> None:
    inputs = STANDARDIZE(IMAGES)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, by_hand(np.moveaxis(IMAGES, -1, 1).astype(float), 1.0), atol=1e-6)


def test_floats_get_next_to_nothing() -> None:
    images = np.random.default_rng(1).normal(7, 3, (4, 2, 5, 6, 3))
    inputs = STANDARDIZE(images)
    np.testing.assert_allclose(inputs, by_hand(images, 1e-6), atol=1e-5)
    np.testing.assert_allclose(inputs.mean((2, 3, 4)), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std((2, 3, 4)), 1, atol=1e-5)


@pytest.mark.parametrize("image", [np.full((1, 4, 4), 77, np.uint8), np.full((1, 1, 4, 4), 0.3, np.float32)])
def test_an_image_of_one_grey_becomes_zeros(image: np.ndarray) -> None:
    np.testing.assert_allclose(STANDARDIZE(image), np.zeros((1, 1, 4, 4)), atol=0.05)


def test_an_image_does_not_depend_on_the_others_nor_on_the_padding() -> None:
    padded = Preprocessing(pad=2, standardize="image")
    inputs = padded(IMAGES)
    np.testing.assert_array_equal(inputs[3:4], padded(IMAGES[3:4]))
    np.testing.assert_array_equal(padded.inner(inputs), STANDARDIZE(IMAGES))
    padded.inner(inputs)[...] = 0
    assert not inputs.any()


def test_what_it_excludes() -> None:
    with pytest.raises(InputError, match=r"`standardize` \(=image\) excludes `mean` \(=0.5\) and `std`: pass one or the other"):
        Preprocessing((0.5,), (0.5,), standardize="image")
    with pytest.raises(InputError, match=r"`standardize` \(='volume'\) must be 'image'"):
        Preprocessing(standardize="volume")
