"""Which items are trained on, and in which order: everything about an epoch that is decided before it starts."""

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
"""One of so many items is held out."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some items, as one process sees them.

    Args:
        rows: of the train split, (n,).
        mirrored: which of them are seen in a mirror, (n,).
        share: how much of the whole batch this is, times the number of processes; 1 where all have equally much.
    """

    rows: Index
    mirrored: npt.NDArray[np.bool_]
    share: float = 1.0

    def part(self, rank: int, size: int) -> Batch:
        """What process `rank` of `size` sees of it."""
        rows = self.rows[rank::size]
        return Batch(rows, self.mirrored[rank::size], len(rows) * size / len(self.rows))

    def inputs(self, train: Labelled) -> torch.Tensor:
        """(n, C, *spatial) float32."""
        return torch.from_numpy(self._flipped(train.inputs(self.rows)))

    def labels(self, train: Labelled) -> torch.Tensor:
        """(n,) or (n, …) int64."""
        labels = np.asarray(train.labels[self.rows], dtype=np.int64)
        return torch.from_numpy(self._flipped(labels) if labels.ndim > 1 else labels)

    def _flipped(self, arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy in which some items are mirrored along their last axis."""
        arrays = arrays.copy()  # the network may work in place
        arrays[self.mirrored] = arrays[self.mirrored][..., ::-1]
        return arrays


def unmirrored(rows: Index) -> Batch:
    """Items as they are."""
    return Batch(rows, np.zeros(len(rows), dtype=bool))


def epoch_batches(rows: Index, batch: int, *, horizontal_flip: bool, seed: tuple[int, int]) -> list[Batch]:
    """All whole batches of an epoch; the items left over, another few each time, would make a small and noisy one.

    Args:
        rows: of the items to train on.
        batch: items in each.
        horizontal_flip: mirror every second item or so.
        seed: of the run, and number of the epoch.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(rows)
    mirrored = (draw.random(len(rows)) < 0.5) & horizontal_flip
    starts = range(0, len(rows) - batch + 1, batch)
    return [Batch(order[start : start + batch], mirrored[start : start + batch]) for start in starts]


def hold_out(train: Labelled, seed: int) -> tuple[Index, Index]:
    """Rows to train on, and those that judge every epoch: about a tenth, of each class alike, whole patients where there are ids.

    Raises:
        InputError: when there are too few items, or patients, to leave some of both.
    """
    patients = np.arange(len(train)) if train.patients is None else train.patients
    _, first, units = np.unique(patients, return_index=True, return_inverse=True)
    units = units.reshape(-1)
    # a patient counts as of the class of the first item; of masks it matters whether there is anything
    kinds = np.asarray(train.labels[first]).reshape(len(first), int(np.prod(train.labels.shape[1:]))).max(1, initial=0)
    order = np.random.default_rng(seed).permutation(len(first))
    ranked = order[np.argsort(kinds[order], kind="stable")]
    held = np.isin(units, ranked[min(HELD_OUT_ONE_IN // 2, len(ranked) // 2) :: HELD_OUT_ONE_IN])
    if len(first) < 2 or np.count_nonzero(~held) < 2:
        whose = "" if train.patients is None else f" of {len(first)} patient(s)"
        raise InputError(f"`train` ({len(train)} item(s){whose}) is too small: training needs two items and others to judge by: add some.")
    return np.flatnonzero(~held), np.flatnonzero(held)
