"""Scores made up for tests: so many cases of each class, of which so many are got wrong."""

from __future__ import annotations

import numpy as np

from optimize.guard.classification_score import ClassificationScore
from tests.guard.made import table

CASES = 100_000
"""Of each class; so many that chance adds next to nothing."""


def scored(*wrong: float, cases: int = CASES) -> ClassificationScore:
    """A score that gets these shares of each class wrong."""
    lost = np.round(np.array(wrong) * cases).astype(np.int64)
    confusion = np.diag(cases - lost) + np.roll(np.diag(lost), 1, axis=1)
    return table(confusion.tolist(), "abcdefgh"[: len(wrong)])
