"""Datasets and loaders: each item is read once and in order, large ones lie in a file, and what cannot be kept is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from optimize.data import streamed_images, torch_datasets
from optimize.data.dataset import load_data
from optimize.data.lazy_images import LazyImages
from optimize.data.torch_datasets import items_of
from optimize.errors import InputError
from optimize.progress import shown

COUNT = 30


class Counted(TorchDataset[tuple[torch.Tensor, int]]):
    """Images of one value each, k at item k; it counts how often an item is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        self.reads += 1
        return torch.full((3, 8, 8), float(place)), place % 3


class Streamed(IterableDataset[tuple[torch.Tensor, int]]):
    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        return (Counted()[place] for place in range(COUNT))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of decoded images, and memory for ten images."""
    monkeypatch.setenv("OPTIMIZE_IMAGE_CACHE", str(tmp_path / "images"))
    for module in (streamed_images, torch_datasets):
        monkeypatch.setattr(module, "IN_MEMORY_BYTES", 10 * 3 * 8 * 8 * 4)
    return tmp_path / "images"


FORMS: dict[str, Any] = {
    "dataset": Counted(),
    "stream": Streamed(),
    "loader": DataLoader(Counted(), batch_size=7),
    "single items": DataLoader(Counted(), batch_size=None),
    "shuffled": DataLoader(Counted(), batch_size=7, shuffle=True),
    "incomplete": DataLoader(Counted(), batch_size=7, drop_last=True),
    "loader of a stream": DataLoader(Streamed(), batch_size=7),
}


@pytest.mark.parametrize("form", FORMS)
def test_items_are_kept_in_their_order_in_a_file(form: str, cache: Path) -> None:
    images, labels = items_of(FORMS[form], "data['val']")
    assert isinstance(images, LazyImages)
    assert images[:][:, 0, 0, 0].tolist() == list(range(COUNT))
    assert images.take([7, 3])[:].mean(axis=(1, 2, 3)).tolist() == [7, 3]
    assert labels.tolist() == [place % 3 for place in range(COUNT)]
    (file,) = cache.iterdir()
    assert (file.stat().st_size, file.stat().st_mode & 0o777) == (COUNT * 3 * 8 * 8 * 4, 0o600)
    # the file goes with the stack
    del images
    assert not list(cache.iterdir())


def test_an_item_is_read_once_and_a_few_again(cache: Path) -> None:
    dataset = Counted()
    images, _ = items_of(dataset, "data['val']")
    before = dataset.reads
    assert before == 1 + COUNT + torch_datasets.READ_AGAIN
    assert len(images[:]) == COUNT
    assert dataset.reads == before


def test_without_room_a_dataset_is_read_again_and_a_stream_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZE_IMAGE_CACHE", "off")
    dataset = Counted()
    images, labels = items_of(dataset, "data['val']")
    assert images[:][:, 0, 0, 0].tolist() == list(range(COUNT))
    assert len(labels) == COUNT
    with pytest.raises(InputError, match=r"has more images than memory .* nothing is kept on disk: set OPTIMIZE_IMAGE_CACHE"):
        items_of(Streamed(), "data['val']")
    assert not cache.exists()


def test_a_file_of_a_stream_that_fails_is_removed(cache: Path) -> None:
    def fails() -> Iterator[tuple[torch.Tensor, int]]:
        yield from Streamed()
        raise OSError("gone")

    class Failing(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return fails()

    with pytest.raises(InputError, match=r"fails at item or batch 30 \(OSError: gone\)"):
        items_of(Failing(), "data['val']")
    assert not list(cache.iterdir())


def test_few_items_stay_in_memory() -> None:
    images, _ = items_of(Counted(), "data['val']")
    assert isinstance(images, np.ndarray)


def test_a_loader_that_shuffles_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        items_of(FORMS["shuffled"], "data['train']")
    assert "is a DataLoader that shuffles: all items of its dataset are read, in their order" in " ".join(capsys.readouterr().err.split())


def test_a_random_change_of_a_few_items_is_seen() -> None:
    class Flipped(Counted):
        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            image, label = super().__getitem__(place)
            return (image + self.reads if place == COUNT - 1 else image), label

    with pytest.raises(InputError, match="gives other images when it is read again"):
        items_of(Flipped(), "data['val']")


def test_items_may_be_dicts() -> None:
    dataset = [{"pixel_values": np.full((4, 4, 1), place, np.uint8), "label": place} for place in range(3)]
    images, labels = items_of(dataset, "data['val']")
    assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([0, 1, 2], [0, 1, 2])
    with pytest.raises(InputError, match=r"gives dicts with 'x', 'label': name the image 'image' and the label 'label'"):
        items_of([{"x": 1, "label": 2}], "data['val']")


def test_masks_are_kept_as_bytes() -> None:
    dataset = [(torch.zeros(3, 4, 4), torch.full((4, 4), place, dtype=torch.int64)) for place in range(3)]
    assert items_of(dataset, "data['val']")[1].dtype == np.uint8


def test_images_of_two_types_are_refused() -> None:
    with pytest.raises(InputError, match="has images of uint8 and of float32: convert them alike"):
        items_of([(np.zeros((4, 4), np.uint8), 0), (np.zeros((4, 4), np.float32), 0)], "data['val']")


SOURCE = """
import torch
from torch.utils.data import Dataset

class Images(Dataset):
    def __init__(self, seed):
        self.images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    def __len__(self):
        return 24
    def __getitem__(self, place):
        from beside import LABELS  # what lies beside the file is found while items are read
        return self.images[place], LABELS[place % 2]

def make():
    return {"val": Images(1), "test": Images(2), "classes": ["a", "b"]}

def wrong():
    return {"val": 3, "test": Images(2)}
"""


def test_a_factory_may_return_datasets(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("LABELS = (0, 1)\n")
    data = load_data(f"{tmp_path}/data.py:make")
    expected = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(2)).numpy()
    np.testing.assert_array_equal(data.test.inputs(), expected)
    assert data.classes == ("a", "b")
    with pytest.raises(InputError, match=r"`data\['val'\]` is a int: pass \(images, labels\), a torch Dataset or a DataLoader"):
        load_data(f"{tmp_path}/data.py:wrong")
