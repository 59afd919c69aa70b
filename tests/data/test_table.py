"""Tables of image files, written by hand beside a few images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optimize.data.dataset import load_data
from optimize.data.formats.table import read, recognises
from optimize.data.sources import format_of
from optimize.errors import InputError

HEADER = ["Filename", "Diagnosis", "Split", "patient_id", "site", "age"]


def rows(folder: Path) -> list[list[str]]:
    """Write twelve images, and return a row for each: four of train, val and test, of two classes, patients and sites."""
    (folder / "images").mkdir()
    table = []
    for number in range(12):
        name, split = f"images/{number}.png", ("train", "Valid", "test")[number // 4]
        Image.fromarray(np.full((6, 8, 3), 20 * number, np.uint8)).save(folder / name)
        table.append([name, ("nevus", "melanoma")[number % 2], split, f"{number:03}", ("north", "south")[number // 2 % 2], "50"])
    return table


def save(path: Path, header: list[str], table: list[list[str]]) -> Path:
    """Write a CSV as a spreadsheet does, with a byte-order mark."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *table])
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.parquet"])
def test_a_table_becomes_splits(name: str, tmp_path: Path) -> None:
    table = rows(tmp_path)
    path = tmp_path / name
    if path.suffix == ".parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table(dict(zip(HEADER, map(list, zip(*table, strict=True)), strict=True))), path)
    else:
        save(path, HEADER, table)

    data = load_data(path, input_shape=(3, 6, 8))

    assert format_of(path).NAMED.startswith("a table of image files")
    assert data.classes == ("melanoma", "nevus")
    assert data.test.labels.tolist() == [1, 0, 1, 0]
    assert data.test.images[:, 0, 0, 0].tolist() == [160, 180, 200, 220]
    assert data.test.patients is not None
    assert data.test.patients.tolist() == ["008", "009", "010", "011"]
    assert {column: tags.tolist() for column, tags in data.test.groups.items()} == {"site": ["north", "north", "south", "south"]}
    assert data.test.names.tolist() == [f"images/{number}.png" for number in range(8, 12)]
    assert len(data.guard) + len(data.calibration) == 4


def test_a_table_without_splits_is_cut_by_patient(tmp_path: Path) -> None:
    table = [[name, label, f"p{number // 2}"] for number, (name, label, *_) in enumerate(rows(tmp_path))]
    data = load_data(save(tmp_path / "table.csv", ["path", "label", "patient"], table), input_shape=(3, 6, 8))

    assert data.train is not None
    parts = [set(split.patients.tolist()) for split in (data.train, data.calibration, data.guard, data.test) if split.patients is not None]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 6


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        (["img", "label"], ["images/0.png", "1"], "has no column of paths; it has img, label.*: call it 'path'"),
        (["path", "grade"], ["images/0.png", "1"], "has no column of labels; it has path, grade: call it 'label'"),
        (["path", "label"], ["images/0.png", ""], "has no label in row 1"),
        (["path", "label"], ["gone.png", "1"], "names 'gone.png', which is no file: paths are relative to the folder of the table"),
        (["path", "label", "split"], ["images/0.png", "1", "holdout"], "has split 'holdout': name them train, calibration, val, test"),
        (["path", "label"], ["images/0.png"], "has 1 cells in line 2, and its header 2"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(header: list[str], row: list[str], words: str, tmp_path: Path) -> None:
    rows(tmp_path)
    with pytest.raises(InputError, match=words):
        read(str(save(tmp_path / "table.csv", header, [row])))


def test_a_table_without_rows_or_file_is_no_data(tmp_path: Path) -> None:
    assert not recognises(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="has no rows"):
        read(str(save(tmp_path / "table.csv", ["path", "label"], [])))
