"""The items of an epoch and their order: everything about it that is decided before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from optimize.candidate import Labelled
from optimize.errors import InputError
from optimize.graph.trace import Index

HELD_OUT_ONE_IN = 10
"""One item in ten is held out."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some items, as one process sees them.

    Args:
        rows: (n,) rows of the train split.
        mirrored: (n,) whether each item is mirrored along its last axis.
        share: size of this part times the number of processes, as a share of the whole batch; 1 where all parts are equally large.
    """

    rows: Index
    mirrored: npt.NDArray[np.bool_]
    share: float = 1.0

    def part(self, rank: int, size: int) -> Batch:
        """Return the part of process `rank` of `size`."""
        # every size-th item: parts differ by one item at most, and no order of the file falls to one process
        rows = self.rows[rank::size]
        return Batch(rows, self.mirrored[rank::size], len(rows) * size / len(self.rows))

    def inputs(self, train: Labelled) -> torch.Tensor:
        """Return the items, mirrored where the batch says so, (n, C, *spatial) float32."""
        return torch.from_numpy(self._flipped(train.inputs(self.rows)))

    def labels(self, train: Labelled) -> torch.Tensor:
        """Return the labels of the items, mirrored like these, (n,) or (n, …) int64."""
        labels = np.asarray(train.labels[self.rows])
        labels = labels if labels.dtype.kind == "f" else labels.astype(np.int64)
        return torch.from_numpy(self._flipped(labels) if labels.ndim > 1 else labels)

    def _flipped(self, arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy in which some items are mirrored along their last axis."""
        arrays = arrays.copy()  # the network may work in place
        arrays[self.mirrored] = arrays[self.mirrored][..., ::-1]
        return arrays


def unmirrored(rows: Index) -> Batch:
    """Return a batch of items that are not mirrored."""
    return Batch(rows, np.zeros(len(rows), dtype=bool))


def epoch_batches(rows: Index, batch: int, *, horizontal_flip: bool, seed: tuple[int, int]) -> list[Batch]:
    """Return all whole batches of an epoch; the few items left over, other ones each time, are not trained on.

    Args:
        rows: rows of the items to train on.
        batch: number of items in each batch.
        horizontal_flip: mirror each item with probability one half.
        seed: seed of the run, and number of the epoch.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(rows)
    mirrored = (draw.random(len(rows)) < 0.5) & horizontal_flip
    starts = range(0, len(rows) - batch + 1, batch)
    return [Batch(order[start : start + batch], mirrored[start : start + batch]) for start in starts]


def hold_out(train: Labelled, seed: int) -> tuple[Index, Index]:
    """Return rows to train on, and rows that judge every epoch: about a tenth, of each class alike, whole patients where there are ids.

    Raises:
        InputError: when there are too few items, or patients, to leave some of both.
    """
    patients = np.arange(len(train)) if train.patients is None else train.patients
    _, first, owners = np.unique(patients, return_index=True, return_inverse=True)
    owners = owners.reshape(-1)
    # a patient counts as of the class of the first item; of masks it matters whether there is anything
    strata = np.asarray(train.labels[first]).reshape(len(first), int(np.prod(train.labels.shape[1:]))).max(1, initial=0)
    order = np.random.default_rng(seed).permutation(len(first))
    # Shuffled, then sorted by class without losing that order: each tenth item of it is a random one, and the classes have their share.
    ranked = order[np.argsort(strata[order], kind="stable")]
    held = np.isin(owners, ranked[min(HELD_OUT_ONE_IN // 2, len(ranked) // 2) :: HELD_OUT_ONE_IN])
    if len(first) < 2 or np.count_nonzero(~held) < 2:
        whose = "" if train.patients is None else f" of {len(first)} patient(s)"
        raise InputError(f"`train` ({len(train)} item(s){whose}) is too small: training needs two items and others to judge by: add some.")
    return np.flatnonzero(~held), np.flatnonzero(held)
