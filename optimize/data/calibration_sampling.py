"""Choose the unlabelled inputs that a repair is fitted on: inputs of rare classes, and inputs on which the original is uncertain, first.

In a uniform sample most inputs belong to the common classes and are easy. A repair fitted on them keeps what they need and loses the rest.
So the chance of an input falls with how often the original predicts its class, and with the lead of that class over the runner-up:

    chance  ~  sum over positions of  1 / (count of the predicted class) / (1 + largest logit - second largest)

A classifier has one position per input; a segmentation net has one per pixel, so that every class, the background too, has the same say,
and an input is drawn more often the more of a rare class is in it.

Example: 90 of 100 inputs are predicted A and 10 B, all with a lead of 1. An input of A has weight 1 / 90 / 2, one of B 1 / 10 / 2.
So an input of B is nine times as likely, and each class has the same chance as a whole. An input of B with a lead of 0 counts twice.

No label is used. Sampling without replacement uses the exponential race of Efraimidis and Spirakis (2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from optimize.candidate import Candidate, Floats
from optimize.data.dataset import Split
from optimize.data.output_meaning import logits, stand_alone
from optimize.graph.macs import macs
from optimize.progress import track

MAX_INPUTS, MIN_INPUTS = 2048, 256
"""Bounds of the number of inputs that are fitted."""
MAC_BUDGET = 7 * 10**11
"""Most multiply–accumulates of one pass over the chosen inputs: a heavy network is repaired on fewer inputs."""
FITTED_BYTES, LEAST_BY_BYTES = 1 << 29, 64
"""Bytes of all chosen inputs that are not exceeded, unless they would be fewer than `LEAST_BY_BYTES`: 891 images of 224 x 224 in colour."""
MIN_POOL, POOL = 2, 4
"""Inputs that are evaluated for each one that is chosen: at least, and at most."""
STEP = 64
"""Inputs that are evaluated before it is asked whether they are enough."""
LEAST_UNSEEN, SHARE_UNSEEN = 32, 4
"""At least 32 inputs are kept unseen, or none; at most one for every four that are fitted."""
UNSEEN_BYTES = 1 << 28


class Unlabelled(NamedTuple):
    """Inputs without labels, ready for the network.

    Attributes:
        fitted: inputs to fit repairs on, (N, C, *spatial).
        unseen: inputs to check repairs on, (M, C, *spatial), sampled in the same way from what is left, of other patients where these are
            known; None where too little is left.
    """

    fitted: Floats
    unseen: Floats | None


def unlabelled(original: Candidate, splits: Sequence[Split], seed: int) -> Unlabelled:
    """Choose inputs from splits.

    Args:
        original: the network before any step.
        splits: splits that neither decide nor test anything: calibration, and train if there is one.
        seed: seed of the sampling.
    """
    count = fitted_count(macs(original), 4 * original.example.numel())
    rng = np.random.default_rng(seed)
    # item k of the pool is item places[k] of splits[owners[k]]
    owners = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    places = np.concatenate([np.arange(len(split)) for split in splits])
    # Weights cost a pass of the network, so they are computed for a uniform sample of the items only, and for no more than are needed.
    pool = rng.permutation(len(owners))[: POOL * count]
    weights = _sampling_weights(original, splits, owners[pool], places[pool], count)
    pool = pool[: len(weights)]
    weights, pool = weights[np.argsort(pool)], np.sort(pool)
    owners, places = owners[pool], places[pool]
    # The exponential race: each input arrives at a random time of mean 1 / chance. The first to arrive are a weighted sample without
    # replacement.
    order = np.argsort(rng.exponential(size=len(pool)) / weights)

    def inputs(rows: np.ndarray) -> Floats:
        rows = np.sort(rows)
        # filled batch by batch: joined at the end, all inputs would be in memory twice
        filled = np.empty((len(rows), *original.example.shape[1:]), np.float32)
        done = 0
        for k, split in enumerate(splits):
            mine = places[rows[owners[rows] == k]]
            for start in range(0, len(mine), split.batch_size):
                batch = split.inputs(mine[start : start + split.batch_size])
                filled[done : done + len(batch)] = batch
                done += len(batch)
        return filled

    # never at the expense of the fitted inputs: only what the pool has beyond them can be kept unseen
    spare = max(0, min(count // SHARE_UNSEEN, len(pool) - count, UNSEEN_BYTES // (4 * original.example.numel())))
    people = _patient_numbers(splits, owners, places)
    # A repair may not be checked on a patient that it was fitted on, so whole patients are held out where they are known.
    if people is None:
        first = order[: count + spare]
        held = rng.permutation(len(first)) < spare
        fitted, unseen = first[~held], first[held]
    else:
        held = _held_out(people, spare, rng)[order]
        fitted, unseen = order[~held][:count], order[held]
    return Unlabelled(inputs(fitted), inputs(unseen) if len(unseen) >= LEAST_UNSEEN else None)


def fitted_count(macs: int, input_bytes: int) -> int:
    """Return the number of inputs that are fitted, where there are as many.

    Args:
        macs: multiply–accumulates of the network for one input.
        input_bytes: bytes of one input in float32.

    Example:
        >>> fitted_count(2 * 10**9, 4 * 3 * 224**2), fitted_count(10**6, 4 * 3 * 224**2), fitted_count(10**6, 4 * 3 * 32**2)
        (350, 891, 2048)
    """
    by_bytes = max(LEAST_BY_BYTES, FITTED_BYTES // max(1, input_bytes))
    return min(by_bytes, int(np.clip(MAC_BUDGET // max(1, macs), MIN_INPUTS, MAX_INPUTS)))


def _patient_numbers(splits: Sequence[Split], owners: np.ndarray, places: np.ndarray) -> np.ndarray | None:
    """Return a number for each item's patient; None where a split does not know its patients."""
    if any(split.patients is None for split in splits):
        return None
    names = [str(np.asarray(splits[k].patients)[place]) for k, place in zip(owners, places, strict=True)]
    return np.asarray(np.unique(names, return_inverse=True)[1])


def _held_out(people: np.ndarray, spare: int, rng: np.random.Generator) -> np.ndarray:
    """Return which items are held out: those of random patients, as many patients as have no more than `spare` items in total."""
    order = rng.permutation(people.max() + 1)
    items = np.cumsum(np.bincount(people)[order])
    return np.isin(people, order[: np.searchsorted(items, spare, side="right")])


def _sampling_weights(
    original: Candidate, splits: Sequence[Split], owners: np.ndarray, places: np.ndarray, count: int
) -> npt.NDArray[np.float64]:
    """Return the weights of the first items, as many as it takes to choose `count` of them in which every class has its share.

    Example: 256 items are to be chosen, of 8 classes. After 512 items each class was predicted at least 32 times: these are enough.
    With a class that is predicted for one item in fifty, 1,024 items are evaluated, which is the limit.
    """
    masks = splits[0].labels.dtype == bool
    tallies: list[tuple[np.ndarray, np.ndarray]] = []
    done, steps = 0, range(-(-len(owners) // STEP))
    for step in track(steps, "choose inputs for repair"):
        part = np.arange(step * STEP, min((step + 1) * STEP, len(owners)))
        tallies.append(_tallies(original, splits, owners[part], places[part], masks=masks))
        done += len(part)
        # of twice as many as are chosen, the uncertain half can be preferred
        if done >= MIN_POOL * count and _all_seen(np.concatenate([counts for counts, _ in tallies]), count):
            break
    # each class has the same total weight, shared among the positions where it is predicted
    counts, weights = (np.concatenate(parts) for parts in zip(*tallies, strict=True))
    return np.asarray((weights / np.maximum(counts.sum(0), 1)).sum(1), dtype=np.float64)


def _all_seen(counts: np.ndarray, count: int) -> bool:
    """Return whether every class that is predicted at all has its share of `count` items among those evaluated.

    A class counts by its effective number of items, the square of its sum over the sum of its squares: of an item that has nearly all of a
    class's positions the class has one item, however many others have a few.

    Args:
        counts: positions at which each class is predicted, (n, K).
        count: number of items to choose.
    """
    total, squares = counts.sum(0), np.square(counts).sum(0)
    seen = total > 0
    effective = np.square(total[seen]) / squares[seen]
    return bool(effective.min() >= count / len(effective))


def _tallies(
    original: Candidate, splits: Sequence[Split], owners: np.ndarray, places: np.ndarray, *, masks: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tallies of items, in their order."""
    rows, parts = [], []
    for k, split in enumerate(splits):
        mine = np.flatnonzero(owners == k)
        for batch in (mine[start : start + split.batch_size] for start in range(0, len(mine), split.batch_size)):
            outputs = original.predict(split.inputs(places[batch]))
            # a single output of two classes is a yes or no as that of a mask is
            alone = masks or stand_alone(outputs.shape, original.outputs)
            parts.append(_tally(logits(torch.from_numpy(outputs), original.outputs, exclusive=not alone).numpy(), masks=alone))
            rows.append(batch)
    order = np.argsort(np.concatenate(rows))
    counts, weights = (np.concatenate(tally)[order] for tally in zip(*parts, strict=True))
    return counts, weights


def _tally(outputs: Floats, *, masks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each case and predicted class, (n, K): the number of positions, and the sum of 1 / (1 + lead) over them."""
    logits = np.nan_to_num(outputs).reshape(*outputs.shape[:2], -1)
    if masks:  # what is above 0 is foreground: the background's logit is 0
        logits = np.concatenate([np.zeros_like(logits[:, :1]), logits], axis=1)
    cases, classes, _ = logits.shape
    # the two largest logits of each position; the softmax is monotone, so their order is that of the probabilities
    two = np.partition(logits, -2, axis=1)[:, -2:].astype(np.float64)
    bins = (np.arange(cases)[:, None] * classes + logits.argmax(1)).reshape(-1)
    doubts = 1 / (1 + (two[:, 1] - two[:, 0])).reshape(-1)
    counts, weights = (np.bincount(bins, weight, cases * classes).reshape(cases, classes) for weight in (None, doubts))
    return counts, weights
