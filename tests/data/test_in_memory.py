"""Data as objects: each form gives the arrays that a file would hold, and what would not is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.data.in_memory import arrays_of, as_array, input_shape_of
from optimize.errors import InputError
from tests import runs

PREPARED = Preprocessing((0.5,), (0.25,))


def hashes(data: Dataset) -> list[str]:
    return [split.sha256 for split in (data.train, data.calibration, data.guard, data.test) if split is not None]


def floats() -> dict[str, np.ndarray]:
    """The arrays of `runs`, with images as floats, channels first."""
    arrays = runs.arrays()
    return {name: value[:, None].astype(np.float32) / 255 if "images" in name else value for name, value in arrays.items()}


def tensors(split: str) -> TensorDataset:
    arrays = floats()
    return TensorDataset(torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"]))


def loader(split: str, **settings: Any) -> DataLoader[Any]:
    return DataLoader(tensors(split), **{"batch_size": 16, **settings})


class Pairs(TorchDataset[tuple[np.ndarray, int]]):
    """uint8 images with plain numbers for labels, as many a dataset of pictures gives them."""

    def __init__(self, split: str) -> None:
        arrays = runs.arrays()
        self.images, self.labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])


class Jittered(Pairs):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index] + np.random.default_rng().integers(0, 9, self.images[index].shape, np.uint8), 0


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield from range(3)


@pytest.mark.parametrize("form", ["loaders", "single items", "datasets", "pairs", "tensors", "columns"])
def test_every_form_gives_the_splits_of_the_arrays(form: str) -> None:
    names = ("train", "val", "test")
    arrays = floats()
    forms: dict[str, Any] = {
        "loaders": {name: loader(name) for name in names},
        "single items": {name: loader(name, batch_size=None) for name in names},
        "datasets": {name: tensors(name) for name in names},
        "pairs": {name: (arrays[f"{name}_images"], arrays[f"{name}_labels"].tolist()) for name in names},
        "tensors": {name: torch.from_numpy(value) for name, value in arrays.items()} | {"epochs": 3},
        "columns": {name: {"images": arrays[f"{name}_images"], "labels": arrays[f"{name}_labels"]} for name in names},
    }
    assert hashes(load_data(forms[form], preprocessing=PREPARED)) == hashes(load_data(arrays, preprocessing=PREPARED))


def test_pictures_give_the_splits_of_a_file(tmp_path: Any) -> None:
    np.savez(tmp_path / "data.npz", **runs.arrays())  # type: ignore[arg-type]
    filed = load_data(tmp_path / "data.npz", preprocessing=PREPARED, input_shape=(1, 8, 8))
    live = load_data({name: Pairs(name) for name in ("train", "val", "test")}, preprocessing=PREPARED)
    assert hashes(live) == hashes(filed)
    assert live.test.images.dtype == np.uint8
    assert load_data(live) is live


def test_labels_of_more_than_one_axis_are_masks() -> None:
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (30, 8, 8), np.uint8), rng.integers(0, 2, (30, 8, 8))
    other = rng.integers(0, 256, (30, 8, 8), np.uint8)
    columns = {"images": other, "masks": masks, "patient": np.arange(30)}
    data = load_data({"val": {"images": images, "masks": masks, "patient": np.arange(30, 60)}, "test": columns})
    assert (data.test.task, data.test.labels.shape) == ("segmentation", (30, 1, 8, 8))
    assert data.test.patients is not None
    assert hashes(load_data({"val": (images, masks), "test": (other, masks)}))[-1] == data.test.sha256


def test_names_of_classes_and_further_columns_come_along() -> None:
    arrays = runs.arrays() | {"classes": np.array(runs.CLASSES), "val_site_group": ["a"] * 200, "test_site_group": ["b"] * 120}
    data = load_data(arrays)
    assert data.classes == runs.CLASSES
    assert set(data.test.groups) == {"site"}
    columns = {name: {"images": arrays[f"{name}_images"], "labels": arrays[f"{name}_labels"]} for name in ("val", "test")}
    assert load_data({**columns, "class_names": list(runs.CLASSES)}).classes == runs.CLASSES


@pytest.mark.parametrize(
    ("shape", "dtype", "found"),
    [
        ((28, 28), "u1", (1, 28, 28)),
        ((28, 28, 3), "u1", (3, 28, 28)),
        ((3, 28, 28), "u1", (3, 28, 28)),
        ((3, 28, 28), "f4", (3, 28, 28)),
        ((28, 28, 1), "f4", (1, 28, 28)),
        ((3, 4, 4), "f4", (3, 4, 4)),
        ((4, 4, 3), "u1", (3, 4, 4)),
        ((16, 8, 8), "f4", (16, 8, 8)),
    ],
)
def test_images_show_the_shape_of_an_input(shape: tuple[int, ...], dtype: str, found: tuple[int, ...]) -> None:
    arrays = {"val_images": np.zeros((2, *shape), dtype)}
    assert input_shape_of(arrays) == found
    assert input_shape_of(arrays, pad=2) == (found[0], *(size + 4 for size in found[1:]))


BATCH = (np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, r"`data` is a int: pass a path, a prepared Dataset, or a dict of arrays"),
        (loader("val"), r"`data` is a DataLoader: pass a path"),
        ({"calibration": BATCH}, r"`data` has no 'train', 'val' or 'test' split; it has calibration: pass"),
        ({"calibration_images": BATCH[0]}, r"`data` has no 'train', 'val' or 'test' split; it has calibration_images"),
        ({"validation": BATCH, "test": BATCH}, r"`data` has 'validation': call this split 'val'"),
        ({"val": loader("val", sampler=SubsetRandomSampler([1, 2]))}, r"`data\['val'\]` is a DataLoader that samples its items"),
        ({"val": DataLoader(Stream(), drop_last=True)}, r"`data\['val'\]` is a DataLoader with drop_last=True, which leaves items out"),
        ({"val": DataLoader(Stream())}, r"`data\['val'\]` gives a Tensor: each item, or batch, must be a pair"),
        ({"val": TensorDataset(torch.zeros(2, 1))}, r"`data\['val'\]` gives a tuple: each item, or batch, must be a pair"),
        ({"val": []}, r"`data\['val'\]` is empty: every split needs at least one item"),
        ({"val": 7}, r"`data\['val'\]` is a int: pass \(images, labels\), a torch Dataset or a DataLoader"),
        ({"val": Jittered("val")}, r"`data\['val'\]` gives other images when it is read again: leave random augmentation out"),
        ({"val": DataLoader(Jittered("val"), batch_size=9)}, r"`data\['val'\]` gives other images when it is read again"),
        ({"val": [(np.zeros((2, 2)), 0), (np.zeros((3, 3)), 0)] * 2}, r"`data\['val'\]` has images of different shapes .*: resize them"),
        ({"val_images": [[1], [2, 3]]}, r"`data`: val_images (cannot become an array|holds Python objects)"),
        ({"val": (np.array([object()]), [0])}, r"`data`: data\['val'\] holds Python objects, or rows of different lengths"),
    ],
)
def test_what_is_no_data_is_refused(data: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        arrays_of(data)
    assert "\n" not in str(refusal.value)


def test_images_whose_channels_cannot_be_told_need_the_shape() -> None:
    with pytest.raises(InputError, match=r"`input_shape` is missing: images of 9x8x8 do not show it; pass input_shape=\(C, H, W\)"):
        input_shape_of({"val_images": np.zeros((2, 9, 8, 8), np.uint8)})


@pytest.mark.parametrize("labels", [np.zeros((4, 3), np.int64), np.zeros(5, np.int64), np.zeros(4)])
def test_labels_of_a_wrong_form_are_refused_as_those_of_a_file(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match="`val_labels`"):
        load_data({"val": (BATCH[0], labels), "test": BATCH})


@pytest.mark.parametrize(
    ("key", "remedy"),
    [("val_patients", "val_patient"), ("test_patient_id", "test_patient"), ("test_site_groups", "test_site_group")],
)
def test_patients_and_subgroups_are_not_passed_over_for_their_name(key: str, remedy: str) -> None:
    arrays = {"val_images": np.zeros((2, 8, 8), np.uint8), "test_images": np.zeros((2, 8, 8), np.uint8), key: np.arange(2)}
    with pytest.raises(InputError, match=f"{key!r}, which is not read: call it '{remedy}'"):
        arrays_of(arrays)


def test_a_column_of_a_split_that_is_not_read_is_an_error() -> None:
    part = {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.arange(2), "patients": np.arange(2)}
    with pytest.raises(InputError, match=r"`data\['val'\]` has 'patients', which is not read \(did you mean 'patient'\?\)"):
        arrays_of({"val": part, "test": part})


def test_a_column_of_a_table_is_read_when_its_values_are_alike() -> None:
    assert as_array(np.array(["a", "bc"], dtype=object), "val_patient").tolist() == ["a", "bc"]
    assert as_array(np.array([3, 4], dtype=object), "val_labels").dtype.kind == "i"
    with pytest.raises(InputError, match="holds Python objects"):
        as_array(np.array(["a", None], dtype=object), "val_patient")


class _Failing(TorchDataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 9

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        if position == 7:
            raise FileNotFoundError("image7.png")
        return torch.zeros(1, 4, 4), 0


@pytest.mark.parametrize(("data", "position"), [(_Failing(), 7), (DataLoader(_Failing(), batch_size=3), 2)])
def test_a_dataset_that_fails_is_told_with_the_item(data: object, position: int) -> None:
    with pytest.raises(InputError, match=rf"`data\['val'\]` fails at item or batch {position} \(FileNotFoundError: image7.png\)"):
        arrays_of({"val": data})


@pytest.mark.parametrize("batch_size", [1, None])
def test_batches_of_images_of_different_shapes_are_refused(batch_size: int | None) -> None:
    ragged: Any = [(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 5, 4), 0)]
    with pytest.raises(InputError, match=r"images of different shapes \(\(1, 4, 4\), \(1, 5, 4\)\): resize them alike"):
        arrays_of({"val": DataLoader(ragged, batch_size=batch_size)})
