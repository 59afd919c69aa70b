"""A split is scored in batches, whatever predicts."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.guard.evaluate import score_split
from tests import runs


def test_a_split_is_scored_in_batches_by_any_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def predict(inputs: np.ndarray) -> np.ndarray:
        sizes.append(len(inputs))
        return np.eye(4, dtype=np.float32)[np.zeros(len(inputs), dtype=np.int64)]

    monkeypatch.setattr("optimize.data.split.CASES_AT_ONCE", 64)
    found = score_split(predict, runs.split(), runs.CLASSES, "")
    assert sizes == [64, 64, 64, 8]
    assert found.confusion[:, 0].tolist() == [50, 50, 50, 50]
