"""Images with masks: what is read, how it is split, and one line for whatever does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.data.dataset import ENOUGH_CALIBRATION, Dataset, Preprocessing, load_data
from optimize.data.masks import foreground
from optimize.data.split_assignment import SplitHashes, fifth
from optimize.errors import InputError
from optimize.guard.segmentation_score import score_masks

Arrays = dict[str, npt.NDArray[Any]]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def _arrays(top: int = 1, **counts: int) -> Arrays:
    """Masks with values 0 to `top`; two images of each patient."""
    draw = np.random.default_rng(0)
    arrays: Arrays = {}
    for name, count in (counts or {"train": 40, "val": 8, "test": 6}).items():
        arrays[f"{name}_images"] = draw.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
        arrays[f"{name}_masks"] = draw.integers(0, top + 1, (count, 4, 6), dtype=np.uint8)
        arrays[f"{name}_patient"] = np.array([f"{name}{number // 2}" for number in range(count)], dtype="U9")
    return arrays


def _load(folder: Path, arrays: Arrays, outputs: int = 1, pad: int = 0, **kwargs: Any) -> Dataset:
    np.savez(folder / "d.npz", **arrays)  # type: ignore[arg-type]
    size = (4 + 2 * pad, 6 + 2 * pad)
    settings = {"input_shape": (3, *size), "num_classes": outputs, "mask_shape": size, "preprocessing": Preprocessing(pad=pad)}
    return load_data(folder / "d.npz", **(settings | kwargs))


def _each(arrays: Arrays, change: Any) -> Arrays:
    """With every mask changed."""
    return {key: change(value) if key.endswith("_masks") else value for key, value in arrays.items()}


FORMS: dict[str, Any] = {
    "0 and 1": lambda masks: masks,
    "0 and 255": lambda masks: masks * 255,
    "booleans": lambda masks: masks.astype(bool),
    "an axis in front": lambda masks: masks[:, None],
    "an axis behind": lambda masks: masks[..., None].astype(np.int64),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_output_has_masks_of_two_values_in_any_form(form: str, tmp_path: Path) -> None:
    arrays = _arrays()
    data = _load(tmp_path, _each(arrays, FORMS[form]))
    assert data.classes == ("foreground",)
    assert (data.test.task, data.test.labels.dtype, data.test.labels.shape) == ("segmentation", np.dtype(bool), (6, 1, 4, 6))
    assert np.array_equal(data.test.labels[:, 0], arrays["test_masks"] == 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_several_outputs_take_class_indices_and_0_is_the_background(dtype: type, tmp_path: Path) -> None:
    arrays = _each(_arrays(top=2), lambda masks: masks.astype(dtype))
    data = _load(tmp_path, arrays, outputs=3)
    assert data.classes == ("1", "2")
    assert (data.test.labels.dtype, data.test.labels.shape) == (np.dtype(np.uint8), (6, 4, 6))
    shown = [int((arrays["test_masks"] == k).any((1, 2)).sum()) for k in (1, 2)]
    assert list(data.test.class_counts(data.classes).values()) == shown


def test_two_outputs_take_booleans_for_indices(tmp_path: Path) -> None:
    data = _load(tmp_path, _each(_arrays(), lambda masks: masks.astype(bool)), outputs=2)
    assert (data.classes, data.test.labels.dtype) == (("foreground",), np.dtype(np.uint8))


def test_several_outputs_take_one_mask_each_that_may_overlap(tmp_path: Path) -> None:
    arrays = _each(_arrays(), lambda masks: np.stack([masks, np.ones_like(masks)], axis=1))
    data = _load(tmp_path, arrays, outputs=2)
    assert data.classes == ("0", "1")
    assert (data.test.labels.dtype, data.test.labels.shape) == (np.dtype(bool), (6, 2, 4, 6))
    assert data.test.class_counts(data.classes)["1"] == 6


@pytest.mark.parametrize(
    ("outputs", "stored", "given", "classes"),
    [
        (1, (), ("tumour",), ("tumour",)),
        (1, ("tumour",), (), ("tumour",)),
        (3, (), ("core", "rim"), ("core", "rim")),
        (3, (), ("nothing", "core", "rim"), ("core", "rim")),
        (3, ("nothing", "core", "rim"), (), ("core", "rim")),
        (3, ("core", "rim"), ("a", "b"), ("a", "b")),
    ],
)
def test_classes_are_the_foregrounds(outputs: int, stored: tuple, given: tuple, classes: tuple, tmp_path: Path) -> None:
    named = {"class_names": np.array(stored)} if stored else {}
    assert _load(tmp_path, _arrays(top=max(1, outputs - 1)) | named, outputs, classes=given).classes == classes


# The cut


def test_val_stays_whole_and_calibration_leaves_train_by_patients(tmp_path: Path) -> None:
    data = _load(tmp_path, _arrays(train=40, val=8, test=6))
    assert data.train is not None
    assert (data.guard.name, data.calibration.name) == ("guard", "calibration")
    assert data.guard.ids.tolist() == list(range(8))
    assert sorted([*data.train.ids, *data.calibration.ids]) == list(range(40))
    patients = [set(split.patients) for split in (data.train, data.calibration) if split.patients is not None]
    assert not patients[0] & patients[1]
    assert data.from_train
    # there are not ENOUGH_CALIBRATION images in all of it: half of the patients, and no more
    assert [len(each) for each in patients] == [10, 10]
    assert np.array_equal(_load(tmp_path, _arrays(train=40, val=8, test=6)).calibration.ids, data.calibration.ids)
    assert not np.array_equal(_load(tmp_path, _arrays(train=40, val=8, test=6), seed=1).calibration.ids, data.calibration.ids)


def test_recovery_training_learns_from_what_train_lent_too_in_the_order_of_the_file(tmp_path: Path) -> None:
    arrays = _arrays(train=40, val=8, test=6)
    arrays |= {"train_site_group": np.arange(40) % 3, "train_id": np.arange(100, 140)}
    whole = _load(tmp_path, arrays).training_split
    assert whole is not None
    assert (whole.name, whole.ids.tolist()) == ("train", list(range(40)))
    assert np.array_equal(whole.images, arrays["train_images"])
    assert np.array_equal(whole.labels[:, 0], arrays["train_masks"] == 1)
    assert whole.patients is not None
    assert whole.patients.astype(str).tolist() == arrays["train_patient"].astype(str).tolist()
    assert whole.groups["site"].astype(int).tolist() == [item % 3 for item in range(40)]
    assert whole.names.astype(int).tolist() == list(range(100, 140))


def test_calibration_that_is_given_leaves_train_whole(tmp_path: Path) -> None:
    data = _load(tmp_path, _arrays(train=12, calibration=4, val=8, test=6))
    assert data.train is not None
    assert [len(split) for split in (data.train, data.calibration, data.guard)] == [12, 4, 8]
    assert not data.from_train
    assert data.training_split is data.train


def test_a_train_split_of_one_patient_is_all_calibration(tmp_path: Path) -> None:
    data = _load(tmp_path, _arrays(train=2, val=8, test=6))
    assert (data.train, len(data.calibration), len(data.guard)) == (None, 2, 8)


def test_without_train_val_is_cut_in_two_and_rare_classes_are_shared_out(tmp_path: Path) -> None:
    arrays = _arrays(top=2, val=24, test=6)
    arrays = {key: value for key, value in arrays.items() if not key.endswith("_patient")}
    arrays["val_masks"][:] = 0
    arrays["val_masks"][:12, 0, 0] = 1
    arrays["val_masks"][[0, 3, 5, 9], 1, 1] = 2
    data = _load(tmp_path, arrays, outputs=3)
    assert data.train is None
    assert sorted([*data.calibration.ids, *data.guard.ids]) == list(range(24))
    for split in (data.calibration, data.guard):
        assert split.class_counts(data.classes) == {"1": 6, "2": 2}


def test_labels_are_cut_as_before(tmp_path: Path) -> None:
    arrays = _arrays()
    labelled = {key: value for key, value in arrays.items() if not key.endswith("_masks")}
    labelled |= {f"{name}_labels": np.arange(len(arrays[f"{name}_images"])) % 2 for name in ("train", "val", "test")}
    data = _load(tmp_path, labelled, outputs=2, mask_shape=())
    assert data.train is not None
    assert [len(split) for split in (data.train, data.calibration, data.guard)] == [40, 4, 4]
    assert data.test.task == "classification"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=60), st.integers(0, 40), st.integers(0, 3))
def test_a_fifth_keeps_patients_together(patients: list[int], least: int, seed: int) -> None:
    identity = SplitHashes("train", np.arange(len(patients)), np.array(patients).astype(str))
    taken, left = fifth(identity, least, seed)
    assert sorted([*taken, *left]) == list(range(len(patients)))
    mine, others = {patients[row] for row in taken}, {patients[row] for row in left}
    assert not mine & others
    units = len(mine | others)
    assert len(mine) >= 1
    assert len(mine) <= max(1, units // 2)
    assert len(taken) >= least or len(mine) == max(1, units // 2)
    sizes = sorted(patients.count(each) for each in mine)
    # no patient more than a fifth or the least number of items asks for
    assert len(mine) <= max(1, round(units / 5)) or len(taken) - sizes[-1] < least
    assert all(np.array_equal(*pair) for pair in zip((taken, left), fifth(identity, least, seed), strict=True))


def test_a_large_train_split_gives_a_fifth() -> None:
    patients = np.repeat(np.arange(200), 10).astype(str)
    taken, left = fifth(SplitHashes("train", np.arange(2000), patients), ENOUGH_CALIBRATION, 0)
    assert (len(taken), len(left)) == (400, 1600)


def test_patients_must_not_stand_in_two_splits(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays["val_patient"][3] = "test2"
    with pytest.raises(InputError, match=r"val\[3\] and test\[4\] are both of patient 'test2'"):
        _load(tmp_path, arrays)
    assert len(_load(tmp_path, arrays, drop_overlap=True).guard) == 7


# What a split does


def test_padding_is_on_the_inputs_and_not_on_the_masks(tmp_path: Path) -> None:
    data = _load(tmp_path, _arrays(), pad=3)
    assert data.test.inputs().shape == (6, 3, 10, 12)
    assert data.test.labels.shape == (6, 1, 4, 6)
    padded = np.full((6, 1, 10, 12), -1.0, dtype=np.float32)
    padded[:, :, 3:-3, 3:-3][data.test.labels] = 1.0
    padded[:, :, :3] = 9.0  # what is said of the border does not matter
    inner = data.test.preprocessing.inner(padded)
    assert score_masks([(inner, data.test.labels)], data.classes, data.test.patients).overall == 1.0


def test_a_hash_is_of_images_and_masks(tmp_path: Path) -> None:
    whole = _load(tmp_path, _arrays())
    arrays = _arrays()
    arrays["test_masks"][2, 1, 1] ^= 1
    other = _load(tmp_path, arrays)
    assert other.test.sha256 != whole.test.sha256
    assert other.guard.sha256 == whole.guard.sha256
    assert _load(tmp_path, _each(_arrays(), lambda masks: masks * 255)).test.sha256 == whole.test.sha256


def test_large_images_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = _load(tmp_path, _arrays()).guard
    assert split.batches == [slice(0, 256)]
    monkeypatch.setattr("optimize.data.split.PIXELS_AT_ONCE", 3 * 24 + 1)
    assert split.batches == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert np.concatenate([split.ids[batch] for batch in split.batches]).tolist() == list(range(8))


# What does not fit


def _with(key: str, value: Any) -> Arrays:
    return _arrays() | {key: np.asarray(value)}


def _marked(value: int) -> Arrays:
    arrays = _arrays(top=2)
    arrays["val_masks"] = arrays["val_masks"].astype(np.int16)
    arrays["val_masks"][5, 2, 3] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "kwargs", "words"),
    [
        (
            {k: v for k, v in _arrays().items() if k != "val_masks"},
            {},
            "has `val_images` but no array 'val_masks': the network gives a mask",
        ),
        (_with("val_labels", np.zeros(8, int)), {}, "has both `val_labels` and `val_masks`: leave out those that the network was not"),
        (_arrays(), {"mask_shape": ()}, "has `train_masks`, but the network gives classes of whole images: add `train_labels`"),
        (_with("val_masks", np.zeros((8, 4, 6))), {}, "`val_masks` is float64: masks must be whole numbers or booleans"),
        (_with("val_masks", np.zeros((7, 4, 6), int)), {}, "`val_masks` has 7 entries for 8 images"),
        (_with("val_masks", np.zeros((8, 6, 4), int)), {}, "`val_masks` holds masks of 6x4: the network asks for 4x6; resize"),
        (_with("val_masks", np.int64(3)), {}, "`val_masks` holds masks of one number: the network asks for 4x6"),
        (_with("val_masks", np.zeros((8, 4, 6, 2), int)), {"outputs": 2}, "masks of 4x6x2: the network asks for 4x6 or 2x4x6"),
        (_arrays(), {"pad": 1, "input_shape": (3, 6, 8), "mask_shape": (4, 6)}, r"`pad` \(=1\) cannot be taken off masks that are not as"),
        (_arrays(), {"mask_shape": (2, 3)}, "`val_masks` holds masks of 4x6: the network asks for 2x3|`train_masks` holds masks of 4x6"),
        (_marked(2), {}, r"`train_masks`\[0\] holds 2: masks must hold 0 and 1, or 0 and 255"),
        (
            _marked(255) | {"train_masks": _arrays()["train_masks"]},
            {},
            r"`val_masks`\[0\] holds [12]: masks must hold 0 and 1, or 0 and 255",
        ),
        (_marked(3), {"outputs": 3}, r"`val_masks`\[5\] holds 3: masks must hold 0 to 2, 0 for the background"),
        (_marked(-1), {"outputs": 3}, r"`val_masks`\[5\] holds -1: masks must hold 0 to 2"),
        (_arrays(top=2), {"outputs": 5}, "no mask that shows class 3, 4 in any split: each of the network's 4 classes needs items"),
        (_each(_arrays(), np.zeros_like), {}, "no mask that shows class foreground in any split"),
        (_arrays(), {"classes": ("a", "b")}, r"`classes` \(=a,b\) must be 1 different names, one per output"),
        (
            _arrays(top=2),
            {"outputs": 3, "classes": ("a",)},
            r"`classes` \(=a\) must be 2 different names, one per class, without the background",
        ),
        (_with("val_masks", np.zeros((8, 2, 4, 6), int)), {"outputs": 2}, "mixes masks .train class indices, val one per class"),
        (_arrays(), {"preprocessing": Preprocessing((0.1, 0.2), (1, 1))}, r"`mean` \(=0.1,0.2\) has 2 values"),
    ],
)
def test_what_does_not_fit_takes_one_line(arrays: Arrays, kwargs: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        _load(tmp_path, arrays, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data: {SHARED} does not exist")
def test_brain_scans_keep_their_patients_apart() -> None:
    settings: dict[str, Any] = {"input_shape": (3, 128, 128), "num_classes": 1, "mask_shape": (128, 128), "classes": ("tumour",)}
    data = load_data(SHARED / "lgg_mri_seg_128.npz", preprocessing=Preprocessing(standardize="image"), **settings)
    assert data.train is not None
    assert (len(data.train) + len(data.calibration), len(data.guard), len(data.test)) == (425, 96, 116)
    patients = [set(split.patients) for split in (data.train, data.calibration, data.guard, data.test) if split.patients is not None]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 66
    assert foreground(data.test.labels, 1).mean() == pytest.approx(0.022, abs=0.003)
