"""Lazy stacks against the arrays they stand for, with a count of what is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optimize.data.calibration_checks import check_calibration
from optimize.data.dataset import load_data
from optimize.data.lazy_images import BATCH_BYTES, LazyImages, joined, lazy_images, row_batches, taken
from optimize.data.split_assignment import identify
from optimize.errors import InputError

STORED = np.random.default_rng(0).integers(0, 256, (60, 18, 20, 3), np.uint8)


class Counted:
    """Decodes images of an array and keeps which ones, in order."""

    def __init__(self, images: np.ndarray = STORED) -> None:
        self.images, self.decoded = images, list[int]()

    def __call__(self, row: int) -> np.ndarray:
        self.decoded.append(row)
        return self.images[row]


def stack(images: np.ndarray = STORED) -> tuple[LazyImages, Counted]:
    """A lazy stack of the images, and what counts its decoding; the first image, decoded for its shape, is not counted."""
    counted = Counted(images)
    lazy = lazy_images(range(len(images)), counted)
    counted.decoded.clear()
    return lazy, counted


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(3, 9, 2),
        slice(5, 5),
        [7, 3, 3],
        np.array([59, 0]),
        np.arange(60) % 7 == 0,
        4,
        np.int64(-1),
        (5, 1),
        (slice(4), 0, -1),
    ],
    ids=str,
)
def test_indexing_gives_what_the_array_gives(index: Any) -> None:
    lazy, _ = stack()

    assert type(lazy[index]) is np.ndarray
    np.testing.assert_array_equal(lazy[index], STORED[index])
    np.testing.assert_array_equal(stack()[0].take(slice(None))[index], STORED[index])


def test_threads_keep_the_order() -> None:
    lazy = lazy_images(range(60), lambda row: STORED[row], parallel=True)

    np.testing.assert_array_equal(lazy[::-1], STORED[::-1])


def test_take_and_join_decode_nothing() -> None:
    lazy, counted = stack()
    order = np.array([0, 3, 1, 2])

    both = joined(lazy.take([5, 9]), lazy.take(np.array([7, 2])), order)
    mixed = joined(lazy.take([5, 9]), STORED[[7, 2]], order)

    assert not counted.decoded
    np.testing.assert_array_equal(both[:], STORED[[5, 2, 9, 7]])
    np.testing.assert_array_equal(mixed[:], STORED[[5, 2, 9, 7]])
    assert both.shape == mixed.shape == (4, 18, 20, 3)


def test_map_applies_to_images_of_any_shape() -> None:
    sizes = [np.full((4 + k, 6, 1), k, np.uint8) for k in range(3)]

    lazy = lazy_images(range(3), lambda row: sizes[row]).map(lambda image: image[:4, :5].astype(np.float32))

    assert lazy.shape == (3, 4, 5, 1)
    assert lazy.dtype == np.float32
    assert lazy[:].max((1, 2, 3)).tolist() == [0, 1, 2]


def test_an_image_of_another_shape_is_named() -> None:
    sizes = {"a.png": (4, 4, 1), "b.png": (5, 4, 1)}
    lazy = lazy_images(list(sizes), lambda name: np.zeros(sizes[name], np.uint8))

    with pytest.raises(InputError, match=r"image b\.png is 5x4x1 uint8, the first one is 4x4x1 uint8"):
        lazy[:]


def test_hashes_are_those_of_the_array_and_each_image_is_decoded_once() -> None:
    lazy, counted = stack()

    first, again = identify("test", lazy.take([3, 1])), identify("test", lazy)

    np.testing.assert_array_equal(again.content, identify("test", STORED).content)
    np.testing.assert_array_equal(first.content, again.content[[3, 1]])
    assert sorted(counted.decoded) == list(range(60))


def test_batches_are_bounded_by_bytes_and_complete() -> None:
    large = lazy_images(range(7), lambda _: np.zeros((1, 1), np.uint8))
    wide = LazyImages(large.sources, large.decode, (BATCH_BYTES // 3, 1), large.dtype, large.rows)
    wider = LazyImages(large.sources, large.decode, (BATCH_BYTES * 2, 1), large.dtype, large.rows)

    assert [(batch.start, batch.stop) for batch in row_batches(wide)] == [(0, 3), (3, 6), (6, 7)]
    assert len(list(row_batches(wider))) == 7
    assert taken(STORED, [1]).shape == (1, 18, 20, 3)


@pytest.mark.parametrize(
    "form", [lambda images: images, lambda images: np.moveaxis(images, -1, 1).astype(np.float32) / 255], ids=["u8", "f32"]
)
def test_a_data_set_of_lazy_stacks_is_that_of_arrays(form: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = form(STORED), np.arange(60) % 2
    rows = {"train": slice(0, 20), "val": slice(20, 40), "test": slice(40, 60)}
    largest = 0
    decode = LazyImages.__getitem__

    def watched(self: LazyImages, index: Any) -> np.ndarray:
        nonlocal largest
        batch = decode(self, index)
        largest = max(largest, len(batch)) if batch.ndim == 4 else largest
        return batch

    monkeypatch.setattr(LazyImages, "__getitem__", watched)
    # three images at a time, where whole arrays would be twenty
    monkeypatch.setattr("optimize.data.lazy_images.BATCH_BYTES", 3 * images[0].nbytes)
    monkeypatch.setattr("optimize.data.near_duplicates.VALUES_AT_ONCE", 3 * images[0].size)
    monkeypatch.setattr("optimize.data.split.CASES_AT_ONCE", 3)
    monkeypatch.setattr("optimize.data.input_scale.CASES", 3)

    whole = load_data({name: (images[part], labels[part]) for name, part in rows.items()})
    lazy = load_data({name: (stack(images)[0].take(part), labels[part]) for name, part in rows.items()})

    assert lazy.calibration.sha256 == whole.calibration.sha256
    assert lazy.test.sha256 == whole.test.sha256
    assert check_calibration(lazy) == check_calibration(whole)
    assert 0 < largest <= 3
    np.testing.assert_array_equal(lazy.guard.inputs(), whole.guard.inputs())


def test_channels_last_floats_are_rearranged_as_those_of_an_array() -> None:
    images, labels = STORED.astype(np.float32) / 255, np.arange(60) % 2

    whole = load_data({"val": (images[:40], labels[:40]), "test": (images[40:], labels[40:])}, input_shape=(3, 18, 20))
    lazies = {"val": (stack(images[:40])[0], labels[:40]), "test": (stack(images[40:])[0], labels[40:])}
    lazy = load_data(lazies, input_shape=(3, 18, 20))

    np.testing.assert_array_equal(lazy.test.inputs(), whole.test.inputs())
    assert lazy.test.sha256 == whole.test.sha256


def test_a_float_image_with_a_nan_is_found() -> None:
    images = STORED.astype(np.float32)
    images[50, 0, 0, 0] = np.nan

    with pytest.raises(InputError, match=r"`test_images`\[10\] holds NaN"):
        load_data({"val": (stack(images[:40])[0], np.arange(40) % 2), "test": (stack(images[40:])[0], np.arange(20) % 2)})
