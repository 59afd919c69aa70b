"""The loss of recovery training: the distance to the original's answers, and to the labels.

    loss = a (T^2 KL(softmax(t / T) || softmax(z / T)) + distance) + (1 - a) (cross entropy(z, labels) + dice)

with the network's logits z, the original's t, the temperature T and the share a of the distillation; T^2 keeps the size of the first
part's gradient independent of T (Hinton, Vinyals & Dean 2015). All are means over items and positions. `distance` and `dice` are for
masks only:

    dice     = mean over items and classes but the first of  1 - (2 sum p g + 1) / (sum p + sum g + 1)
    distance = mean over items and classes but the first of  sum |p - q| / (sum p + sum q + 1)

with probabilities p, the original's q and truth g summed over an item's positions (Milletari, Navab & Ahmadi 2016, without the squares;
Wang et al., "Dice semimetric losses", MICCAI 2023: the same for soft labels, least where p = q, which Dice itself is not). The 1 makes an
item without the class count as right when nothing is found in it. The first class is the background, which would outweigh the others:
where 2 % of the positions are foreground, a network that finds nothing any more is still right on 98 % of them.

Example, one item with 2 positions of a class (g = 1, 1, 0, 0) and predictions p = (1, 0, 0, 0): dice = 1 - (2 * 1 + 1) / (1 + 2 + 1) = .25.

Where every output is judged by itself (a single one, or masks that may overlap), each is a softmax of two: its logit against 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch.nn import functional

from optimize.candidate import Meaning
from optimize.data.output_meaning import MEANINGS, PER_LABEL, Embeddings
from optimize.data.output_meaning import logits as as_logits
from optimize.errors import InputError


@dataclass(frozen=True)
class Objective:
    """The loss of a batch.

    Args:
        temperature: T, above 0; the higher, the more the classes count that the original holds for unlikely.
        distillation: a, the share of the distillation, in 0..1.
        exclusive: every position has one class of several; otherwise each output is a yes or no of its own.
        meaning: meaning of the outputs, the original's too.
    """

    temperature: float
    distillation: float
    exclusive: bool
    meaning: Meaning = "logits"

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: outputs of the network, (n, K) or (n, K, *spatial).
            targets: outputs of the original for the same inputs.
            labels: int64, (n,) or (n, *spatial) classes; or as many zeros and ones as there are outputs.
        """
        embeds = isinstance(self.meaning, Embeddings)
        if embeds:
            # identities are no targets of an output, so the original's directions are all that is learned from: 2 - 2 cos
            z, theirs = (as_logits(vectors, self.meaning, exclusive=False) for vectors in (outputs, targets))
            return (z - theirs).square().mean()
        if self.meaning == "values":
            z, theirs = (as_logits(numbers.reshape(outputs.shape), self.meaning, exclusive=False) for numbers in (outputs, targets))
            truth = as_logits(labels.reshape(outputs.shape).to(outputs.dtype), self.meaning, exclusive=False)
            return self.distillation * (z - theirs).square().mean() + (1 - self.distillation) * (z - truth).square().mean()
        if self.meaning not in MEANINGS:
            return self._of_labels(outputs, targets, labels)
        logits, truth = self._classes(outputs), labels if self.exclusive else labels.reshape(outputs.shape).flatten(0, 1)
        theirs = self._classes(targets)
        fit, near = functional.cross_entropy(logits, truth), self.temperature**2 * divergence(logits, theirs, self.temperature)
        if truth.dim() > 1:
            fit, near = fit + soft_dice(logits, truth), near + probability_distance(logits, theirs)
        return self.distillation * near + (1 - self.distillation) * fit

    def _of_labels(self, outputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of several labels at once, (n, L); an unknown one (-1) is learned from the original's answer alone."""
        ours, theirs, known = self._classes(outputs), self._classes(targets), (labels >= 0).flatten()
        near = self.temperature**2 * divergence(ours, theirs, self.temperature)
        losses = functional.cross_entropy(ours, labels.clamp(min=0).flatten(), reduction="none")
        fit = (losses * known).sum() / known.sum().clamp(min=1)
        return self.distillation * near + (1 - self.distillation) * fit

    def _classes(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of classes that exclude each other, of outputs (n, K, *spatial) -> (n, K, *spatial) or (n K, 2, *spatial)."""
        outputs = as_logits(outputs, self.meaning, exclusive=self.exclusive)
        if self.exclusive:
            return outputs
        # sigmoid(z) = softmax(0, z)[1]: with a zero for "no" beside it, a yes-or-no output is a class of two, and one loss serves both
        # kinds
        single = outputs.flatten(0, 1)
        return torch.stack([torch.zeros_like(single), single], 1)


def objective(
    shape: Sequence[int], labels: npt.NDArray[Any], temperature: float, distillation: float, meaning: Meaning = "logits"
) -> Objective:
    """Return the loss that fits a network's outputs and the labels there are.

    Args:
        shape: shape of the network's outputs, (N, K) or (N, K, *spatial).
        labels: labels of all items, (N,), (N, *spatial) or (N, K, *spatial).
        temperature: temperature of the distillation, see `Objective`.
        distillation: share of the distillation, see `Objective`.
        meaning: meaning of the outputs.

    Raises:
        InputError: when the labels do not fit the outputs.
    """
    classes, own = shape[1], tuple(labels.shape[1:])
    if meaning == "values" or meaning in PER_LABEL.values():
        return Objective(temperature, distillation, exclusive=False, meaning=meaning)
    # labels without an axis of classes name one class for each position; with one output there is nothing to exclude
    exclusive = own == tuple(shape[2:]) and classes > 1
    if not exclusive and own not in (tuple(shape[1:]), tuple(shape[2:])):
        shapes = " or ".join(f"(N{''.join(f', {size}' for size in tail)})" for tail in (shape[2:], shape[1:]))
        raise InputError(f"`labels` of shape {tuple(labels.shape)} do not fit the network's outputs {tuple(shape)}: they must be {shapes}.")
    top = classes - 1 if exclusive else 1
    if labels.dtype.kind not in "iub" or (labels.size and not (labels.min() >= 0 and labels.max() <= top)):
        values = f"{labels.min()} to {labels.max()}" if labels.size else "none"
        raise InputError(f"`labels` are {labels.dtype} ({values}): for these outputs they must be whole numbers from 0 to {top}.")
    return Objective(temperature, distillation, exclusive, meaning)


def divergence(logits: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return KL(softmax(targets / T) || softmax(logits / T)), mean over items and positions; (n, K, *spatial) both -> ()."""
    ours, theirs = functional.log_softmax(logits / temperature, 1), functional.log_softmax(targets / temperature, 1)
    return (theirs.exp() * (theirs - ours)).sum(1).mean()


def soft_dice(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 1 - Dice of the probabilities, mean over items and classes but the first; (n, K, *spatial) and (n, *spatial) -> ()."""
    # without class 0, the background
    predicted = functional.softmax(logits, 1)[:, 1:].flatten(2)
    numbers = torch.arange(1, logits.shape[1], device=labels.device)
    true = (labels.flatten(1)[:, None] == numbers[:, None]).to(predicted.dtype)
    return (1 - (2 * (predicted * true).sum(2) + 1) / (predicted.sum(2) + true.sum(2) + 1)).mean()


def probability_distance(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the distance of the probabilities as a share of both, mean over items and classes but the first; (n, K, *spatial) -> ()."""
    ours, theirs = (functional.softmax(outputs, 1)[:, 1:].flatten(2) for outputs in (logits, targets))
    return ((ours - theirs).abs().sum(2) / (ours.sum(2) + theirs.sum(2) + 1)).mean()
