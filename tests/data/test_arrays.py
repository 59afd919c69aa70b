"""Places from all over; what is read from files is tested with the data that it becomes, in `test_dataset.py`."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.data.arrays import spread


@pytest.mark.parametrize(("count", "most"), [(200, 64), (65, 64), (64, 64), (5, 64), (1, 64)])
def test_places_come_from_all_over(count: int, most: int) -> None:
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)
    assert np.diff(places).max(initial=0) <= count // min(count, most) + 1
