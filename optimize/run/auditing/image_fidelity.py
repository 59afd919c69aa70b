"""How much of an image a network needs: accuracy in every class as images lose their smaller singular components.

Each channel of an image is a matrix (H, W). Kept are its r largest singular values. Where accuracy holds at a low rank, the network reads
coarse structure; a class that falls first lives in detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Predict
from optimize.progress import track


@dataclass(frozen=True)
class Fidelity:
    """Accuracy at one rank.

    Args:
        rank: singular components that are kept of each channel.
        energy: mean share of the energy of the images that they hold.
        accuracy: share of right answers.
        recall: share of right answers in each class, in their order; None for a class without cases.
    """

    rank: int
    energy: float
    accuracy: float
    recall: tuple[float | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**asdict(self), "recall": list(self.recall)}


def ranks(side: int) -> tuple[int, ...]:
    """Return the ranks that are tried: powers of 2, and all components.

    Example:
        >>> ranks(28)
        (1, 2, 4, 8, 16, 28)
    """
    return (*(2**power for power in range(side.bit_length()) if 2**power < side), side)


def low_rank_images(images: Floats, rank: int) -> tuple[Floats, float]:
    """Return images (N, C, H, W) of a rank in every channel, and the mean share of their energy that is left."""
    left, sigma, right = np.linalg.svd(images.astype(np.float64), full_matrices=False)
    kept = (left[..., :rank] * sigma[..., None, :rank]) @ right[..., :rank, :]
    energy = np.square(sigma).sum(-1)
    shares = np.divide(np.square(sigma[..., :rank]).sum(-1), energy, out=np.ones_like(energy), where=energy > 0)
    return kept.astype(np.float32), float(shares.mean())


def image_fidelity(predict: Predict, images: Floats, labels: npt.NDArray[np.integer], classes: Sequence[str]) -> tuple[Fidelity, ...]:
    """Return accuracy and recall at every rank, the lowest first.

    Args:
        predict: the network, (N, C, H, W) -> (N, K).
        images: inputs of the network.
        labels: the true classes, (N,).
        classes: names of the classes.
    """
    found = []
    for rank in track(ranks(min(images.shape[-2:])), "images of low rank"):
        reduced, energy = low_rank_images(images, rank)
        right = predict(reduced).argmax(1) == labels
        recall = tuple(float(right[labels == k].mean()) if (labels == k).any() else None for k in range(len(classes)))
        found.append(Fidelity(rank, energy, float(right.mean()), recall))
    return tuple(found)
