from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.data.dataset import Dataset, Preprocessing, Split, load_data
from optimize.data.split_assignment import SplitHashes, disjoint, halves, identify
from optimize.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def _arrays(seed: int = 0, classes: int = 3, **counts: int) -> Arrays:
    draw = np.random.default_rng(seed)
    arrays: Arrays = {}
    for name, count in (counts or {"train": 12, "val": 12, "test": 9}).items():
        arrays[f"{name}_images"] = draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        arrays[f"{name}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    return arrays


def _load(folder: Path, arrays: Arrays, shape: tuple[int, ...] = (3, 4, 4), pre: Preprocessing | None = None, **kwargs: Any) -> Dataset:
    np.savez(folder / "d.npz", **arrays)  # type: ignore[arg-type]
    return load_data(folder / "d.npz", preprocessing=pre or Preprocessing(), input_shape=shape, **kwargs)


# Preprocessing


def test_preprocessing_by_hand() -> None:
    images = np.array([[[[0, 51, 102], [153, 204, 255]]]], dtype=np.uint8)  # (1, 1, 2, 3)
    inputs = Preprocessing((0.2, 0.2, 0.5), (0.5, 0.25, 1.0), pad=1)(images)
    assert inputs.shape == (1, 3, 3, 4)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    np.testing.assert_allclose(inputs[0, :, 1, 1:3], [[-0.4, 0.8], [0, 2.4], [-0.1, 0.5]], atol=1e-6)
    border = inputs.copy()
    border[:, :, 1:2, 1:3] = 0
    assert not border.any()


def test_grey_images_and_one_mean_for_all_channels() -> None:
    np.testing.assert_allclose(Preprocessing((0.5,), (0.5,))(np.array([[[0, 255]]], dtype=np.uint8)), [[[[-1, 1]]]])
    np.testing.assert_allclose(Preprocessing((0.5,), (0.5,))(np.array([[[[0, 255]]]], dtype=np.uint8)), np.array([[[[-1]], [[1]]]]))


def test_floats_are_taken_as_they_are() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    inputs = Preprocessing()(images)
    np.testing.assert_array_equal(inputs, images.astype(np.float32))
    assert not np.shares_memory(inputs, images)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (((0.5,), ()), "`mean` has 1 values and `std` 0"),
        (((0.5,), (0.0,)), r"`std` \(=0\) above 0"),
        (((0.5,), (-1.0,)), "above 0"),
        (((float("nan"),), (1.0,)), r"`mean` \(=nan\) must be finite"),
        (((0.5,), (float("inf"),)), "above 0"),
        (((), (), -1), r"`pad` \(=-1\) must be 0 or more"),
    ],
)
def test_preprocessing_checks_itself(args: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Preprocessing(*args)


# Split


def test_split_takes_counts_and_hashes() -> None:
    images, labels = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3), np.array([0, 2, 2, 0])
    split = Split("test", images, labels, Preprocessing(), patients=np.array(["a", "b", "c", "d"]))
    part = split.take([3, 1])
    assert (len(split), len(part), part.name, part.ids.tolist(), part.labels.tolist()) == (4, 2, "test", [3, 1], [0, 2])
    assert part.patients is not None
    assert part.patients.tolist() == ["d", "b"]
    assert part.take([1]).ids.tolist() == [1]
    assert split.class_counts(("x", "y", "z")) == {"x": 2, "y": 0, "z": 2}
    assert split.sha256 == hashlib.sha256(images.tobytes() + labels.astype(np.int64).tobytes()).hexdigest()
    assert split.sha256 != part.sha256
    np.testing.assert_array_equal(split.inputs([1, 3]), split.inputs()[[1, 3]])


# The cut through val


@st.composite
def _items(draw: st.DrawFn) -> tuple[SplitHashes, npt.NDArray[np.int64]]:
    count = draw(st.integers(2, 40))
    content = draw(st.lists(st.integers(0, 60), min_size=count, max_size=count))
    patients = draw(st.none() | st.lists(st.integers(0, 12), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    tags = None if patients is None else np.array(patients).astype(str)
    return SplitHashes("val", np.array(content, dtype=np.int64), tags), np.array(labels)


def _linked(identity: SplitHashes) -> list[set[int]]:
    """Units by hand: merge any two items that share a hash or a patient until nothing changes."""
    units = [{item} for item in range(len(identity.content))]
    for keys in (identity.content, identity.patients):
        for key in [] if keys is None else np.unique(keys):
            same = set(np.flatnonzero(keys == key).tolist())
            touched = [unit for unit in units if unit & same]
            units = [unit for unit in units if not unit & same] + [set().union(*touched)]
    return units


@settings(max_examples=150, deadline=None)
@given(_items(), st.integers(0, 5))
def test_halves_are_disjoint_complete_deterministic_and_keep_units_together(
    items: tuple[SplitHashes, npt.NDArray[np.int64]], seed: int
) -> None:
    identity, labels = items
    units = _linked(identity)
    if len(units) < 2:
        with pytest.raises(InputError, match="'val' cannot be cut in two"):
            halves(identity, labels, seed)
        return
    first, second = halves(identity, labels, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert len(first) > 0
    assert len(second) > 0
    assert list(first) == sorted(first)
    for unit in units:
        assert unit <= set(first.tolist()) or unit <= set(second.tolist())
    again = halves(identity, labels, seed)
    assert np.array_equal(first, again[0])
    assert np.array_equal(second, again[1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=120), st.integers(0, 3))
def test_unlinked_items_are_stratified_to_within_one(labels: list[int], seed: int) -> None:
    rows = halves(SplitHashes("val", np.arange(len(labels))), np.array(labels), seed)
    counts = [np.bincount(np.array(labels)[half], minlength=5) for half in rows]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert abs(len(rows[0]) - len(rows[1])) <= 1


def test_a_large_train_split_lends_calibration_and_val_stays_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {}
    for name, train in (("large", 1600), ("small", 1400)):
        arrays = {}
        for split, count in (("train", train), ("val", 400), ("test", 400)):
            arrays |= {f"{split}_images": rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8), f"{split}_labels": np.arange(count) % 4}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        data = load_data(tmp_path / f"{name}.npz", preprocessing=Preprocessing(), input_shape=(3, 4, 4))
        assert data.train is not None
        sizes[name] = (len(data.train), len(data.calibration), len(data.guard))
        assert np.bincount(data.guard.labels).min() == np.bincount(data.guard.labels).max()
    assert sizes == {"large": (1280, 320, 400), "small": (1400, 200, 200)}


def test_the_seed_matters() -> None:
    identity, labels = SplitHashes("val", np.arange(40)), np.zeros(40, dtype=np.int64)
    assert len({tuple(halves(identity, labels, seed)[0]) for seed in range(4)}) == 4


def test_patients_are_balanced_as_far_as_they_allow() -> None:
    patients = np.repeat([f"p{n}" for n in range(20)], 6)
    labels = np.repeat(np.arange(20) % 2, 6)
    first, _ = halves(SplitHashes("val", np.arange(120), patients), labels, 0)
    assert np.bincount(labels[first]).tolist() == [30, 30]


# Overlap


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), min_size=2, max_size=4))
def test_dropping_leaves_splits_disjoint_and_the_first_untouched(contents: list[list[int]]) -> None:
    identities = [SplitHashes(f"s{n}", np.array(content)) for n, content in enumerate(contents)]
    if any(set(content) <= set().union(*contents[:n]) for n, content in enumerate(contents)):
        with pytest.raises(InputError, match="also stands in a more protected split"):
            disjoint(identities, drop=True)
        return
    rows, _ = disjoint(identities, drop=True)
    left = [[content[row] for row in kept] for content, kept in zip(contents, rows, strict=True)]
    assert left[0] == contents[0]
    for n, content in enumerate(contents):
        assert left[n] == [item for item in content if item not in set().union(*contents[:n])]


def test_identify_tells_images_apart_in_any_layout() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    content = identify("a", images).content
    assert len(set(content.tolist())) == 20
    assert np.array_equal(content, identify("a", np.asfortranarray(images)).content)


def test_overlap_is_refused_by_name_then_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = _arrays()
    arrays["train_images"][5] = arrays["test_images"][2]
    arrays["val_images"][7] = arrays["test_images"][0]
    arrays["train_images"][1] = arrays["val_images"][3]
    with pytest.raises(InputError, match=r"3 item.*val\[7\] = test\[0\]; train\[5\] = test\[2\]; train\[1\] = val\[3\]\): pass --drop"):
        _load(tmp_path, arrays)
    data = _load(tmp_path, arrays, drop_overlap=True)
    assert data.train is not None
    assert data.train.ids.tolist() == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert sorted([*data.calibration.ids, *data.guard.ids]) == [n for n in range(12) if n != 7]
    assert len(data.test) == 9
    assert data.notes == (
        "1 of 12 val items were dropped: a more protected split holds them too.",
        "2 of 12 train items were dropped: a more protected split holds them too.",
    )


def test_patients_must_not_stand_in_two_splits(tmp_path: Path) -> None:
    arrays = _arrays()
    for name in ("train", "val", "test"):
        arrays[f"{name}_patient"] = np.array([f"{name}{n // 2}" for n in range(len(arrays[f"{name}_labels"]))], dtype="U9")
    data = _load(tmp_path, arrays)
    assert data.calibration.patients is not None
    assert data.guard.patients is not None
    assert not set(data.calibration.patients) & set(data.guard.patients)
    arrays["val_patient"][4] = "test1"
    with pytest.raises(InputError, match=r"val\[4\] and test\[2\] are both of patient 'test1'"):
        _load(tmp_path, arrays)
    assert 4 not in [*_load(tmp_path, arrays, drop_overlap=True).guard.ids, *_load(tmp_path, arrays, drop_overlap=True).calibration.ids]


def test_numbered_patients_meet_named_ones(tmp_path: Path) -> None:
    arrays = _arrays() | {"val_patient": np.arange(12)[:, None], "test_patient": np.array([f"{n + 11}" for n in range(9)])}
    with pytest.raises(InputError, match=r"val\[11\] and test\[0\] are both of patient '11'"):
        _load(tmp_path, arrays)


def test_patients_of_one_of_the_two_that_judge_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has `test_patient` but no `val_patient`: name the patients of both, or of neither"):
        _load(tmp_path, _arrays() | {"test_patient": np.arange(9)})


def test_one_patient_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'val' cannot be cut in two, as its 12 item\(s\) belong together"):
        _load(tmp_path, _arrays() | {"val_patient": np.zeros(12, dtype=int), "test_patient": np.arange(1, 10)})


def test_a_split_that_vanishes_is_an_error(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays["train_images"] = arrays["test_images"].copy()
    arrays["train_labels"] = arrays["test_labels"].copy()
    with pytest.raises(InputError, match="every item of 'train' also stands in a more protected split"):
        _load(tmp_path, arrays, drop_overlap=True)


# load_data


def test_four_splits_classes_and_groups(tmp_path: Path) -> None:
    groups = {"val_group": np.array([*"uuuvvvuuuvvv"]), "test_group": np.array([*"uuuvvvuuu"])}
    arrays = _arrays() | groups | {"class_names": np.array(["a", "b", "c"])}
    data = _load(tmp_path, arrays, num_classes=3)
    assert data.train is not None
    assert [split.name for split in (data.train, data.calibration, data.guard, data.test)] == ["train", "calibration", "guard", "test"]
    assert [len(split) for split in (data.train, data.calibration, data.guard, data.test)] == [12, 6, 6, 9]
    assert data.classes == ("a", "b", "c")
    assert data.guard.class_counts(data.classes) == {"a": 2, "b": 2, "c": 2}
    assert (data.test.groups.keys(), data.train.groups) == ({"group"}, {})
    assert data.test.groups["group"].tolist() == [*"uuuvvvuuu"]
    np.testing.assert_array_equal(data.test.images, arrays["test_images"])
    assert _load(tmp_path, arrays, classes=["x", "y", "z"]).classes == ("x", "y", "z")
    assert _load(tmp_path, _arrays()).classes == ("0", "1", "2")


def test_calibration_given_leaves_val_whole(tmp_path: Path) -> None:
    data = _load(tmp_path, _arrays(calibration=5, val=7, test=6))
    assert data.train is None
    assert [(split.name, len(split)) for split in (data.calibration, data.guard)] == [("calibration", 5), ("guard", 7)]


def test_copies_within_a_split_stay_together(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays["val_images"][[2, 5, 9]] = arrays["val_images"][0]
    data = _load(tmp_path, arrays)
    assert {0, 2, 5, 9} <= set(data.guard.ids.tolist()) or {0, 2, 5, 9} <= set(data.calibration.ids.tolist())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("first", [True, False])
def test_channels_first_and_last_give_the_same_inputs(tmp_path: Path, dtype: type, first: bool) -> None:
    arrays = _arrays()
    whole = _load(tmp_path, arrays).guard.inputs()
    for name in ("train", "val", "test"):
        images = arrays[f"{name}_images"]
        images = images if dtype is np.uint8 else (images / 255).astype(np.float32)
        arrays[f"{name}_images"] = np.moveaxis(images, -1, 1) if first else images
    data = _load(tmp_path, arrays)
    assert data.guard.inputs().shape == (6, 3, 4, 4)
    if dtype is np.uint8:
        np.testing.assert_array_equal(data.guard.inputs(), whole)
    else:
        pooled = np.concatenate([data.guard.inputs(), data.calibration.inputs()])
        order = np.argsort([*data.guard.ids, *data.calibration.ids])
        channels_last = arrays["val_images"] if not first else np.moveaxis(arrays["val_images"], 1, -1)
        np.testing.assert_array_equal(pooled[order], np.moveaxis(channels_last, -1, 1))


def test_grey_images_and_volumes(tmp_path: Path) -> None:
    arrays = {key: value[..., 0] if "images" in key else value for key, value in _arrays().items()}
    assert _load(tmp_path, arrays, (1, 4, 4)).test.inputs().shape == (9, 1, 4, 4)
    assert _load(tmp_path, arrays, (1, 6, 6), Preprocessing(pad=1)).test.inputs().shape == (9, 1, 6, 6)
    floats = {key: value.astype(np.float32) if "images" in key else value for key, value in arrays.items()}
    assert _load(tmp_path, floats, (1, 4, 4)).test.inputs().shape == (9, 1, 4, 4)
    volumes = {key: value[:, None].repeat(2, 1) if "images" in key else value for key, value in _arrays().items()}
    assert _load(tmp_path, volumes, (3, 2, 4, 4)).test.inputs().shape == (9, 3, 2, 4, 4)


def test_factory_gives_the_same_data(tmp_path: Path) -> None:
    expected = _load(tmp_path, _arrays())
    (tmp_path / "my data.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n"
        "def load():\n    print('reading')\n    return {**np.load(Path(__file__).parent / 'd.npz'), 'other': object()}\n"
        "def number(): return 3\ndef ragged(): return {'val_images': [[1], [2, 3]], 'test_images': 0}\n"
    )
    data = load_data(f"{tmp_path}/my data.py:load", preprocessing=Preprocessing(), input_shape=(3, 4, 4))
    assert data.guard.sha256 == expected.guard.sha256
    with pytest.raises(InputError, match="returned a int: it must return a mapping"):
        load_data(f"{tmp_path}/my data.py:number", preprocessing=Preprocessing(), input_shape=(3, 4, 4))
    with pytest.raises(InputError, match="val_images cannot become an array"):
        load_data(f"{tmp_path}/my data.py:ragged", preprocessing=Preprocessing(), input_shape=(3, 4, 4))


def _with(key: str, value: Any) -> Arrays:
    return _arrays() | {key: np.asarray(value)}


def _without(key: str) -> Arrays:
    return {name: array for name, array in _arrays().items() if name != key}


FLOATS = {key: value.astype(np.float32) if "images" in key else value for key, value in _arrays().items()}
NAN = {key: value.copy() for key, value in FLOATS.items()}
NAN["val_images"][3, 1, 1, 1] = np.nan
HUGE = FLOATS | {"val_images": FLOATS["val_images"].astype(np.float64) + 1e300}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.zeros(3)}, "has no array 'val_images', 'test_images' or 'train_images'; it has labels: name them"),
        (_without("test_labels"), "has `test_images` but no array 'test_labels'"),
        ({}, "has no array 'val_images', .* it has none"),
        (_without("val_labels") | {"val_masks": np.zeros((12, 4, 4))}, "has `val_masks`, but the network gives classes of whole"),
        (_with("test_labels", np.zeros(9)), "`test_labels` is float64: labels must be whole numbers"),
        (_with("test_labels", ["a"] * 9), "labels must be whole numbers"),
        (_with("test_labels", np.zeros((9, 2), int)), r"`test_labels` has shape \(9, 2\).*one label per image"),
        (_with("test_labels", np.int64(3)), r"`test_labels` has shape \(\)"),
        (_with("test_labels", np.zeros(8, int)), "`test_labels` has 8 entries for 9 images"),
        (_with("test_labels", [0, 1, 2, 0, -1, 2, 0, 1, 2]), r"`test_labels`\[4\] is -1: labels must be 0 to"),
        (_with("test_labels", np.full(9, 2**63, np.uint64)), r"`test_labels`\[0\] is 9223372036854775808"),
        (_with("test_images", np.zeros((9, 4, 4, 3), int)), "`test_images` is int64: images must be uint8"),
        (_with("test_images", np.zeros((9, 4, 4, 3), complex)), "`test_images` is complex128"),
        (_with("test_images", np.full((9, 4, 4, 3), "x")), "images must be uint8"),
        (_with("test_images", np.zeros((0, 4, 4, 3), np.uint8)), "`test_images` is empty"),
        (_with("test_images", np.uint8(3)), "`test_images` is empty"),
        (_with("test_images", np.zeros(9, np.uint8)), "`test_images` holds images of one number, which do not fit"),
        (_with("test_images", np.zeros((9, 4, 4), np.uint8)), "holds images of 4x4, which do not fit the network's input 3,4,4"),
        (_with("test_images", np.zeros((9, 4, 4, 1), np.uint8)), "holds images of 4x4x1"),
        (_with("test_images", np.zeros((9, 4, 5, 3), np.uint8)), "holds images of 4x5x3"),
        (_with("test_images", np.zeros((9, 1, 4, 4, 3), np.uint8)), "holds images of 1x4x4x3"),
        (_with("test_images", np.zeros((9, 4, 4, 3), np.float32)), "mixes image types .*test float32"),
        (NAN, r"`val_images`\[3\] holds NaN or infinity"),
        (HUGE, r"`val_images`\[0\] holds NaN or infinity"),
        (_with("val_patient", np.zeros(11, int)), "`val_patient` has 11 entries for 12 images"),
        (_with("val_patient", np.zeros(12)), "`val_patient` is float64"),
        (_with("test_group", np.zeros((9, 2), int)), r"`test_group` is int64 of shape \(9, 2\)"),
    ],
)
def test_malformed_arrays_give_one_line(tmp_path: Path, arrays: Arrays, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        _load(tmp_path, arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_classes": 2}, r"\[2\] is 2: labels must be 0 to 1; 4 of 12 are not"),
        ({"num_classes": 5}, "no item of label 3, 4 in any split"),
        ({"classes": ["a", "b", "c", "d"]}, "no item of label 3 in any split"),
        ({"num_classes": 3, "classes": ["a", "b"]}, r"`classes` \(=a,b\) must be 3 different names"),
        ({"classes": ["a", "b", "a"]}, "must be 3 different names"),
        ({"classes": ["a", "", "c"]}, "must be 3 different names"),
        ({"shape": (3, 8, 8)}, "fit the network's input 3,8,8 with pad 0: pass --pad 2"),
        ({"shape": (3, 9, 9)}, "with pad 0: resize the images to"),
        ({"shape": (3, 4, 4), "pre": Preprocessing(pad=2)}, "with pad 2: pass --pad 0"),
        ({"pre": Preprocessing((0.5, 0.5), (1.0, 1.0))}, r"`mean` \(=0.5,0.5\) has 2 values: the network's input has 3 channels"),
        ({"pre": Preprocessing((123.7,), (58.0,))}, r"`mean` \(=123.7\) is above 1, but uint8 images are divided by 255"),
    ],
)
def test_settings_that_do_not_fit_the_data(tmp_path: Path, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _load(tmp_path, _arrays(), **kwargs)


def _npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def _npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


GOOD = _npz(**{key: _npy(value) for key, value in _arrays().items()})
BIG = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 999999), }".ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"not a zip", "is no .npz, or one cut short"),
        (_npy(np.zeros(3)), "is no .npz, or one cut short"),
        (GOOD[:-100], "is no .npz, or one cut short"),
        (_npz(val_images=b"garbage"), "val_images cannot be read|has no array"),
        (_npz(val_images=_npy(np.zeros((4, 4)))[:-50]), "val_images cannot be read"),
        (_npz(val_images=BIG), "val_images cannot be read"),
        (_npz(val_images=_npy(np.array([{}, 1], dtype=object))), "val_images holds Python objects"),
        (GOOD.replace(b"\x93NUMPY", b"\x93NUMPX"), "cannot be read"),
    ],
)
def test_damaged_files_give_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "dä ta.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_data(path, preprocessing=Preprocessing(), input_shape=(3, 4, 4))
    assert "\n" not in str(caught.value)


def test_missing_source(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("import numpy")
    for source, words in (
        (tmp_path / "gone.npz", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "data.py", "is a Python file: pass file.py:factory"),
        ("", "`data` is missing: pass --data"),
    ):
        with pytest.raises(InputError, match=words):
            load_data(source, preprocessing=Preprocessing(), input_shape=(3, 4, 4))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data: {SHARED} does not exist")
def test_blood_cells_share_four_photographs_between_splits() -> None:
    settings: dict[str, Any] = {"preprocessing": Preprocessing(pad=2), "input_shape": (3, 32, 32), "num_classes": 8}
    with pytest.raises(InputError, match=r"4 item\(s\) in more than one split \(train\[1812\] = test\[459\]; train\[2088\] = val\[1142\]"):
        load_data(SHARED / "bloodmnist_rebuilt_28.npz", **settings)
    data = load_data(SHARED / "bloodmnist_rebuilt_28.npz", drop_overlap=True, **settings)
    assert data.train is not None
    splits = (data.train, data.calibration, data.guard, data.test)
    assert [len(split) for split in splits] == [11355, 600, 1712, 1712]
    seen = [{image.tobytes() for image in split.images} for split in splits]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert np.bincount(data.calibration.labels, minlength=8).min() > 20
