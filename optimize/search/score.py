"""How well any runtime's predict does on a split."""

from __future__ import annotations

import numpy as np

from optimize.candidate import Predict
from optimize.data import Split
from optimize.guard.score import Score, score
from optimize.progress import track

CASES_AT_ONCE = 256


def score_split(predict: Predict, split: Split, classes: tuple[str, ...], description: str) -> Score:
    """Score any runtime's predict on a split, in batches so that memory is bounded."""
    starts = range(0, len(split), CASES_AT_ONCE)
    outputs = [predict(split.inputs(slice(start, start + CASES_AT_ONCE))) for start in track(starts, description)]
    return score(np.concatenate(outputs), split.labels, classes)
