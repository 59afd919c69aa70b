"""Splits that are cut from what is there; the expected sizes are counted by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from optimize.data.dataset import load_data
from optimize.data.missing_splits import with_missing_splits
from optimize.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(80) % 4 // 3  # 60 of class 0 and 20 of class 1


def counts(labels: np.ndarray) -> dict[int, int]:
    """Return number of items by label."""
    return dict(Counter(labels.tolist()))


def test_train_alone_becomes_three_splits_with_every_class() -> None:
    arrays, notes = with_missing_splits({"train_images": IMAGES, "train_labels": LABELS})

    assert counts(arrays["train_labels"]) == {0: 30, 1: 10}
    assert counts(arrays["val_labels"]) == {0: 15, 1: 5}
    assert counts(arrays["test_labels"]) == {0: 15, 1: 5}
    rows = sorted(int(name[6:-1]) for split in ("train", "val", "test") for name in arrays[f"{split}_names"])
    assert rows == list(range(80))
    assert notes[0].startswith("The data have no val and no test: train (80 items) was cut into train 40, val 20, test 20, with seed 0; if")


@pytest.mark.parametrize(
    ("present", "sizes"),
    [
        (("train", "test"), {"train": 60, "val": 20, "test": 80}),
        (("train", "val"), {"train": 80, "val": 40, "test": 40}),
        (("val",), {"val": 40, "test": 40}),
        (("test",), {"val": 40, "test": 40}),
        (("val", "test"), {"val": 80, "test": 80}),
    ],
)
def test_what_is_missing_is_taken_from_the_nearest_split(present: tuple[str, ...], sizes: dict[str, int]) -> None:
    given = {f"{name}_{field}": values for name in present for field, values in (("images", IMAGES), ("labels", LABELS))}
    arrays, notes = with_missing_splits(given)

    assert {key[:-7]: len(values) for key, values in arrays.items() if key.endswith("_labels")} == sizes
    assert bool(notes) == (present != ("val", "test"))


def test_patients_and_copies_stay_together() -> None:
    patients = np.arange(80) // 5
    images = IMAGES.copy()
    images[79] = images[0]
    arrays, _ = with_missing_splits({"train_images": images, "train_labels": LABELS, "train_patient": patients})

    of = {name: set(arrays[f"{name}_patient"].tolist()) for name in ("train", "val", "test")}
    assert sum(map(len, of.values())) == 16
    assert sum({0, 15} <= members for members in of.values()) == 1
    with pytest.raises(InputError, match=r"cannot be cut, as its 80 item.* belong together .* add val and test"):
        with_missing_splits({"train_images": IMAGES, "train_labels": LABELS, "train_patient": np.zeros(80)})


def test_text_labels_are_numbered_and_all_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, train_images=IMAGES, train_labels=np.array(["nevus", "melanoma"])[LABELS])

    data = load_data(path, input_shape=(3, 4, 4))

    assert data.classes == ("melanoma", "nevus")
    assert data.train is not None
    assert data.train.class_counts(data.classes) == {"melanoma": 10, "nevus": 30}
    assert [line[:24] for line in data.notes] == ["Labels are text: melanom", "The data have no val and"]
    assert load_data(path, classes=("nevus", "melanoma"), input_shape=(3, 4, 4)).test.class_counts(("n", "m")) == {"n": 15, "m": 5}
    # another seed cuts calibration in another way; test stays the same
    assert np.array_equal(load_data(path, seed=5, input_shape=(3, 4, 4)).test.images, data.test.images)
    with pytest.raises(InputError, match=r"`classes` \(=a,b\) has no 'melanoma'"):
        load_data(path, classes=("a", "b"), input_shape=(3, 4, 4))
