"""WebDataset shards: what the images and labels were before they were packed, read without unpacking; and what is wrong with a shard."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optimize.data import image_cache
from optimize.data.dataset import load_data
from optimize.data.file_parts import FilePart, decode_part
from optimize.data.formats import webdataset
from optimize.data.lazy_images import LazyImages
from optimize.data.resizing import Resizing
from optimize.data.sources import read_arrays
from optimize.errors import InputError

RNG = np.random.default_rng(0)


def png(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def samples(images: np.ndarray, first: int = 0) -> dict[str, bytes]:
    """Each image with its number modulo 2 as the label."""
    pairs = [{f"{first + n:04}.png": png(image), f"{first + n:04}.cls": str((first + n) % 2).encode()} for n, image in enumerate(images)]
    return {name: content for pair in pairs for name, content in pair.items()}


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder of shards, two of them for train, and the images of each split."""
    images = {name: RNG.integers(0, 256, (12, 9, 8, 3), np.uint8) for name in ("train", "val", "test")}
    for name, stack in images.items():
        shard(tmp_path / "shards" / f"{name}-000000.tar", samples(stack[:8]))
        shard(tmp_path / "shards" / f"{name}-000001.tar", samples(stack[8:], 8))
    return tmp_path / "shards", images


def test_shards_hold_what_was_packed(folder: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, images = folder
    arrays = read_arrays(path)
    for name, stack in images.items():
        read = arrays[f"{name}_images"]
        assert isinstance(read, LazyImages)
        np.testing.assert_array_equal(read[:], stack)
        np.testing.assert_array_equal(read.take([11, 0])[:], stack[[11, 0]])
        assert arrays[f"{name}_labels"].tolist() == [0, 1] * 6
    assert arrays["test_names"].tolist()[:2] == ["0000", "0001"]
    data = load_data(path, input_shape=(3, 4, 4), resizing=Resizing((4, 4)))
    assert (len(data.test), data.test.inputs().shape[1:]) == (12, (3, 4, 4))


def test_a_pattern_one_archive_and_folders_of_splits(folder: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, images = folder
    pattern = read_arrays(f"{path}/{{train,val,test}}-{{000000..000001}}.tar")
    assert {name: len(pattern[f"{name}_images"]) for name in images} == dict.fromkeys(images, 12)
    assert len(read_arrays(path / "val-000001.tar")["val_images"]) == 4
    shard(tmp_path / "more" / "validation" / "000.tar", samples(images["val"]))
    shard(tmp_path / "more" / "000.tar", samples(images["train"]))
    assert {name: len(array) for name, array in read_arrays(tmp_path / "more").items() if "images" in name} == {
        "train_images": 12,
        "val_images": 12,
    }
    with pytest.raises(InputError, match=r"names 3 shards, and 1 of them are missing, such as .*val-000002.tar"):
        read_arrays(f"{path}/val-{{000000..000002}}.tar")
    for wrong, words in (("{9..1}", "must rise"), ("{0..99999}{0..99999}", "names more than 100,000 shards")):
        with pytest.raises(InputError, match=words):
            read_arrays(f"{path}/val-{wrong}.tar")


def test_labels_and_columns_of_json(tmp_path: Path) -> None:
    image = png(np.zeros((4, 4), np.uint8))
    members: dict[str, bytes] = {}
    for number in range(4):
        stated = {"label": ["cat", "dog"][number % 2], "patient_id": f"p{number // 2}", "site": "north", "notes": [1], "group": None}
        members |= {f"a/{number}.jpg.png": image, f"a/{number}.json": json.dumps(stated).encode()}
    arrays = read_arrays(shard(tmp_path / "test.tar", members))
    assert arrays["test_labels"].tolist() == ["cat", "dog", "cat", "dog"]
    assert arrays["test_patient"].tolist() == ["p0", "p0", "p1", "p1"]
    assert arrays["test_site_group"].tolist() == ["north"] * 4
    assert sorted(arrays) == ["test_images", "test_labels", "test_names", "test_patient", "test_site_group"]
    several = {"0.png": image, "0.json": b'{"labels": [0, 1, 1]}', "1.png": image, "1.json": b'{"labels": [1, 0, 1]}'}
    assert read_arrays(shard(tmp_path / "val.tar", several))["val_labels"].tolist() == [[0, 1, 1], [1, 0, 1]]


IMAGE = png(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"1.cls": b"0"}, r"sample 1 of .*train.tar has 0 images \(1.cls\): each needs one"),
        ({"1.a.png": IMAGE, "1.b.png": IMAGE}, r"sample 1 .* has 2 images"),
        ({"1.png": IMAGE}, r"sample 1 .* has no label: add 1.cls, or a .json with 'label'"),
        ({"1.png": IMAGE, "1.json": b'{"patient": "a"}'}, r"sample 1 .* has no label"),
        ({"1.png": IMAGE, "1.json": b"{"}, r"its .json cannot be read"),
        ({"1.png": IMAGE, "1.cls": b"\xff"}, r"1.cls is no UTF-8 text"),
        ({"1.png": IMAGE, "1.cls": b"0" * (2**20 + 1)}, r"1.cls has 1,048,577 bytes, at most 1,048,576 are read as a label"),
        ({"1.png": IMAGE, "1.json": b'{"label": 1, "patient": 2}', "2.png": IMAGE, "2.cls": b"1"}, r"sample 2 has no 'patient'"),
        ({"1.png": b"junk", "1.cls": b"0"}, r"image 1.png in .*train.tar cannot be read"),
        ({".hidden": b""}, r"has no sample for train"),
    ],
)
def test_samples_that_cannot_be_read(members: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_arrays(shard(tmp_path / "train.tar", members))


def test_archives_that_cannot_be_read(tmp_path: Path) -> None:
    whole = shard(tmp_path / "train.tar", samples(RNG.integers(0, 256, (9, 60, 60, 3), np.uint8)))
    whole.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"shard .*train.tar cannot be read as tar|image .* cannot be read"):
        read_arrays(whole)[("train_images")][:]
    with pytest.raises(InputError, match="unpack it with gunzip, since single images cannot be read from a packed one"):
        read_arrays(shard(tmp_path / "val.tar", {"1.png": IMAGE, "1.cls": b"0"}, "w:gz"))


def test_links_are_passed_over_and_nothing_is_unpacked(tmp_path: Path) -> None:
    path = shard(tmp_path / "s" / "train.tar", {"../../out.png": IMAGE, "../../out.cls": b"1"})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    arrays = read_arrays(path)
    assert arrays["train_labels"].tolist() == [1]
    assert arrays["train_images"][:].shape == (1, 4, 4, 1)
    assert [file.name for file in tmp_path.rglob("*")] == ["s", "train.tar"]


def test_a_part_of_a_file_is_bounded() -> None:
    with pytest.raises(InputError, match="at most 268,435,456 are read"):
        decode_part(FilePart("nowhere", 0, 2**28 + 1, "a.png"))
    with pytest.raises(InputError, match=r"image a.png in nowhere cannot be read \(No such file"):
        decode_part(FilePart("nowhere", 0, 9, "a.png"))


def test_images_of_a_shard_are_kept_from_run_to_run(
    folder: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images = folder
    monkeypatch.setenv("OPTIMIZE_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_cache, "IN_MEMORY_BYTES", 0)
    stacks: list[Any] = [image_cache.kept(read_arrays(path)[f"{name}_images"]) for name in ("val", "test", "val")]  # type: ignore[arg-type]
    for name, stack in zip(("val", "test", "val"), stacks, strict=True):
        np.testing.assert_array_equal(stack[:], images[name])
    # one file for each split: the second reading of val found that of the first
    assert len(list((tmp_path / "cache").glob("*.images"))) == 2


def test_recognised_by_its_archives(tmp_path: Path) -> None:
    assert not webdataset.recognises(str(tmp_path))
    assert not webdataset.recognises(str(tmp_path / "a.tar"))
    shard(tmp_path / "a.tar", {"1.png": IMAGE})
    assert webdataset.recognises(str(tmp_path))
    assert webdataset.recognises(str(tmp_path / "a.tar"))
