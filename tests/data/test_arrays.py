"""Places from all over; what is read from files is tested with the data that it becomes, in `test_dataset.py`."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.data.arrays import checked_images, spread
from optimize.errors import InputError


@pytest.mark.parametrize(("count", "most"), [(200, 64), (65, 64), (64, 64), (5, 64), (1, 64)])
def test_places_come_from_all_over(count: int, most: int) -> None:
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    assert np.diff(places).max(initial=0) <= count // min(count, most) + 1


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((6, 5), "repeat them"),
        ((6, 5, 1), "repeat them"),
        ((1, 6, 5), "repeat them"),
        ((6, 5, 4), "images[..., :3]"),
        ((6, 5, 2), "have 2 channels and the network reads 3"),
        ((7, 5, 4), "resize them"),
        ((7, 5), "resize them"),
        ((7, 5, 3), "resize them"),
    ],
)
def test_the_remedy_is_about_what_differs(shape: tuple[int, ...], said: str) -> None:
    arrays = {"test_images": np.zeros((2, *shape), np.uint8)}
    with pytest.raises(InputError) as refused:
        checked_images(arrays, "test", (3, 6, 5), None)
    assert said in str(refused.value)
    assert ("resize" in str(refused.value)) == ("resize" in said)
