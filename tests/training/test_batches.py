"""Which items are held out, and in what order the others are trained on."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.candidate import Labelled
from optimize.errors import InputError
from optimize.training.batches import Batch, epoch_batches, hold_out, unmirrored


def train(labels: np.ndarray, patients: np.ndarray | None = None) -> Labelled:
    return Labelled(lambda rows: np.zeros((len(rows), 1, 2, 2), np.float32), labels, patients)


def test_a_tenth_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1, 2], [300, 100, 20])
    fit, held = hold_out(train(labels), 0)
    assert sorted([*fit, *held]) == list(range(420))
    assert np.bincount(labels[held]).tolist() == [30, 10, 2]
    assert held.tolist() == hold_out(train(labels), 0)[1].tolist() != hold_out(train(labels), 1)[1].tolist()


def test_a_patient_is_on_one_side() -> None:
    draw = np.random.default_rng(0)
    patients = draw.integers(0, 40, 400).astype(str)
    fit, held = hold_out(train(draw.integers(0, 3, 400), patients), 0)
    assert not set(patients[fit]) & set(patients[held])
    assert len(set(patients[held])) == 4
    assert sorted([*fit, *held]) == list(range(400))


def test_masks_with_and_without_anything_are_shared_out() -> None:
    masks = np.zeros((100, 4, 4), np.uint8)
    masks[::5, 1, 1] = 1
    held = hold_out(train(masks), 3)[1]
    assert (len(held), int(masks[held].max((1, 2)).sum())) == (10, 2)


@pytest.mark.parametrize("count", [3, 4, 9, 11])
def test_of_few_one_is_held_out(count: int) -> None:
    fit, held = hold_out(train(np.zeros(count, np.int64)), 0)
    assert (len(fit), len(held)) == (count - 1, 1)


@pytest.mark.parametrize(
    ("items", "patients", "words"),
    [
        (2, None, r"`train` \(2 item\(s\)\) is too small"),
        (5, np.zeros(5, int), r"5 item\(s\) of 1 patient"),
        (0, None, r"0 item\(s\)"),
    ],
)
def test_too_few_are_refused(items: int, patients: np.ndarray | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hold_out(train(np.zeros(items, np.int64), patients), 0)


def test_an_epoch_has_whole_batches_of_different_items() -> None:
    rows = np.arange(100, 150)
    batches = epoch_batches(rows, 8, horizontal_flip=False, seed=(0, 0))
    seen = np.concatenate([batch.rows for batch in batches])
    assert [len(batch.rows) for batch in batches] == [8] * 6
    assert len(set(seen.tolist())) == 48
    assert set(seen.tolist()) <= set(rows.tolist())
    assert not any(batch.mirrored.any() for batch in batches)
    again, next_epoch = (epoch_batches(rows, 8, horizontal_flip=False, seed=(0, epoch)) for epoch in (0, 1))
    assert seen.tolist() == np.concatenate([batch.rows for batch in again]).tolist()
    assert seen.tolist() != np.concatenate([batch.rows for batch in next_epoch]).tolist()


def test_half_of_the_items_are_mirrored() -> None:
    batches = epoch_batches(np.arange(4000), 40, horizontal_flip=True, seed=(0, 0))
    share = np.concatenate([batch.mirrored for batch in batches]).mean()
    assert share == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_a_mask_is_mirrored_with_its_input_and_neither_is_changed() -> None:
    images = np.random.default_rng(0).standard_normal((6, 1, 4, 5)).astype(np.float32)
    masks = (images[:, 0] > 0).astype(np.int64)
    before = images.copy(), masks.copy()
    task = Labelled(lambda rows: images if len(rows) == 6 else images[rows], masks)
    batch = Batch(np.arange(6), np.array([True, False] * 3))
    inputs, labels = batch.inputs(task).numpy(), batch.labels(task).numpy()
    assert np.array_equal(inputs[:, 0] > 0, labels == 1)
    for item in range(6):
        assert np.array_equal(inputs[item], images[item, :, :, ::-1] if item % 2 == 0 else images[item])
    inputs[:] = 0
    assert np.array_equal(images, before[0])
    assert np.array_equal(masks, before[1])


def test_labels_of_classes_stay_when_inputs_are_mirrored() -> None:
    task = Labelled(lambda rows: np.zeros((len(rows), 1, 2, 2), np.float32), np.array([3, 1, 2], np.uint8))
    assert Batch(np.array([2, 0]), np.ones(2, bool)).labels(task).tolist() == [2, 3]


def test_processes_see_all_of_a_batch_between_them() -> None:
    whole = unmirrored(np.arange(7))
    parts = [whole.part(rank, 3) for rank in range(3)]
    assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == list(range(7))
    assert [part.share for part in parts] == pytest.approx([9 / 7, 6 / 7, 6 / 7])
    assert [len(part.mirrored) for part in parts] == [3, 2, 2]
    assert whole.part(0, 1).share == 1
