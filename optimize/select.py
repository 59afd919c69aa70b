"""Which unlabelled inputs a repair looks at: those of rare classes and those the original is unsure of more often.

Drawn at random, most inputs belong to the common classes and are easy; a repair fitted on them keeps what they need and lets the rest go.
So each input's chance is inverse to how often the original predicts its class, and falls with its lead over the runner-up:

    chance  ~  1 / (count of the predicted class) / (1 + largest logit - second largest)

No label is looked at. Drawing without replacement uses the exponential race of Efraimidis and Spirakis (2006).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.candidate import Candidate, Floats
from optimize.data import Split
from optimize.measure.macs import macs
from optimize.progress import track
from optimize.search.score import CASES_AT_ONCE

MOST, LEAST = 2048, 256
MAC_BUDGET = 2 * 10**12
"""Of one pass over the chosen inputs: a heavy network is repaired on fewer."""
POOL = 4
"""Inputs looked at for each one that is chosen."""


def unlabelled(original: Candidate, splits: Sequence[Split], seed: int) -> Floats:
    """Choose inputs for repair, (N, C, *spatial), from splits that neither decide nor test anything."""
    count = int(np.clip(MAC_BUDGET // max(1, macs(original)), LEAST, MOST))
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    places = np.concatenate([np.arange(len(split)) for split in splits])
    pool = np.sort(rng.permutation(len(owners))[: POOL * count])
    chance = _chances(original, splits, owners[pool], places[pool])
    chosen = np.sort(pool[np.argsort(rng.exponential(size=len(pool)) / chance)[:count]])
    return np.concatenate([split.inputs(places[chosen[owners[chosen] == k]]) for k, split in enumerate(splits)])


def _chances(original: Candidate, splits: Sequence[Split], owners: np.ndarray, places: np.ndarray) -> np.ndarray:
    outputs = []
    for k, split in enumerate(splits):
        mine = places[owners == k]
        for start in track(range(0, len(mine), CASES_AT_ONCE), "choose inputs for repair"):
            outputs.append(original.predict(split.inputs(mine[start : start + CASES_AT_ONCE])))
    logits = np.nan_to_num(np.concatenate(outputs))
    two = np.sort(logits, axis=1)[:, -2:]
    lead = two[:, -1] - two[:, 0]
    return np.asarray(1 / np.bincount(logits.argmax(1))[logits.argmax(1)] / (1 + lead))
