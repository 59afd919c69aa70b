"""Patients, subgroups and ids: what is read of each item beside its image, and how it stays with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.data.dataset import Dataset, Preprocessing, Split, load_data
from optimize.data.metadata import EMPTY, checked_groups
from optimize.data.sources import read_arrays
from optimize.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)  # numpy drops zeros at the end of a text
COUNTS = {"train": 10, "val": 12, "test": 9}


def _arrays(**more: Any) -> Arrays:
    draw = np.random.default_rng(0)
    arrays: Arrays = {key: np.asarray(value) for key, value in more.items()}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 3
    return arrays


def _load(folder: Path, **more: Any) -> Dataset:
    np.savez(folder / "d.npz", **_arrays(**more))  # type: ignore[arg-type]
    return load_data(folder / "d.npz", preprocessing=Preprocessing(), input_shape=(3, 4, 4))


def test_columns_by_name_follow_their_items(tmp_path: Path) -> None:
    val = {"val_group": np.arange(12), "val_site_group": [f"s{n}" for n in range(12)], "val_age_band_group": np.arange(12)[:, None] % 4}
    test = {"test_group": np.arange(9), "test_site_group": np.array([b"s1"] * 9), "test_age_band_group": np.arange(9) % 4}
    data = _load(tmp_path, **val, **test)
    assert data.test.groups["site"].tolist() == ["s1"] * 9
    assert data.test.groups["age_band"].tolist() == ["0", "1", "2", "3"] * 2 + ["0"]
    assert data.train is not None
    assert data.train.groups == {}
    for split in (data.calibration, data.guard):
        assert set(split.groups) == {"group", "site", "age_band"}
        assert split.groups["site"].tolist() == [f"s{item}" for item in split.ids]
        assert split.groups["group"].tolist() == [f"{item}" for item in split.ids]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abc_", min_size=1, max_size=6), st.lists(TEXT, min_size=5, max_size=5), max_size=4),
    st.lists(st.integers(0, 4), max_size=6),
)
def test_taking_items_takes_all_that_is_known_of_them(columns: dict[str, list[str]], rows: list[int]) -> None:
    arrays = {"test_images": np.zeros((5, 1, 1, 1), np.uint8)} | {f"test_{name}_group": np.array(tags) for name, tags in columns.items()}
    groups = checked_groups(arrays, "test")
    columns = {name: [tag or EMPTY for tag in tags] for name, tags in columns.items()}
    assert {name: tags.tolist() for name, tags in groups.items()} == columns
    assert checked_groups(arrays, "val") == {}
    called = np.array([*"vwxyz"])
    split = Split("test", arrays["test_images"], np.zeros(5, np.int64), Preprocessing(), groups=groups, item_names=called)
    part = split.take(np.array(rows, dtype=int))
    assert part.names.tolist() == ["vwxyz"[row] for row in rows]
    assert {name: tags.tolist() for name, tags in part.groups.items()} == {name: [tags[r] for r in rows] for name, tags in columns.items()}


def test_columns_may_be_missing_where_nothing_is_judged(tmp_path: Path) -> None:
    data = _load(tmp_path, train_sex_group=[*"fm"] * 5)
    assert data.train is not None
    assert (set(data.train.groups), data.guard.groups, data.test.groups) == ({"sex"}, {}, {})


def test_names_are_ids_or_names_or_positions(tmp_path: Path) -> None:
    data = _load(tmp_path, train_names=[f"t{n}" for n in range(10)], val_id=np.arange(12)[::-1], val_names=["same"] * 12)
    assert data.train is not None
    assert data.train.names.tolist() == [f"t{item}" for item in data.train.ids]
    assert data.guard.names.tolist() == [f"{11 - item}" for item in data.guard.ids]
    assert data.test.names.tolist() == [f"{item}" for item in range(9)]
    assert data.test.take([4, 2]).names.tolist() == ["4", "2"]


def test_an_array_of_another_name_is_never_opened(tmp_path: Path) -> None:
    others = {"test_site_groups": "x", "site_group": "x", "testgroup": "x", "other_site_group": "x", "test_ids": "x"}
    objects = {name: np.array([{}], dtype=object) for name in others}
    np.savez(tmp_path / "d.npz", **_arrays(test_site_group=[1] * 9), **objects)  # type: ignore[arg-type]
    assert not set(read_arrays(tmp_path / "d.npz")) & set(others)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"test_site_group": ["a"] * 9},
            "has `test_site_group` but no array 'val_site_group': val and test need the same subgroup columns",
        ),
        ({"val_group": ["a"] * 12}, "has `val_group` but no array 'test_group'"),
        ({"val_site_group": ["a"] * 12, "test_sex_group": ["a"] * 9}, "has `test_sex_group` but no array 'val_sex_group'"),
        ({"test_group": [1] * 9, "test_group_group": [1] * 9}, "`test_group_group` gives the subgroup column 'group' a second time"),
        ({"test_site_group": ["a"] * 8}, "`test_site_group` has 8 entries for 9 images"),
        ({"train_site_group": np.zeros(10)}, "`train_site_group` is float64 of shape"),
        ({"test_names": ["a", "b", "c"]}, "`test_names` has 3 entries for 9 images"),
        ({"test_id": [*"abcdefgbi"]}, r"`test_id`\[1\] and \[7\] are both 'b': every item of a split needs an id of its own"),
        ({"val_names": [*range(11), 3]}, r"`val_names`\[3\] and \[11\] are both '3'"),
        ({"test_id": np.zeros((9, 2), int)}, r"`test_id` is int64 of shape \(9, 2\)"),
    ],
)
def test_malformed_tags_give_one_line(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        _load(tmp_path, **more)
    assert "\n" not in str(caught.value)
