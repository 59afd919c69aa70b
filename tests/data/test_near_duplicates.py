"""Near duplicates: planted ones are found, pictures that only resemble each other are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, zoom

import optimize.data.near_duplicates
from optimize.data.near_duplicates import ImageHashes, correlation, near_duplicate_pairs

Images = npt.NDArray[Any]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def _cells(count: int, size: int = 32, seed: int = 0, channels: int = 3) -> Images:
    """Smooth pictures of one kind: a disc in the middle with a texture of its own, on a light ground, uint8 (N, size, size, C)."""
    draw = np.random.default_rng(seed)
    away = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    texture = gaussian_filter(draw.normal(size=(count, size, size, channels)), (0, size / 12, size / 12, 0))
    disc = (away < draw.uniform(0.5, 0.8, (count, 1, 1)))[..., None]
    images = 220 - disc * 110 + 30 * texture / texture.std()
    return np.clip(images.round(), 0, 255).astype(np.uint8)


def _stored_again(images: Images) -> Images:
    """What JPEG does: brightness and two colour differences in blocks of 8 x 8, their cosine coefficients rounded."""
    from scipy.fft import dctn, idctn

    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // 8, 8, width // 8, 8, channels).astype(float)
    step = 6 + 3 * np.add.outer(np.arange(8), np.arange(8))[:, None, :, None]
    rounded = idctn(np.round(dctn(blocks, axes=(2, 4), norm="ortho") / step) * step, axes=(2, 4), norm="ortho")
    return np.clip(rounded.round(), 0, 255).astype(np.uint8).reshape(images.shape)


def _brighter(images: Images) -> Images:
    return np.clip(images * 1.05, 0, 255).round().astype(np.uint8)


def _shifted(images: Images) -> Images:
    return np.concatenate([images[:, :, :1], images[:, :, :-1]], axis=2)


def _resized(images: Images) -> Images:
    half = zoom(images.astype(float), (1, 0.75, 0.75, 1), order=1, grid_mode=True, mode="nearest")
    back = zoom(half, (1, 4 / 3, 4 / 3, 1), order=1, grid_mode=True, mode="nearest")
    assert back.shape == images.shape
    return np.clip(back.round(), 0, 255).astype(np.uint8)


def _noisy(images: Images) -> Images:
    return np.clip(images + np.random.default_rng(5).normal(0, 4, images.shape), 0, 255).round().astype(np.uint8)


CHANGES: dict[str, Callable[[Images], Images]] = {
    "stored again": _stored_again,
    "brighter": _brighter,
    "shifted": _shifted,
    "resized": _resized,
    "noisy": _noisy,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [32, 64])
def test_planted_near_duplicates_are_found_and_nothing_else(change: str, size: int) -> None:
    others, some = _cells(60, size, seed=1), _cells(60, size, seed=2)
    planted = [(3, 50), (17, 4), (59, 31)]
    for row, like in planted:
        some[row] = CHANGES[change](others[like : like + 1])[0]
        assert not np.array_equal(some[row], others[like])
    assert sorted(map(tuple, near_duplicate_pairs(ImageHashes.of(some), ImageHashes.of(others)).tolist())) == planted


def test_what_resembles_is_no_duplicate() -> None:
    """The very reason for the fine look: the hashes of some of these pairs agree."""
    some, others = ImageHashes.of(_cells(300, seed=1)), ImageHashes.of(_cells(300, seed=2))
    assert (some.signs @ others.signs.T >= 64 - 2 * optimize.data.near_duplicates.HASH_BITS).sum() > 100
    assert near_duplicate_pairs(some, others).shape == (0, 2)


@pytest.mark.parametrize("form", ["grey", "grey floats", "floats", "volume", "float volume", "signal"])
def test_any_layout(form: str) -> None:
    some, others = _cells(40, seed=1), _cells(40, seed=2)
    some[7] = _brighter(others[9:10])[0]
    forms: dict[str, Callable[[Images], Images]] = {
        "grey": lambda images: images[..., 0],
        "grey floats": lambda images: images[..., 0][:, None] / np.float32(7),
        "floats": lambda images: np.moveaxis(images, -1, 1).astype(np.float64) - 300,
        "volume": lambda images: np.stack([images, images[:, ::-1], 255 - images], axis=1)[..., :2],
        "float volume": lambda images: np.stack([images[..., 0]] * 9, axis=1)[:, None].astype(np.float32),
        "signal": lambda images: images[:, 16, :, :1].repeat(4, axis=1),
    }
    looks = [ImageHashes.of(forms[form](images)) for images in (some, others)]
    if form == "signal":  # its shorter side is its only one; there is nothing to shift it against
        assert near_duplicate_pairs(*looks).tolist() == []
    else:
        assert near_duplicate_pairs(*looks).tolist() == [[7, 9]]


def test_volumes_of_one_projection_are_told_apart() -> None:
    """Four slabs of depth are compared, not their mean alone."""
    slices = _cells(12, seed=3)[..., 0].reshape(3, 4, 32, 32)
    volume, turned = slices[:, :, None].repeat(2, 2).reshape(3, 8, 32, 32, 1), slices[:, ::-1, None].repeat(2, 2).reshape(3, 8, 32, 32, 1)
    assert near_duplicate_pairs(ImageHashes.of(volume), ImageHashes.of(turned)).tolist() == []
    assert sorted(near_duplicate_pairs(ImageHashes.of(volume), ImageHashes.of(_brighter(volume))).tolist()) == [[0, 0], [1, 1], [2, 2]]


def test_small_and_empty_images_are_like_none() -> None:
    tiny = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    assert near_duplicate_pairs(ImageHashes.of(tiny), ImageHashes.of(tiny)).tolist() == []
    images = _cells(20)
    images[4] = 0
    images[9], images[9, :, 16:] = 100, 101  # one grey level says no more than none
    pairs = sorted(near_duplicate_pairs(ImageHashes.of(images), ImageHashes.of(images)).tolist())
    assert pairs == [[row, row] for row in range(20) if row not in (4, 9)]
    black = np.zeros((5, 32, 32, 1), np.uint8)
    assert near_duplicate_pairs(ImageHashes.of(black), ImageHashes.of(black)).tolist() == []


def test_blocks_change_nothing_and_bound_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    images = _cells(50, seed=1)
    twice = ImageHashes.of(_noisy(images))
    whole = near_duplicate_pairs(twice, ImageHashes.of(images))
    assert sorted(whole.tolist()) == [[row, row] for row in range(50)]
    monkeypatch.setattr(optimize.data.near_duplicates, "BLOCK", 7)
    assert near_duplicate_pairs(twice, ImageHashes.of(images)).tolist() == whole.tolist()
    monkeypatch.setattr(optimize.data.near_duplicates, "MAX_FINE_PAIRS", 2)
    bounded = near_duplicate_pairs(twice, ImageHashes.of(images)).tolist()
    assert 8 <= len(bounded) <= 16
    assert all(row == like for row, like in bounded)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 5, 6), (3, 4, 7)]))
def test_correlation_is_the_best_of_nine_shifts(seed: int, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(seed)
    one, other = draw.normal(size=(2, *shape)).astype(np.float32)
    _, height, width = shape
    inner = other[:, 1:-1, 1:-1].ravel()
    moved = [one[:, y : y + height - 2, x : x + width - 2].ravel() for y, x in product(range(3), repeat=2)]
    want = max(np.corrcoef(each, inner)[0, 1] for each in moved)
    assert correlation(one[None], other[None])[0] == pytest.approx(want, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 24))
def test_areas_average(size: int, count: int) -> None:
    """Against repeating each pixel `count` times and each area `size` times."""
    values = np.random.default_rng(size).normal(size=size)
    fine = values.repeat(count).reshape(count, size).mean(1)
    np.testing.assert_allclose(optimize.data.near_duplicates._areas(size, count) @ values.astype(np.float32), fine, atol=1e-5)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data: {SHARED} does not exist")
def test_of_the_blood_cells_one_photograph_was_stored_twice_and_four_are_the_same_file() -> None:
    with np.load(SHARED / "bloodmnist_rebuilt_28.npz") as data:
        train, test, names = data["train_images"], data["test_images"], [data[f"{split}_names"] for split in ("train", "test")]
        val = data["val_images"]
    looks = ImageHashes.of(train)
    pairs = near_duplicate_pairs(looks, ImageHashes.of(test)).tolist()
    assert [(names[0][row], names[1][like]) for row, like in pairs if not np.array_equal(train[row], test[like])] == [
        ("MO_415531.jpg", "MO_231316.jpg")
    ]
    assert all(np.array_equal(train[row], val[like]) for row, like in near_duplicate_pairs(looks, ImageHashes.of(val)).tolist())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data: {SHARED} does not exist")
def test_no_two_brains_are_taken_for_one() -> None:
    with np.load(SHARED / "lgg_mri_seg_128.npz") as data:
        looks = {split: ImageHashes.of(data[f"{split}_images"]) for split in ("train", "val", "test")}
    assert near_duplicate_pairs(looks["train"], looks["val"]).tolist() == near_duplicate_pairs(looks["train"], looks["test"]).tolist() == []
