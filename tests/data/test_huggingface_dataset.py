"""Data sets of Hugging Face on disk: written here as `save_to_disk` lays them out, with pyarrow; and what is wrong with one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from optimize.data.formats import huggingface_dataset
from optimize.data.lazy_images import LazyImages
from optimize.data.sources import read_arrays
from optimize.errors import InputError

RNG = np.random.default_rng(0)
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}, "patient_id": {"_type": "Value"}}


def png(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


def columns(images: np.ndarray) -> dict[str, list[Any]]:
    return {
        "image": [{"bytes": png(image), "path": f"x/{place}.png" if place % 2 else None} for place, image in enumerate(images)],
        "label": [place % 2 for place in range(len(images))],
        "patient_id": [f"p{place // 2}" for place in range(len(images))],
    }


def saved(folder: Path, rows: dict[str, list[Any]], features: dict[str, Any] = FEATURES, batch: int = 5, **options: Any) -> Path:
    """One split, in two files of batches."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows)
    names = []
    for place, part in enumerate((table.slice(0, 7), table.slice(7))):
        names.append(f"data-{place:05}-of-00002.arrow")
        with pa.ipc.new_stream(folder / names[-1], table.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
            for chunk in part.combine_chunks().to_batches(batch):
                stream.write_batch(chunk)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    images = {name: RNG.integers(0, 256, (12, 9, 8, 3), np.uint8) for name in ("train", "validation", "test")}
    for name, stack in images.items():
        saved(tmp_path / "set" / name, columns(stack))
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": list(images)}))
    return tmp_path / "set", images


def test_rows_are_what_was_saved(folder: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, images = folder
    arrays = read_arrays(path)
    for name, stack in zip(("train", "val", "test"), images.values(), strict=True):
        read = arrays[f"{name}_images"]
        assert isinstance(read, LazyImages)
        np.testing.assert_array_equal(read[:], stack)
        assert arrays[f"{name}_labels"].tolist() == [0, 1] * 6
        assert arrays[f"{name}_patient"].tolist() == [f"p{place // 2}" for place in range(12)]
    assert arrays["classes"].tolist() == ["cat", "dog"]
    assert str(arrays["test_images"].sources[8]) == f"8 in {path}/test/data-00001-of-00002.arrow"  # type: ignore[attr-defined]


def test_a_single_split_is_train(tmp_path: Path) -> None:
    assert len(read_arrays(saved(tmp_path / "one", columns(RNG.integers(0, 256, (12, 4, 4), np.uint8))))["train_images"]) == 12


def test_further_kinds_of_labels(tmp_path: Path) -> None:
    rows = columns(RNG.integers(0, 256, (12, 4, 4), np.uint8))
    features = {"image": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["a", "b"]}}
    arrays = read_arrays(saved(tmp_path / "named", {"image": rows["image"], "kind": rows["label"]}, features))
    assert (arrays["classes"].tolist(), arrays["train_labels"].tolist()) == (["a", "b"], [0, 1] * 6)
    several = {"image": {"_type": "Image"}, "labels": [{"_type": "Value"}]}
    arrays = read_arrays(saved(tmp_path / "many", {"image": rows["image"], "labels": [[1, 0, 1]] * 12}, several))
    assert arrays["train_labels"].tolist() == [[1, 0, 1]] * 12


def change(path: Path, name: str, content: dict[str, Any]) -> None:
    (path / name).write_text(json.dumps(content))


def test_what_is_wrong_is_said_in_a_line(folder: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, images = folder
    test = path / "test"
    wrong: list[tuple[Path, str, dict[str, Any], str]] = [
        (test, "state.json", {"_data_files": [{"filename": "../a.arrow"}]}, r"names '../a.arrow', which is no file in this folder"),
        (test, "state.json", {"_data_files": []}, r"split test has no rows"),
        (test, "state.json", {"_indices_data_files": [{}]}, r"is a selection of rows .* flatten_indices\(\) and save it again"),
        (test, "dataset_info.json", {"features": {"x": {}}}, r"has no column of type Image; it has x: cast_column"),
        (test, "dataset_info.json", {"features": {"image": {"_type": "Image"}}}, r"has no column of labels; it has image: rename_column"),
        (test, "dataset_info.json", {"features": {**FEATURES, "group": {}}}, r"cannot be read as Arrow \(KeyError"),
        (path, "dataset_dict.json", {"splits": ["tets"]}, r"has split 'tets' \(did you mean 'test'\?\): name them"),
        (path, "dataset_dict.json", {"splits": ["val", "validation"]}, r"has val and validation, which mean one split"),
        (path, "dataset_dict.json", {}, r"dataset_dict.json names no split"),
    ]
    for where, name, content, words in wrong:
        before = (where / name).read_text()
        change(where, name, content)
        with pytest.raises(InputError, match=words):
            read_arrays(path)
        (where / name).write_text(before)
    file = test / "data-00000-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(InputError, match=r"data-00000-of-00002.arrow cannot be read as Arrow"):
        read_arrays(path)
    only_path = columns(images["test"])
    only_path["image"][9] = {"bytes": None, "path": "/etc/hostname"}
    with pytest.raises(InputError, match=r"holds the path of image 9 and not its bytes"):
        read_arrays(saved(path, only_path) if (path / "dataset_dict.json").unlink() is None else path)
    no_label = columns(images["test"])
    no_label["label"][3] = None
    with pytest.raises(InputError, match=r"row 3 of set has no 'label'"):
        read_arrays(saved(path, no_label))


def test_compressed_files_are_refused(tmp_path: Path) -> None:
    if not pa.Codec.is_available("zstd"):
        pytest.skip("pyarrow has no zstd here")
    noise = columns(RNG.integers(0, 256, (12, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="is compressed, and single images cannot be read from it"):
        read_arrays(saved(tmp_path / "one", noise, compression="zstd"))


def test_pyarrow_is_missing(folder: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'optimize\[tables\]'"):
        huggingface_dataset.read(str(folder[0]))
