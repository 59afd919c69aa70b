"""Sizes of image files: by the rules of torchvision, written out here, and through a folder of images of different sizes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import optimize as opt
from optimize.data.dataset import load_data
from optimize.data.resizing import Resizing
from optimize.errors import InputError

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "resize", "expected"),
    [
        *[((40, 50), (20,), (20, 25)), ((50, 40), (20,), (25, 20)), ((41, 50), (20,), (20, 24))],
        *[((40, 50), (30, 10), (30, 10)), ((8, 8), (8,), (8, 8))],
    ],
)
def test_the_shorter_side_or_both(shape: tuple[int, int], resize: tuple[int, ...], expected: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (*shape, 3), np.uint8)
    made = Resizing(resize)(image)
    assert made.shape == (*expected, 3)
    np.testing.assert_array_equal(made, np.asarray(Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR)))


def test_the_middle_is_cut_out() -> None:
    np.testing.assert_array_equal(Resizing(crop=(20,))(PHOTO), PHOTO[10:30, 15:35])
    np.testing.assert_array_equal(Resizing(crop=(39, 10))(PHOTO), PHOTO[0:39, 20:30])


def test_other_types_are_resized_channel_by_channel() -> None:
    floats = (PHOTO / np.float32(255)).astype(np.float32)
    made = Resizing((20,))(floats)
    assert (made.dtype, made.shape) == (np.float32, (20, 25, 3))
    np.testing.assert_allclose(made * 255, Resizing((20,))(PHOTO), atol=1)
    assert Resizing((20,))(PHOTO[..., :1]).shape == (20, 25, 1)
    assert Resizing((5, 5), interpolation="nearest")(np.full((9, 9, 2), 7, np.uint8)).tolist() == np.full((5, 5, 2), 7).tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resize": (1, 2, 3)}, r"`resize` \(=1,2,3\) must be one side or height,width"),
        ({"crop": (0,)}, r"`crop` \(=0\) must be one side"),
        ({"interpolation": "bilinaer"}, r"`interpolation` \(='bilinaer'\) must be one of bilinear"),
    ],
)
def test_wrong_settings(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Resizing(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`crop` \(60 x 60\) is larger than an image of 40 x 50"):
        Resizing(crop=(60,))(PHOTO)


def test_a_folder_of_images_of_all_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZE_IMAGE_CACHE", "off")
    for split in ("train", "val", "test"):
        for place in range(8):
            folder = tmp_path / split / "ab"[place % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (20 + place, 30 - place, 3), np.uint8)).save(folder / f"{place}.png")
    data = load_data(str(tmp_path), input_shape=(3, 16, 16), resizing=Resizing((18,), (16,)))
    assert data.test.inputs().shape == (8, 3, 16, 16)
    with Image.open(tmp_path / "test" / "a" / "0.png") as first:
        expected = Resizing((18,), (16,))(np.asarray(first))
    np.testing.assert_array_equal(data.test.images[0], expected)
    with pytest.raises(InputError, match=r"pass --resize H,W|--resize 16,16"):
        load_data(str(tmp_path), input_shape=(3, 16, 16))


def test_arrays_are_not_resized() -> None:
    splits = {name: (np.zeros((8, 8, 8), np.uint8), np.arange(8) % 2) for name in ("val", "test")}
    with pytest.raises(InputError, match="`resize` and `crop` are for image files, and the data are arrays"):
        opt.load_data(splits, resizing=Resizing((4,)))


def test_a_resize_without_pillow_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(InputError, match=r"`resize` needs pillow: pip install 'optimize\[files\]'"):
        Resizing((20,))(PHOTO)


def test_a_prepared_data_set_is_not_resized_again() -> None:
    rng = np.random.default_rng(0)
    data = opt.load_data({name: (rng.integers(0, 256, (8, 8, 8), np.uint8), np.arange(8) % 2) for name in ("val", "test")})
    with pytest.raises(InputError, match=r"`resize` \(=\(8, 8\)\) is said twice, as a prepared `Dataset` holds it"):
        opt.compress(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), data, target="onnxruntime", resize=(8, 8))
