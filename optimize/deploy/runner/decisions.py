"""What outputs mean: probabilities, class names, masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import Refused
from .preprocess import Array
from .self_test import Floats

_ARGMAX = "argmax of axis 1"
_DECISIONS = {
    _ARGMAX: ("classification", True),
    "output above threshold: the second class, else the first": ("classification", False),
    "output above threshold: one label per output": ("multilabel", False),
    "argmax of axis 1; grades in their order": ("ordinal", True),
    "the output is the number": ("regression", True),
    "the outputs are an embedding: compare them by cosine": ("embedding", True),
    "argmax of axis 1; 0 is the background, then the classes": ("segmentation", True),
    "output above threshold: one mask per output": ("segmentation", False),
}
"""Sentence of artifact.json -> the task, and whether classes exclude each other."""


@dataclass(frozen=True)
class Decisions:
    """How a decision follows from outputs.

    Args:
        task: "classification", "segmentation", "multilabel", "ordinal", "regression" or "embedding".
        exclusive: whether a case, or a pixel, has one class of several; otherwise each output is a yes or no by itself.
        meaning: "logits" or "probabilities", as the outputs are.
        classes: names of the classes; the background is not among them.
        threshold: number above which an output says yes; None where the largest output decides.

    Example:
        >>> decisions = Decisions("classification", True, "probabilities", ("benign", "malignant"), None)
        >>> decisions(np.array([[0.2, 0.8]], dtype=np.float32))
        ['malignant']
    """

    task: str
    exclusive: bool
    meaning: str
    classes: tuple[str, ...]
    threshold: float | None

    @property
    def outputs(self) -> int:
        """Number of outputs of a case or pixel: one for each class, and for exclusive masks one for the background."""
        if self.task == "classification" and not self.exclusive:
            return 1
        return len(self.classes) + (self.task == "segmentation" and self.exclusive)

    def numbers(self, outputs: Floats) -> Array:
        """Return the number of the class of each case, int64 (N,), of outputs (N, K) of a classification."""
        return np.asarray(outputs.argmax(1) if self.threshold is None else outputs[:, 0] > self.threshold, dtype=np.int64)

    def __call__(self, outputs: Floats) -> list[str] | Array:
        """Return what is decided.

        Args:
            outputs: (N, K) or (N, K, *spatial), as `Model.predict` gives them.

        Returns:
            Names of the classes, N of them; of several labels those that a case has, with commas between them; or masks: class numbers
            (N, *spatial), where 0 is the background and 1 the first class; or,
            where masks may overlap, bool (N, K, *spatial).
        """
        if self.task in ("classification", "ordinal"):
            return [self.classes[place] for place in self.numbers(outputs)]
        if self.task == "multilabel":
            assert self.threshold is not None
            return [", ".join(self.classes[place] for place in np.flatnonzero(row)) for row in outputs > self.threshold]
        if self.task in ("regression", "embedding"):
            return np.asarray(outputs)
        if not self.exclusive:
            assert self.threshold is not None
            return np.asarray(outputs > self.threshold)
        return np.asarray(outputs.argmax(1), dtype=np.uint8 if len(self.classes) < 256 else np.uint16)

    def raw(self, outputs: Floats) -> Array:
        """Return decisions as numbers: of classes int64 (N,), of several labels bool (N, L), of masks as the call gives them."""
        if self.task in ("classification", "ordinal"):
            return self.numbers(outputs)
        # what a probability above the threshold says is the same for several labels and for masks that may overlap
        return np.asarray(outputs > (self.threshold or 0.0) if self.task == "multilabel" else self(outputs))

    def probabilities(self, outputs: Floats) -> Array:
        """Return outputs as probabilities, float64 of the same shape; of logits the softmax over axis 1, or the sigmoid of each.

        A single output of two classes gives the probabilities of both, (N, 2).
        """
        values = outputs.astype(np.float64)
        if self.task == "classification" and not self.exclusive:
            second = values if self.meaning == "probabilities" else _sigmoid(values)
            return np.concatenate([1 - second, second], axis=1)
        if self.meaning != "logits":
            return values
        if self.exclusive:
            # the largest is taken off first, so that no exponential overflows
            raised = np.exp(values - values.max(1, keepdims=True))
            return np.asarray(raised / raised.sum(1, keepdims=True))
        return _sigmoid(values)


def _sigmoid(values: Array) -> Array:
    # of a number that is not positive, so that no exponential overflows
    shrunk = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + shrunk), shrunk / (1 + shrunk))


def read(output: Mapping[str, Any]) -> Decisions:
    """Return how artifact.json says that a decision follows.

    Args:
        output: its section use.output.

    Raises:
        Refused: when it states something that this runner does not know.
    """
    try:
        task, exclusive = _DECISIONS[output["decision"]]
        classes, threshold, meaning = tuple(map(str, output["classes"])), output["threshold"], output["meaning"]
        found = Decisions(task, exclusive, meaning, classes, None if threshold is None else float(threshold))
        fits = task == "embedding" or output["shape"][1] == found.outputs
        if task != output["task"] or not fits or meaning not in ("logits", "probabilities", "values"):
            raise ValueError(f"task {output['task']!r}, shape {output['shape']!r}, {len(classes)} classes, meaning {meaning!r}")
        if (threshold is None) is not exclusive or (task == "classification" and not exclusive and len(classes) != 2):
            raise ValueError(f"threshold {threshold!r}")
        return found
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        why = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise Refused(f"artifact.json states outputs that this runner does not know ({why}): use the runner of its version.") from None
