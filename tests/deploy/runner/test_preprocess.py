"""Preprocessing is compared, bit for bit, with that of a run; what artifact.json says of it is written by the run's own function."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from optimize.data.preprocessing import Preprocessing as OfTheRun
from optimize.deploy.runner import preprocess
from optimize.deploy.runner.errors import Refused, WrongInput
from optimize.run.usage import _steps
from tests.deploy.runner.handmade import FLOATS, STORED

VALUES = st.floats(-3, 3, width=32)
SPREADS = st.floats(1 / 128, 3, width=32)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_it_gives_the_bits_of_the_run(data: st.DataObject) -> None:
    spatial = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    count, channels, pad = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    whole = len(spatial) > 1 and data.draw(st.booleans())
    shape = (count, *spatial, channels) if whole else (count, channels, *spatial)
    if whole:
        images: Any = data.draw(arrays.arrays(np.uint8, shape))
    else:
        images = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32)))
    way = data.draw(st.sampled_from(["plain", "one", "each", "image"]))
    length = {"one": 1, "each": channels}.get(way, 0)
    mean, std = (tuple(data.draw(st.lists(values, min_size=length, max_size=length))) for values in (VALUES, SPREADS))
    of_the_run = OfTheRun(mean, std, pad, "image" if way == "image" else None)
    stated = _steps(SimpleNamespace(preprocessing=of_the_run, images=images))  # type: ignore[arg-type]
    here = preprocess.read(stated, (channels, *(size + 2 * pad for size in spatial)))
    here.require(images)
    made, expected = here(images), of_the_run(images)
    assert made.tobytes() == expected.tobytes()
    assert made.shape == expected.shape
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(here.inner(made), of_the_run.inner(expected))


def test_grey_images_may_come_without_their_channel() -> None:
    here = preprocess.read(STORED, (1, 4, 4))
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    here.require(images)
    np.testing.assert_array_equal(here(images), OfTheRun((0.5,), (0.25,))(images))


@pytest.mark.parametrize(
    ("stated", "images", "words"),
    [
        (STORED, np.zeros((2, 4, 4, 3), np.uint8), "required is (N, 4, 4, 1), N >= 1"),
        (STORED, np.zeros((0, 4, 4, 1), np.uint8), "N >= 1"),
        (STORED, np.zeros((2, 4, 5), np.uint8), "have shape (2, 4, 5)"),
        (STORED, np.zeros((2, 4, 4), np.float32), "of type float32, the run's were uint8"),
        (STORED, np.zeros((2, 4, 4), np.int64), "of type int64"),
        (FLOATS, np.zeros((2, 1, 4, 4), np.uint8), "of type uint8, the run's were float"),
        (FLOATS, np.zeros((2, 4, 4), np.float32), "required is (N, 1, 4, 4)"),
        (FLOATS, np.full((2, 1, 4, 4), np.nan, np.float32), "not finite"),
    ],
)
def test_images_that_do_not_fit_are_refused_never_resized(stated: dict[str, Any], images: Any, words: str) -> None:
    with pytest.raises(WrongInput) as problem:
        preprocess.read(stated, (1, 4, 4)).require(images)
    assert words in str(problem.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"stored": "bfloat16"},
        {"scale": 0.5},
        {"scale": None},
        {"standardize": {"of": "batch", "added_to_std": 1}},
        {"standardize": {"of": "image"}},
        {"mean": [0.5, 0.5]},
        {"std": []},
        {"mean": ["x"]},
        {"pad": -1},
        {"pad": 2},
        {"pad": True},
        {"mean": None},
    ],
)
def test_steps_that_are_not_known_refuse_the_bundle(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="preprocessing that this runner does not know"):
        preprocess.read({**STORED, **changes}, (1, 4, 4))
