"""How well any runtime's predict does on a split."""

from __future__ import annotations

from optimize.candidate import Predict
from optimize.data.dataset import Split
from optimize.guard.score import Score, score
from optimize.progress import track


def score_split(predict: Predict, split: Split, classes: tuple[str, ...], description: str) -> Score:
    """Score any runtime's predict on a split, in batches so that memory is bounded."""
    inner = split.preprocessing.inner
    answers = ((inner(predict(split.inputs(batch))), split.labels[batch]) for batch in track(split.batches, description))
    return score(split.task, answers, classes, split.patients, split.groups, split.outputs)
