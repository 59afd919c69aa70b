"""Tell logits from probabilities: whether a network ends with a softmax or a sigmoid of its own.

A mask is cut where a logit is above 0 and where a probability is above 0.5. Cut at 0, every pixel of a network that ends in a sigmoid would
be foreground. The meaning is found once, from the values that the original gives, and holds for everything that is made of it: the outputs
of an int8 model are coarser, and would be a worse place to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch

from optimize.candidate import Floats, Meaning

MEANINGS: tuple[Meaning, ...] = ("logits", "probabilities")
"""Meanings that a user may state; the labels say whether each output stands alone."""
PER_LABEL: dict[Meaning, Meaning] = {"logits": "label logits", "probabilities": "label probabilities"}
"""A meaning -> that of outputs of several labels at once."""
THRESHOLD: dict[Meaning, float] = {"logits": 0.0, "probabilities": 0.5, "label logits": 0.0, "label probabilities": 0.5, "values": 0.0}
"""An output that is a yes or no by itself says yes above this value."""
SUMS = (0.05, 0.5)
"""How far the median row may be from a sum of 1 and still be of probabilities: more with many classes, each rounded to 8 bits."""
_TINY = 1e-6
"""The smallest probability whose logarithm is taken."""
_ROUNDING = 1e-5
_FAR = 500.0
"""Logits further out are cut: their exponential would overflow."""


def meaning(outputs: Floats) -> Meaning:
    """Return what outputs (N, K) or (N, K, *spatial) mean, by their values; outputs that are not finite are passed over.

    Classes (N, K) are probabilities where rows sum to 1; masks, and the single output (N, 1) of a yes-or-no decision, where every value
    lies in 0..1.

    Example:
        >>> meaning(np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32))
        'probabilities'
        >>> meaning(np.array([[[[-3.0, 0.4]]]], dtype=np.float32))
        'logits'
    """
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return "probabilities" if sum_to_one(outputs[np.isfinite(outputs).all(1)]) else "logits"
    values = outputs[np.isfinite(outputs)]
    inside = len(values) > 0 and values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING
    return "probabilities" if inside else "logits"


def sum_to_one(rows: npt.NDArray[Any]) -> bool:
    """Return whether rows (N, K) of finite numbers are each the probabilities of K classes."""
    near = min(SUMS[1], max(SUMS[0], rows.shape[1] / 255))
    return len(rows) > 0 and bool(rows.min() >= 0) and bool(np.median(np.abs(rows.sum(1) - 1)) < near)


def of_two_classes(outputs: npt.NDArray[Any], meaning: Meaning) -> npt.NDArray[Any]:
    """Return a single output, (N, 1), as the outputs of two classes, (N, 2); outputs of several classes are returned as they are.

    A logit z is that of the second class against 0, since sigmoid(z) is the second value of softmax((0, z)).

    Example:
        >>> of_two_classes(np.array([[3.0]]), "logits").tolist(), of_two_classes(np.array([[0.25]]), "probabilities").tolist()
        ([[0.0, 3.0]], [[0.75, 0.25]])
    """
    if outputs.shape[1] != 1:
        return outputs
    return np.concatenate([1 - outputs if not is_logits(meaning) else np.zeros_like(outputs), outputs], axis=1)


def output_threshold(probability: float, meaning: Meaning) -> float:
    """Return the output that stands for a probability: its logit, log(p / (1 - p)), or the probability itself.

    Example:
        >>> output_threshold(0.5, "logits"), output_threshold(0.3, "probabilities")
        (0.0, 0.3)
    """
    if not is_logits(meaning):
        return probability
    inside = min(max(probability, _TINY), 1 - _TINY)
    return log(inside / (1 - inside))


def stated_threshold(output: object, meaning: Meaning) -> float:
    """Return the probability that the threshold of an output stands for, the inverse of `output_threshold`; 0.5 where none is stated.

    Example:
        >>> stated_threshold(0.0, "logits"), stated_threshold(0.3, "probabilities"), stated_threshold(None, "logits")
        (0.5, 0.3, 0.5)
    """
    if not isinstance(output, int | float):
        return 0.5
    if not is_logits(meaning):
        return float(output)
    return 1 / (1 + exp(-max(-_FAR, min(_FAR, output))))


def classes_of(outputs: Sequence[int]) -> int:
    """Return how many classes, or masks, outputs of shape (N, K) or (N, K, *spatial) decide between: 2 for a single output (N, 1)."""
    return 2 if len(outputs) == 2 and outputs[1] == 1 else outputs[1]


def is_logits(meaning: Meaning) -> bool:
    """Return whether outputs of this meaning are logits as they are."""
    return meaning in ("logits", "label logits")


class Values(str):
    """The meaning of outputs that are numbers, with middle and spread of the labels of each target, by which they are made comparable.

    Where two models are compared without labels, a number z is read as a yes or no with the logit (z - middle) / spread: numbers that are
    equal agree, and the further they are from each other, the less they do.

    >>> ages = cast(Meaning, Values((50.0,), (10.0,)))
    >>> ages == "values", logits(torch.tensor([[65.0]]), ages, exclusive=False).tolist()
    (True, [[1.5]])

    Args:
        middle: mean of the labels of each target, (K,).
        spread: standard deviation of the labels of each target, (K,), above 0.
    """

    middle: tuple[float, ...]
    spread: tuple[float, ...]

    def __new__(cls, middle: tuple[float, ...], spread: tuple[float, ...]) -> Self:
        """Return the text "values" with these two numbers."""
        made = super().__new__(cls, "values")
        made.middle, made.spread = middle, spread
        return made

    def __getnewargs__(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # type: ignore[override]
        """Return what another process makes the same object from."""
        return self.middle, self.spread


class Embeddings(Values):
    """The meaning of outputs that are embeddings (N, D): of them the direction alone matters.

    Where two models are compared without labels, an embedding is divided by its length and multiplied by sqrt(D), so that its numbers have
    a mean square of 1. The mean squared distance of two of them is then 2 - 2 cos, with the cosine between the two embeddings.

    >>> meaning = cast(Meaning, Embeddings((0.0, 0.0), (5.0, 5.0)))
    >>> meaning == "values", logits(torch.tensor([[6.0, 8.0]]), meaning, exclusive=False).square().mean().item()
    (True, 1.0)

    Args:
        middle: D zeros.
        spread: D times the root of the mean square of all outputs, by which a layer is fitted.
    """


def embedded(outputs: npt.NDArray[Any]) -> Meaning:
    """Return the meaning of embeddings with the size of these, (N, D)."""
    scale = float(np.sqrt(np.square(np.nan_to_num(outputs), dtype=np.float64).mean()))
    count = outputs.shape[1]
    return cast(Meaning, Embeddings((0.0,) * count, (scale if scale > _TINY else 1.0,) * count))


def meaning_of(task: str, found: Meaning) -> Meaning:
    """Return what outputs mean for a task, from what their values look like: of several labels each is a yes or no of its own.

    Example:
        >>> meaning_of("classification", "probabilities"), meaning_of("multilabel", "probabilities"), meaning_of("regression", "logits")
        ('probabilities', 'label probabilities', 'values')
    """
    if task in ("regression", "embedding"):
        return "values"
    return PER_LABEL[found] if task == "multilabel" else found


def scaled(labels: npt.NDArray[Any]) -> Meaning:
    """Return the meaning "values" with the mean and the standard deviation of each column of these labels, (N,) or (N, K)."""
    columns = labels.reshape(len(labels), -1).astype(np.float64)
    spread = columns.std(0)
    return cast(Meaning, Values(tuple(columns.mean(0).tolist()), tuple(np.where(spread > _TINY, spread, 1.0).tolist())))


def plain(meaning: Meaning) -> Meaning:
    """Return a meaning without the word on labels: "logits" of "label logits"; "values" stays."""
    return next((short for short, long in PER_LABEL.items() if long == meaning), meaning)


def stand_alone(outputs: Sequence[int], meaning: Meaning) -> bool:
    """Return whether each output of shape (N, K) or (N, K, *spatial) decides by itself: a single one, or one for each label."""
    return outputs[1] == 1 or meaning not in MEANINGS


def logits(outputs: torch.Tensor, meaning: Meaning, *, exclusive: bool) -> torch.Tensor:
    """Return outputs (N, K) or (N, K, *spatial) as logits, which they may be already.

    The softmax, or the sigmoid of each where they are not exclusive, of what is returned gives the probabilities back.

    Args:
        outputs: outputs of the network.
        meaning: meaning of the outputs, "logits" or "probabilities".
        exclusive: whether a case, or a pixel, has one class of several; otherwise each output is a yes-or-no decision.
    """
    if isinstance(meaning, Embeddings):
        return torch.nn.functional.normalize(outputs, dim=1).mul(sqrt(outputs.shape[1]))
    if isinstance(meaning, Values):
        return (outputs - outputs.new_tensor(meaning.middle)) / outputs.new_tensor(meaning.spread)
    if is_logits(meaning) or meaning == "values":
        return outputs
    probabilities = outputs.clamp(_TINY, 1 - _TINY)
    return probabilities.log() if exclusive else probabilities.logit()
