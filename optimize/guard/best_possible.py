"""The guard-rails of a perfect candidate: what the size of a split alone can decide."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.data.dataset import Split
from optimize.data.masks import perfect
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail
from optimize.guard.score import score
from optimize.guard.verdict import judge


def best_possible_rails(split: Split, classes: Sequence[str], limits: Limits) -> tuple[Rail, ...]:
    """Return the guard-rails of a candidate without any error, against an original without any error.

    Only the labels, patients and subgroups of the split are read, and no image.

    Args:
        split: the split whose size is in question.
        classes: names of the labels.
        limits: the guard-rails, at the confidence that counts.
    """
    answers = ((perfect(split.labels[batch], len(classes), split.kind), split.labels[batch]) for batch in split.batches)
    best = score(split.task, answers, tuple(classes), split.patients, split.groups)
    return judge(limits, best, best).rails
