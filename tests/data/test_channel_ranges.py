from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.data.channel_ranges import APART, SHARE, ChannelRanges
from optimize.data.dataset import Preprocessing, Split


def _extremes(lowest: Any, highest: Any) -> ChannelRanges:
    """Of one channel."""
    return ChannelRanges(*(np.asarray(each, dtype=np.float32).reshape(len(each), -1) for each in (lowest, highest)))


def test_extremes_are_of_what_the_network_reads_without_the_padding() -> None:
    images = np.array([[[[0, 51], [255, 102]]], [[[51, 204], [102, 153]]]], dtype=np.uint8)  # (2, 1, 2, 2)
    split = Split("calibration", images, np.zeros(2, np.int64), Preprocessing((0.2, 0.4), (0.5, 0.2), pad=3))
    found = ChannelRanges.of(split)
    np.testing.assert_allclose(found.lowest, [[-0.4, -1.0], [0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(found.highest, [[1.6, 0.0], [0.4, 2.0]], atol=1e-6)


def test_batches_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(20, 2, 5, 4)).astype(np.float32)
    monkeypatch.setattr("optimize.data.split.CASES_AT_ONCE", 3)
    found = ChannelRanges.of(Split("guard", images, np.zeros(20, np.int64), Preprocessing()))
    np.testing.assert_array_equal(found.highest, images.max((2, 3)))
    np.testing.assert_array_equal(found.lowest, images.min((2, 3)))


@pytest.mark.parametrize(("reach", "out"), [(1.4, False), (1.6, True), (90.0, True), (np.float32(3e38), True)])
@pytest.mark.parametrize("low", [True, False])
def test_one_image_beyond_by_half_the_range_is_an_outlier(reach: float, low: bool, out: bool) -> None:
    """All others hold 0 to 1."""
    ends = np.zeros(60), np.ones(60)
    ends[1 - low][13] = 1 - reach if low else reach
    assert _extremes(*ends).outliers().tolist() == ([13] if out else [])


def test_the_farthest_comes_first_in_any_channel() -> None:
    lowest, highest = np.zeros((200, 3)), np.ones((200, 3)) * (1, 10, 0)
    highest[5, 0], lowest[9, 1], highest[70, 2] = 3, -90, 0.5
    assert _extremes(lowest, highest).outliers().tolist() == [70, 9, 5]


def test_what_many_images_show_is_no_outlier() -> None:
    """Two of a hundred are not the rest; three are more than that."""
    assert SHARE * 100 == 2
    highest = np.ones(100)
    highest[:2] = 5
    assert _extremes(np.zeros(100), highest).outliers().tolist() == [0, 1]
    highest[2] = 5
    assert _extremes(np.zeros(100), highest).outliers().tolist() == []


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 150), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 3.0]))
def test_outliers_against_the_rule_by_hand(count: int, seed: int, tail: float) -> None:
    draw = np.random.default_rng(seed)
    lowest = -np.exp(tail * draw.normal(size=count)).astype(np.float32)
    highest = np.exp(tail * draw.normal(size=count)).astype(np.float32)
    few = min(max(1, int(0.02 * count)), count - 1)
    low, high = float(sorted(lowest)[few]), float(sorted(highest, reverse=True)[few])
    by_hand = {
        item
        for item in range(count)
        if max(highest[item] - np.float32(high), np.float32(low) - lowest[item]) > APART * np.float32(high - low)
    }
    assert set(_extremes(lowest, highest).outliers().tolist()) == by_hand


def test_constant_images_have_no_outlier() -> None:
    assert _extremes(np.zeros(30), np.zeros(30)).outliers().tolist() == []
    assert _extremes([2.0], [3.0]).outliers().tolist() == []


def test_what_is_clipped() -> None:
    own = _extremes([0, -1.0, 0], [1, 0.5, 3])  # -1 to 3
    others = _extremes([-1, -1.1, 0, -1.3, 0], [3, 0, 3.1, 0, 3.3])
    assert own.clips(others).tolist() == [False, True, True, True, True]
    assert own.clips(others, 0.05).tolist() == [False, False, False, True, True]
