"""The harm of a change of the network, measured: how far its answers move from those it gives now."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.graph.replay import Replay
from optimize.guard.divergence import divergence, log_shares


class MeasuredHarm:
    """Distance of a network's answers from the candidate's, as in `guard/divergence.py`.

    Args:
        candidate: the network as it is.
        reference: the original.
        batches: inputs, each (n, C, *spatial).

    Attributes:
        inputs: the batches as tensors.
        from_original: distance of the candidate's answers from the original's, in nats.
        weights: weight of each case or pixel in the harm, one tensor (n, *spatial) for each batch; they sum to 1.
    """

    def __init__(self, candidate: Candidate, reference: Reference, batches: Sequence[Floats]) -> None:
        self._meaning = candidate.outputs
        self._module = candidate.module
        self.inputs = [torch.from_numpy(batch) for batch in batches]
        self.restart()
        raw = [self._replay.outputs(candidate.module, number, ()).numpy() for number in range(len(batches))]
        self._own = [log_shares(outputs, self._meaning) for outputs in raw]
        original = (log_shares(reference.original.predict(batch), self._meaning) for batch in batches)
        self.from_original = divergence(zip(original, self._own, strict=True))
        self._row_weights = _class_weights(self._own)
        # each of several labels is a row of its own, see `log_shares`
        shapes = [
            outputs.shape if len(rows) > len(outputs) and outputs.ndim == 2 else (len(outputs), *outputs.shape[2:])
            for outputs, rows in zip(raw, self._own, strict=True)
        ]
        self.weights = [torch.from_numpy(rows.reshape(shape)) for rows, shape in zip(self._row_weights, shapes, strict=True)]

    def restart(self) -> None:
        """Start at the network's input again: until the next restart, `changing` may only lose layers, those in front first."""
        self._replay = Replay(self._module, self.inputs)
        self._replay.check_outputs(self._module)

    def __call__(self, module: nn.Module, changing: Collection[str], batches: int | None = None) -> float:
        """Return the part of the harm that the first batches add, in nats; the harm itself where these are all.

        Args:
            module: the network, which may differ from the candidate only in the layers `changing`.
            changing: layers in which this or a later network may differ from the candidate.
            batches: number of batches; None for all.
        """
        total = 0.0
        for number, own in enumerate(self._own[:batches]):
            answers = log_shares(self._replay.outputs(module, number, changing).numpy(), self._meaning)
            apart = (np.exp(own) * (own - answers)).sum(1, dtype=np.float64)
            total += float(apart @ self._row_weights[number])
        # a divergence is never negative; rounding can make that of two equal networks -1e-9
        return max(0.0, total)

    def share(self, batches: int) -> float:
        """Return the share that the first batches have in all weights."""
        return float(sum(rows.sum() for rows in self._row_weights[:batches]))


def _class_weights(answers: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float64]]:
    """Return the weight of each row: rows that the network predicts to be of one class have one weight in total, all classes the same."""
    predicted = [rows.argmax(1) for rows in answers]
    counts = np.bincount(np.concatenate(predicted), minlength=answers[0].shape[1])
    return [1.0 / (counts[rows] * np.count_nonzero(counts)) for rows in predicted]
