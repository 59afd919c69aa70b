"""Causes of a bad original: networks whose answers are known by hand, and images prepared in another way than they know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from optimize.candidate import Candidate
from optimize.data.dataset import Split
from optimize.data.preprocessing import Preprocessing
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.no_information import no_information
from optimize.guard.score import score
from optimize.run.diagnosis import _orders, causes

CLASSES = ("red", "blue")
LABELS = np.arange(80) % 2


class Net(nn.Module):
    """Two logits, +-10 times what a rule gives for each image, (N, C, H, W) -> (N,)."""

    def __init__(self, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = 10 * self.rule(x)
        return torch.stack([-found, found], 1)


def found(rule: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray) -> str:
    """The likeliest cause of what such a network makes of the images."""
    split = Split("guard", images, LABELS, Preprocessing())
    network = Candidate(Net(rule).eval(), torch.zeros(1, 3, 4, 4))
    answers = score_split(network.predict, split, CLASSES, "")
    compared = no_information(answers, LABELS, Limits())
    assert not compared
    return causes(network, split, CLASSES, answers, compared)[0]


def coloured() -> np.ndarray:
    """Uint8 (N, 4, 4, 3): red where the label is 0, blue where it is 1, under noise."""
    images = np.random.default_rng(0).integers(0, 60, (len(LABELS), 4, 4, 3))
    images[np.arange(len(LABELS)), :, :, 2 * LABELS] += 150
    return images.astype(np.uint8)


def bright() -> np.ndarray:
    """Float (N, 3, 4, 4) in 0..1: below 0.4 where the label is 0, above 0.6 where it is 1."""
    return (np.random.default_rng(1).uniform(0, 0.4, (len(LABELS), 3, 4, 4)) + 0.6 * LABELS[:, None, None, None]).astype(np.float32)


def whole() -> np.ndarray:
    """The same, uint8 (N, 4, 4, 3)."""
    return np.moveaxis(255 * bright(), 1, -1).astype(np.uint8)


def bluer(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 2] - x[:, 0]).mean((1, 2))


def test_reversed_channels() -> None:
    assert found(bluer, np.ascontiguousarray(coloured()[..., ::-1])).startswith("the channels are in the order blue, green, red")
    floats = np.moveaxis(coloured(), -1, 1)[:, ::-1] / np.float32(255)
    assert found(bluer, np.ascontiguousarray(floats)).startswith("the channels are in the order blue, green, red")


@pytest.mark.parametrize(
    ("middle", "images", "words"),
    [
        (0.5, 255 * bright(), "the float images hold 0 to 255: divide them by 255 (then accuracy is 100.0 %)"),
        (127.5, bright(), "the float images hold 0 to 1: multiply them by 255 (then accuracy is 100.0 %)"),
        (127.5, whole(), "the network takes 0 to 255: store float images (then accuracy is 100.0 %)"),
    ],
)
def test_another_scale(middle: float, images: np.ndarray, words: str) -> None:
    assert found(lambda x: x.mean((1, 2, 3)) - middle, images) == words


def test_transposed_images() -> None:
    """The class is the column that is bright in training; here the images have it as a row."""
    images = np.random.default_rng(2).uniform(0, 0.4, (len(LABELS), 3, 4, 4)).astype(np.float32)
    images[np.arange(len(LABELS)), :, 3 * LABELS] += 0.5
    assert found(lambda x: (x[..., 3] - x[..., 0]).mean((1, 2)), images).startswith("the images are transposed: swap height and width")


def test_running_statistics_that_were_never_measured() -> None:
    """With a stored mean far above every image all get the same answer; with a batch's own mean half of them do."""
    norm = nn.BatchNorm2d(3, affine=False)
    norm.running_mean += 1e4

    class Normed(Net):
        def __init__(self) -> None:
            super().__init__(lambda x: x.mean((1, 2, 3)))
            self.norm = norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.norm(x))

    split = Split("guard", bright(), LABELS, Preprocessing())
    network = Candidate(Normed().eval(), torch.zeros(1, 3, 4, 4))
    answers = score_split(network.predict, split, CLASSES, "")
    found_causes = causes(network, split, CLASSES, answers, no_information(answers, LABELS, Limits()))
    assert found_causes[0].startswith("the running statistics of the batch norms are not those of training")
    assert float(norm.running_mean[0]) == 1e4


def test_an_order_of_the_labels_that_fits_by_chance_is_not_named() -> None:
    """Eight classes answered at random: the order that fits best more than doubles the accuracy of the cases that it was found on."""
    labels, logits = np.arange(80) % 8, np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    answers = score("classification", [(logits, labels)], tuple("abcdefgh"))
    assert isinstance(answers, ClassificationScore)
    rows, columns = linear_sum_assignment(-answers.confusion)
    assert answers.confusion[rows, columns].sum() / 80 > 0.25
    (held_out, words), *_ = _orders(answers, "")
    assert words.startswith("the labels are in another order")
    assert held_out < 0.2
    shifted = score("classification", [(np.eye(8, dtype=np.float32)[(labels + 1) % 8], labels)], tuple("abcdefgh"))
    assert _orders(shifted, "")[0][0] == 1


def test_what_nothing_helps_is_told_in_general() -> None:
    assert found(lambda x: torch.zeros(len(x)), coloured()).startswith("the weights were never trained")
