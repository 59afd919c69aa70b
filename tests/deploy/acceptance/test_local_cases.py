"""The cases of a site: names of arrays, numbering of classes, and what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.data.preprocessing import Preprocessing
from optimize.deploy.acceptance.local_cases import local_cases
from optimize.errors import InputError
from optimize.progress import shown
from tests.deploy.acceptance.made import images, mask_use, use

LABELS = np.array([0, 1, 2, 0])


def test_a_file_and_arrays_give_the_same(tmp_path: Path) -> None:
    arrays = {"images": images(4), "labels": LABELS, "patient": np.array([1, 1, 2, 3]), "site_group": np.array(["x", "x", "y", "y"])}
    np.savez(tmp_path / "plain.npz", **arrays)  # type: ignore[arg-type]
    others = {"train_images": images(9), "train_labels": np.zeros(9, int), "val_images": images(2)}
    np.savez(tmp_path / "run.npz", **{f"test_{name}": value for name, value in arrays.items()}, **others)  # type: ignore[arg-type]
    for source in (arrays, str(tmp_path / "plain.npz"), tmp_path / "run.npz"):
        cases = local_cases(source, use())
        assert (len(cases), cases.labelled, cases.split.labels.tolist()) == (4, True, [0, 1, 2, 0])
        said = cases.as_dict(("a", "b", "c"))
        assert said["per_class"] == {"a": 2, "b": 1, "c": 1}
        assert (said["patients"], said["per_group"]) == (3, {"site": {"x": 2, "y": 2}})
        assert said["sha256"] == hashlib.sha256(arrays["images"].tobytes() + LABELS.astype("<i8").tobytes()).hexdigest()
    assert local_cases((arrays["images"], LABELS), use()).labelled


def test_without_labels_the_hash_is_of_the_images() -> None:
    cases = local_cases({"images": images(4)}, use())
    assert not cases.labelled
    assert cases.as_dict(("a", "b", "c"))["per_class"] is None
    assert cases.sha256 == hashlib.sha256(images(4).tobytes()).hexdigest()


def test_classes_match_by_name() -> None:
    cases = local_cases({"images": images(3), "labels": [0, 1, 0], "class_names": np.array(["c", "a"])}, use())
    assert cases.split.labels.tolist() == [2, 0, 2]
    numbered = local_cases({"images": images(2), "labels": [0, 2], "class_names": np.array(["x", "y", "z"])}, use(classes=("0", "1", "2")))
    assert numbered.split.labels.tolist() == [0, 2]


def test_masks_are_numbered_as_the_model_numbers_them() -> None:
    of = mask_use(classes=("liver", "spleen"), output_shape=(3, 4, 4))
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 0], masks[1, 1] = 1, 2
    cases = local_cases({"images": images(2, 4), "masks": masks, "class_names": np.array(["spleen", "liver"])}, of)
    assert (np.unique(cases.split.labels[0]).tolist(), np.unique(cases.split.labels[1]).tolist()) == ([0, 2], [0, 1])
    each = mask_use(classes=("liver", "spleen"), output_shape=(2, 4, 4), overlapping=True)
    channels = np.stack([masks == 1, masks == 2], axis=1)
    swapped = local_cases({"images": images(2, 4), "masks": channels, "class_names": np.array(["spleen", "liver"])}, each)
    assert np.array_equal(swapped.split.labels, channels[:, ::-1])


def test_images_are_stored_without_the_padding() -> None:
    of = use(preprocessing=Preprocessing(pad=1), input_shape=(1, 4, 4))
    assert local_cases({"images": images(2)}, of).split.inputs().shape == (2, 1, 4, 4)


def test_another_scale_is_said() -> None:
    assert local_cases({"images": images(8)}, use()).findings == ()
    (said,) = local_cases({"images": images(8) // 16}, use()).findings
    assert "see that the images have the scale of the run" in said
    floats = use(bytes_stored=False)
    (said,) = local_cases({"images": images(8).astype(np.float32)}, floats).findings
    assert "those of the run from 0 to 1" in said


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"pictures": images(2)}, "no array 'images' or 'test_images'"),
        ({"images": images(2, 5)}, "`images` holds images of 5x5"),
        ({"images": images(2).astype(np.float32)}, "`images` is float32"),
        ({"images": images(0)}, "`images` is empty"),
        ({"images": images(2), "labels": [0, 3]}, "labels must be 0 to 2"),
        ({"images": images(2), "labels": [0.5, 1.5]}, "whole numbers"),
        ({"images": images(2), "labels": [0]}, "one per image"),
        ({"images": images(2), "masks": np.zeros((2, 2, 2), int)}, "`masks` does not fit the model, which is for classification"),
        ({"images": images(2), "labels": [0, 1], "classes": np.array(["a", "x"])}, "'x', which is no class"),
        ({"images": images(2), "labels": [0, 1], "classes": np.array(["a", "a"])}, "has 'a' twice"),
        *(({"images": images(2), name: [0, 1]}, "call it 'labels'") for name in ("label", "Labels", "lables", "y")),
        ({"test_images": images(2), "test_label": [0, 1]}, "call it 'test_labels'"),
        ({"images": images(2), "mask": [0, 1]}, "call it 'masks'"),
        ({"images": images(2), "class_share": [0.1, 0.1, 0.1]}, "call it 'class_shares'"),
        ({"images": images(2), "original_output": np.zeros((2, 3))}, "call it 'original_outputs'"),
        ({"images": images(2), "labels": [0, 1], "test_images": images(2), "test_labels": [1, 2]}, "begin every name with 'test_'"),
        ({"images": images(2), "test_labels": [0, 1]}, "begin every name with 'test_'"),
        ({"images": images(2), "patients": [1, 2]}, "call it 'patient'"),
        ({"test_images": images(2), "test_patients": [1, 2]}, "call it 'test_patient'"),
        ({"images": images(2), "original_outputs": np.zeros((2, 4), np.float32)}, "it must be floats (N, 3)"),
        ({"images": images(2), "original_outputs": np.zeros((1, 3), np.float32)}, "one per image"),
        ({"images": images(2), "class_shares": np.array([0.5, 0.9, 0.1])}, "at most 1 in all"),
        (7, "is a int"),
        ("nowhere.npz", "does not exist"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(arrays: Any, named: str) -> None:
    with pytest.raises(InputError) as refused:
        local_cases(arrays, use())
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_masks_of_the_other_form_are_refused() -> None:
    with pytest.raises(InputError, match="not in the form of the run"):
        local_cases({"images": images(2, 4), "masks": np.zeros((2, 2, 4, 4), int)}, mask_use())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("2", "1", "x"), "has 'x', which is no class"),
        (("1", "2", "3"), "has '3', which is no class"),
        (("x", "y", "x"), "has 'x' twice"),
        (("x", "y"), "has 'x', which is no class"),
    ],
)
def test_names_that_contradict_numbered_classes_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        local_cases({"images": images(2), "labels": [0, 1], "classes": np.array(names)}, use(classes=("0", "1", "2")))


def test_numbers_in_another_order_are_mapped() -> None:
    cases = local_cases({"images": images(2), "labels": [0, 1], "classes": np.array(["2", "1", "0"])}, use(classes=("0", "1", "2")))
    assert cases.split.labels.tolist() == [2, 1]


def test_what_is_not_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        assert not local_cases({"images": images(2), "notes": [1, 2], "train_images": images(1)}, use()).labelled
    told = capsys.readouterr()
    assert "'notes' is not read" in told.out + told.err
    assert "train_images" not in told.out + told.err
