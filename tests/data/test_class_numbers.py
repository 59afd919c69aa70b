"""Labels in other forms than numbers from 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimize as opt
from optimize.data.class_numbers import class_numbers
from optimize.errors import InputError

NUMBERS = np.array([0, 2, 1, 2])
FROM_ONE = "Labels run from 1 to 3: 1 is the first output of the network."


@pytest.mark.parametrize(
    ("labels", "task", "notes"),
    [
        (NUMBERS, "auto", ()),
        (NUMBERS + 1, "auto", (FROM_ONE,)),
        ((NUMBERS + 1).astype(np.uint8)[:, None], "auto", (FROM_ONE,)),
        (NUMBERS + 1.0, "ordinal", (FROM_ONE,)),
        (np.eye(3)[NUMBERS], "classification", ("Labels are one-hot: each column is a class.",)),
        (np.eye(3, dtype=bool)[NUMBERS], "classification", ("Labels are one-hot: each column is a class.",)),
        (NUMBERS.astype(float), "classification", ()),
    ],
)
def test_they_become_numbers_from_0(labels: Any, task: str, notes: tuple[str, ...]) -> None:
    arrays, said = class_numbers({"test_labels": labels}, task, 3)
    assert arrays["test_labels"].reshape(-1).tolist() == NUMBERS.tolist()
    assert said == notes


@pytest.mark.parametrize(
    ("labels", "task", "outputs"),
    [
        (np.eye(3)[NUMBERS], "auto", 3),  # they may be labels of their own
        (NUMBERS + 1.0, "regression", 3),
        (NUMBERS + 1, "auto", 4),  # a background that no image has may be output 0
        (NUMBERS + 1, "auto", None),
        (np.array([1, 255]), "auto", 3),
        (np.array(["a", "b"]), "auto", 2),
        (np.ones((2, 8, 8), int), "auto", 1),
    ],
)
def test_what_may_be_meant_otherwise_stays(labels: Any, task: str, outputs: int | None) -> None:
    arrays, notes = class_numbers({"test_labels": labels}, task, outputs)
    assert arrays["test_labels"] is labels
    assert notes == ()


def test_a_0_in_one_split_says_that_all_are_from_0() -> None:
    arrays, notes = class_numbers({"val_labels": np.array([0, 1]), "test_labels": np.array([1, 2])}, "auto", 2)
    assert notes == ()
    assert arrays["test_labels"].tolist() == [1, 2]


def splits(labels: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 256, (len(labels), 8, 8), np.uint8), labels) for name in ("val", "test")}


def test_data_of_a_network_are_numbered_and_it_is_said() -> None:
    data = opt.load_data(splits(np.tile([1, 2, 3], 4)), num_classes=3)
    assert data.test.labels.tolist() == [0, 1, 2] * 4
    assert FROM_ONE in data.notes


def test_one_hot_rows_name_the_flag() -> None:
    labels = np.tile(np.eye(3, dtype=int), (4, 1))
    with pytest.raises(InputError, match="pass --task multilabel if its columns are labels of their own, or --task classification"):
        opt.load_data(splits(labels), num_classes=3)
    assert opt.load_data(splits(labels), num_classes=3, task="classification").test.labels.tolist() == [0, 1, 2] * 4
