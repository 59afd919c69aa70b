"""Labels and masks that do not fit, each with its own remedy."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.data.arrays import checked_labels, checked_masks
from optimize.data.label_advice import remedy_of_kind, remedy_of_range
from optimize.errors import InputError


@pytest.mark.parametrize(
    ("labels", "outputs", "said"),
    [
        ([1, 2, 3, 8], 8, "labels run from 1 to 8: subtract 1"),
        ([0, 3, 7], 3, "the network has 3 outputs, and labels hold 3 different numbers up to 7: number the classes from 0 without gaps"),
        (range(8), 7, "the network has 7 outputs, and labels name 8 classes (0 to 7): it was trained for other classes; check the model"),
        (range(8), 7, "arch_args (such as classes = 8)"),
        ([0, 1, 2, 255], 3, "255 usually marks what is to be ignored, which is not done here: leave these images out"),
        ([-1, 0, 1, 2], 3, "-1 usually marks what is to be ignored"),
        ([-100, 0, 1, 2], 3, "-100 usually marks what is to be ignored"),
        ([-5, 0, 1], 3, "number the classes as the network's outputs are, from 0"),
    ],
)
def test_numbers_out_of_range(labels: list[int], outputs: int, said: str) -> None:
    assert said in remedy_of_range(np.array(labels), outputs)


def test_255_is_a_class_where_the_network_has_as_many_outputs() -> None:
    assert "run from 1 to 256" in remedy_of_range(np.array([1, 255, 256]), 256)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.eye(3, dtype=np.uint8), "they are one-hot: store one number per image, labels.argmax(1)"),
        (np.eye(3, dtype=np.float32), "they are one-hot"),
        (np.array([[1, 1, 0], [0, 1, 0]]), "several labels per image are not judged yet"),
        (np.array([[0.2, 0.8], [0.6, 0.4]]), "they look like probabilities"),
        (np.array([0.0, 1.0, 2.0]), "they are whole numbers stored as floats: store them with .astype(int)"),
        (np.array(["cat", "dog"]), "numpy.unique(labels, return_inverse=True)[1]"),
        (np.array([0.5, 1.5]), None),
        (np.array([0, 1]), None),
    ],
)
def test_labels_of_another_kind(labels: np.ndarray, said: str | None) -> None:
    found = remedy_of_kind(labels, "image")
    assert found is None if said is None else said in (found or "")


def test_a_whole_line_names_array_value_rule_and_remedy() -> None:
    arrays = {"test_images": np.zeros((3, 4, 4, 1), np.uint8), "test_labels": np.array([1, 2, 3])}
    with pytest.raises(InputError) as raised:
        checked_labels(arrays, "test", 3)
    assert str(raised.value) == (
        "`test_labels`[2] is 3: labels must be 0 to 2; 1 of 3 are not: "
        "labels run from 1 to 3: subtract 1, so that they are numbered as the network's outputs, from 0."
    )


@pytest.mark.parametrize(
    ("values", "outputs", "said"),
    [
        ([0, 2], 1, "holds 2: masks must hold 0 and 1, or 0 and 255: store masks == 2 instead."),
        ([0, 1, 2], 1, "the network gives one mask, and these hold several classes"),
        ([1, 2, 3], 3, "masks run from 1 to 3: subtract 1"),
        ([0, 1, 255], 3, "255 usually marks what is to be ignored, which is not done here: give these pixels a class."),
        ([0, 85, 170], 3, "masks hold 3 different numbers up to 170: number the classes from 0 without gaps"),
    ],
)
def test_masks(values: list[int], outputs: int, said: str) -> None:
    masks = np.resize(np.array(values, dtype=np.uint8), (2, 4, 4))
    arrays = {"test_images": np.zeros((2, 4, 4, 1), np.uint8), "test_masks": masks}
    with pytest.raises(InputError) as raised:
        checked_masks(arrays, "test", outputs, (4, 4))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
