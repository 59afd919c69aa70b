"""Trees of image files, written by hand into a folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optimize.data.dataset import load_data
from optimize.data.formats.image_folder import read, recognises
from optimize.data.sources import format_of
from optimize.errors import InputError


def write(root: Path, names: dict[str, int], colour: bool = True) -> None:
    """Write images of 8 x 6 pixels, each with its own value, at paths below the root."""
    for name, value in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3) if colour else (6, 8), value, np.uint8)).save(path)


def tree(root: Path, *splits: str) -> Path:
    """Write a tree of two classes with three images each in every split."""
    write(
        root,
        {
            f"{split}/{name}/{k}.png": 60 * place + 10 * row + k
            for place, split in enumerate(splits)
            for row, name in enumerate("ab")
            for k in range(3)
        },
    )
    return root


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_a_tree_becomes_splits_with_classes_by_name(val: str, tmp_path: Path) -> None:
    tree(tmp_path, "train", val, "test")

    data = load_data(tmp_path, input_shape=(3, 6, 8))

    assert format_of(tmp_path).NAMED.startswith("a folder of image files")
    assert data.classes == ("a", "b")
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.images[:, 0, 0, 0].tolist() == [120, 121, 122, 130, 131, 132]
    assert data.test.names.tolist() == [f"test/{name}/{k}.png" for name in "ab" for k in range(3)]
    assert len(data.guard) + len(data.calibration) == 6
    assert data.train is not None
    assert data.train.inputs([0]).shape == (1, 3, 6, 8)


def test_gray_files_become_what_the_network_reads(tmp_path: Path) -> None:
    tree(tmp_path, "val", "test")
    write(tmp_path, {"test/a/3.png": 99}, colour=False)

    colour, gray = (load_data(tmp_path, input_shape=(channels, 6, 8)) for channels in (3, 1))

    assert colour.test.images[3].reshape(-1, 3)[0].tolist() == [99, 99, 99]
    assert gray.test.images.shape == (7, 6, 8, 1)
    assert gray.test.images[3].max() == 99


def test_what_is_left_behind_is_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "val", "test")
    write(tmp_path, {"test/a/deep/x.JPG": 5, "test/a/.hidden/y.png": 1, "test/__MACOSX/z.png": 1, "test/a/._0.png": 1, ".git/a/0.png": 1})
    for name in ("test/a/Thumbs.db", "test/b/notes.txt", "test/.DS_Store"):
        (tmp_path / name).write_text("none")
    (tmp_path / "test" / "masks").mkdir()
    (tmp_path / "test" / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "test" / "a" / "linked.png").symlink_to(tmp_path / "val" / "b" / "0.png")

    arrays = read(str(tmp_path))

    assert arrays["classes"].tolist() == ["a", "b"]
    assert arrays["test_names"].tolist()[:5] == [f"test/a/{name}" for name in ("0.png", "1.png", "2.png", "deep/x.JPG", "linked.png")]
    assert np.bincount(arrays["test_labels"]).tolist() == [5, 3]


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    tree(tmp_path, "val", "test")
    odd = os.fsdecode(b"\xff\n.png")
    (tmp_path / "test" / "a" / "0.png").rename(tmp_path / "test" / "a" / odd)

    assert read(str(tmp_path))["test_names"].tolist()[2] == "test/a/\\udcff\\n.png"
    (tmp_path / "test" / "a" / odd).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"/a/\\udcff\\n\.png cannot be read") as refused:
        load_data(tmp_path, input_shape=(3, 6, 8))
    str(refused.value).encode("utf-8")


def test_a_class_may_be_absent_from_a_split(tmp_path: Path) -> None:
    tree(tmp_path, "val", "test")
    write(tmp_path, {"test/0first/0.png": 200})

    arrays = read(str(tmp_path))

    assert arrays["classes"].tolist() == ["0first", "a", "b"]
    assert arrays["val_labels"].tolist() == [1, 1, 1, 2, 2, 2]


def test_classes_alone_are_one_split(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/{k}.png": k for name in ("cat", "dog") for k in range(2)})

    arrays = read(str(tmp_path))

    assert recognises(str(tmp_path))
    assert arrays["train_labels"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("names", [["a.png"], [], ["test/a.txt"]])
def test_other_folders_are_not_recognised(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")

    assert not recognises(str(tmp_path))


def test_faults_are_named_in_one_line(tmp_path: Path) -> None:
    tree(tmp_path, "val", "test")
    (tmp_path / "validation" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="has val and validation, which mean one split"):
        read(str(tmp_path))
    (tmp_path / "validation" / "a").rmdir()
    (tmp_path / "validation").rmdir()
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="train holds no image in a folder of a class"):
        read(str(tmp_path))
    (tmp_path / "train" / "a").rmdir()
    (tmp_path / "train").rmdir()
    whole = (tmp_path / "test" / "b" / "2.png").read_bytes()
    (tmp_path / "test" / "b" / "2.png").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"test/b/2\.png cannot be read"):
        load_data(tmp_path, input_shape=(3, 6, 8))
    Image.new("RGB", (9, 6)).save(tmp_path / "test" / "b" / "2.png")
    with pytest.raises(InputError, match=r"test/b/2\.png is 6x9x3 uint8, the first one is 6x8x3"):
        load_data(tmp_path, input_shape=(3, 6, 8))
