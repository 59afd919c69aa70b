"""Each check is seen to pass on sound data and to warn on data that was spoilt in one way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from optimize.data.calibration_checks import Finding, check_calibration
from optimize.data.dataset import Dataset, Preprocessing, Split

Array = npt.NDArray[Any]
CHECKS = ["classes", "groups", "size", "outliers", "clipping", "overlap", "near duplicates"]


def _split(name: str, seed: int, count: int = 60, groups: Mapping[str, Array] | None = None) -> Split:
    """Noise, so that no two images resemble each other."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    called = np.array([f"{name[0]}{item}" for item in range(count)])
    return Split(name, images, np.arange(count) % 3, Preprocessing(), groups=groups or {}, item_names=called)


def _data(**splits: Split) -> Dataset:
    sound = {
        "train": _split("train", 1),
        "calibration": _split("calibration", 2, 300),
        "guard": _split("guard", 3),
        "test": _split("test", 4),
    }
    return Dataset(**(sound | splits), classes=("a", "b", "c"))  # type: ignore[arg-type]


def _of(data: Dataset, check: str) -> list[tuple[str, str]]:
    return [(found.level, found.text) for found in check_calibration(data) if found.check == check]


def test_sound_data_has_every_check_and_no_warning() -> None:
    found = check_calibration(_data())
    assert list(dict.fromkeys(each.check for each in found)) == CHECKS
    assert {each.level for each in found} == {"ok"}
    assert all(each.text[0].isupper() or each.text[0].isdigit() for each in found)
    assert all(each.text.endswith(".") and "\n" not in each.text for each in found)


def test_a_finding_as_the_report_takes_it() -> None:
    assert json.loads(json.dumps([each.as_dict() for each in check_calibration(_data())]))[2] == {
        "check": "size",
        "level": "ok",
        "text": "Calibration has 300 images, 300 are enough.",
    }
    assert Finding("size", "ok", "x").as_dict() == {"check": "size", "level": "ok", "text": "x"}


def test_rare_classes() -> None:
    calibration = _split("calibration", 2, 300)
    labels = np.array([0] * 296 + [1] * 4)
    assert _of(_data(calibration=replace(calibration, labels=labels)), "classes") == [
        (
            "warning",
            "2 of 3 classes of guard and test have fewer than 5 calibration items (b 4, c 0): "
            "what only they show may be clipped or pruned; add some.",
        )
    ]
    judged = {name: replace(_split(name, 5), labels=np.zeros(60, np.int64)) for name in ("guard", "test")}
    absent = _data(calibration=replace(calibration, labels=labels), **judged)
    assert _of(absent, "classes") == [("ok", "Every class of guard and test (1) has at least 5 calibration items.")]


def test_masks_are_counted_by_the_images_that_show_a_class() -> None:
    masks = {
        "calibration": np.zeros((300, 16, 16), np.uint8),
        **{name: np.ones((60, 16, 16), np.uint8) for name in ("train", "guard", "test")},
    }
    masks["calibration"][:4, 3, 3] = 1
    splits = {name: replace(_split(name, seed, len(mask)), labels=mask) for seed, (name, mask) in enumerate(masks.items())}
    data = Dataset(**splits, classes=("tumour",))
    assert _of(data, "classes")[0][1].startswith(
        "1 of 1 classes of guard and test have fewer than 5 calibration images that show it (tumour 4)"
    )
    masks["calibration"][4, 0, 0] = 1
    assert _of(data, "classes")[0][0] == "ok"


def test_subgroups() -> None:
    site = {"calibration": ["x", "y"] * 150, "guard": ["x", "y", "z"] * 20, "test": ["x"] * 59 + ["w"]}
    sex = {"guard": [*"fm"] * 30, "test": [*"fm"] * 30}
    band = {name: ["old"] * (300 if name == "calibration" else 60) for name in ("calibration", "guard", "test")}
    columns = {"site": site, "group": sex, "age_band": band}
    splits = {
        name: _split(name, seed, count, {column: np.array(tags[name]) for column, tags in columns.items() if name in tags})
        for seed, (name, count) in enumerate({"calibration": 300, "guard": 60, "test": 60}.items(), 2)
    }
    assert _of(_data(**splits), "groups") == [
        ("ok", "Subgroups 'age_band': calibration holds all 1 of guard and test."),
        ("warning", "Subgroups 'group': not known for calibration; add `calibration_group`, or `train_group` if it comes from train."),
        ("warning", "Subgroups 'site': 2 of 4 of guard and test have no calibration image ('w', 'z'); add some."),
    ]


def test_few_images() -> None:
    assert _of(_data(calibration=_split("calibration", 2, 299)), "size") == [
        ("warning", "Calibration has 299 images: ranges for int8 are taken badly from fewer than 300; add some.")
    ]


def _floats(name: str, seed: int, count: int) -> Split:
    images = np.random.default_rng(seed).uniform(0, 1, (count, 3, 16, 16)).astype(np.float32)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 1
    return replace(_split(name, seed, count), images=images)


def test_outliers_are_named_and_clipping_is_counted() -> None:
    counts = {"train": 60, "calibration": 300, "guard": 60, "test": 60}
    splits = {name: _floats(name, seed, count) for seed, (name, count) in enumerate(counts.items())}
    splits["guard"].images[2, 1, 5, 5] = 1.06
    splits["guard"].images[3, 1, 5, 5] = -0.04
    assert _of(_data(**splits), "outliers")[0][0] == "ok"
    assert _of(_data(**splits), "clipping") == [
        ("warning", "2 of 60 guard images reach beyond calibration's range, 1 of them by more than 5% of it: int8 clips them; "
         "add calibration images like them.")
    ]  # fmt: skip
    splits["guard"].images[2, 1, 5, 5] = 1.04
    assert _of(_data(**splits), "clipping")[0][0] == "ok"
    for item, value in ((7, 40), (9, -3), (11, 1.6), (12, 2)):
        splits["calibration"].images[item, 2, 8, 8] = value
    [(level, text)] = _of(_data(**splits), "outliers")
    assert level == "warning"
    assert text.startswith("4 of 300 calibration images (c7, c9, c12, …) reach beyond the range of the rest")


def test_values_of_the_test_split_are_not_looked_at() -> None:
    splits = {name: _floats(name, seed, 300) for seed, name in enumerate(("calibration", "guard", "test"))}
    splits["test"].images[0] *= 1000
    assert {level for check in ("outliers", "clipping") for level, _ in _of(_data(train=None, **splits), check)} == {"ok"}  # type: ignore[arg-type]


def test_copies_and_near_copies_are_counted_split_by_split() -> None:
    splits = {name: _split(name, seed, 300) for seed, name in enumerate(("train", "calibration", "guard", "test"))}
    splits["calibration"].images[10] = splits["test"].images[20]
    brighter = np.clip(splits["guard"].images[30] * 1.05, 0, 255).astype(np.uint8)
    splits["train"].images[40] = splits["train"].images[41] = brighter
    data = _data(**splits)
    assert _of(data, "overlap") == [
        ("warning", "1 of 300 calibration images also stand in guard or test: take them out of calibration."),
        ("ok", "0 of 300 train images also stand in guard or test."),
    ]
    flatters = "are nearly the same picture as one of guard or test"
    assert _of(data, "near duplicates") == [
        ("warning", f"1 of 300 calibration images {flatters} (c10 = test t20): the verdict flatters; take them out of calibration."),
        ("warning", f"2 of 300 train images {flatters} (t40 = guard g30, t41 = guard g30): the verdict flatters; take them out of train."),
    ]


@pytest.mark.parametrize("check", ["overlap", "near duplicates"])
def test_train_may_be_absent(check: str) -> None:
    assert len(_of(replace(_data(), train=None), check)) == 1


def test_images_too_small_to_compare_say_so() -> None:
    splits = {name: _split(name, seed) for seed, name in enumerate(("train", "calibration", "guard", "test"))}
    small = {name: replace(split, images=split.images[:, :8, :8]) for name, split in splits.items()}
    assert _of(_data(**small), "near duplicates")[0] == (
        "ok",
        "Not looked for in calibration: images of fewer than 16 pixels a side say too little.",
    )


def test_the_same_id_in_two_splits_is_warned_of() -> None:
    splits = {name: _split(name, seed, 40) for seed, name in enumerate(("calibration", "guard", "test"))}
    called = np.array([f"a{k}" for k in range(40)])
    splits |= {name: replace(splits[name], item_names=called) for name in ("guard", "test")}
    found = _of(_data(**splits), "overlap")
    assert found[-1] == ("warning", "40 ids stand in guard and in test, such as 'a0': see that they are not of the same item.")
