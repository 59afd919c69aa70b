"""Single image files of every kind that is read, each written by the library of its own format."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from optimize.data import image_packages
from optimize.data.image_files import image_files, read_image
from optimize.errors import InputError
from tests.data.dicom_files import dicom

PIXELS = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
RESCALED = {"RescaleSlope": 2.0, "RescaleIntercept": -5.0}


def test_photographs_have_channels_last(tmp_path: Path) -> None:
    colour = np.stack([PIXELS, PIXELS + 1, PIXELS + 2], axis=-1)
    Image.fromarray(PIXELS).save(tmp_path / "gray.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "gray.png", 2).images, PIXELS[None, ..., None])
    assert np.array_equal(read_image(tmp_path / "colour.png", 2).images, colour[None])
    assert read_image(tmp_path / "palette.png", 2).images.shape == (1, 6, 4, 3)
    assert read_image(tmp_path / "gray.png", 2).size == (6, 4)


def test_arrays_are_read_as_data_are_stored(tmp_path: Path) -> None:
    np.save(tmp_path / "bytes.npy", np.zeros((6, 4, 3), np.uint8))
    np.save(tmp_path / "floats.npy", np.zeros((3, 6, 4), np.float32))
    np.save(tmp_path / "volume.npy", np.zeros((5, 6, 4), np.float32))
    assert read_image(tmp_path / "bytes.npy", 2).images.shape == (1, 6, 4, 3)
    assert read_image(tmp_path / "floats.npy", 2).images.shape == (1, 6, 4, 3)
    assert read_image(tmp_path / "volume.npy", 3).images.shape == (1, 5, 6, 4, 1)


def test_dicom_is_rescaled_and_frames_are_images(tmp_path: Path) -> None:
    single = read_image(dicom(tmp_path / "a.dcm", PIXELS, 16, **RESCALED), 2).images
    assert np.array_equal(single, (2.0 * PIXELS - 5.0)[None, ..., None])
    frames = dicom(tmp_path / "frames", np.stack([PIXELS] * 3), 16, **RESCALED)
    assert read_image(frames, 2).images.shape == (3, 6, 4, 1)
    assert read_image(frames, 3).images.shape == (1, 3, 6, 4, 1)
    assert image_files([tmp_path]) == [tmp_path / "a.dcm", frames]  # known by its first bytes, without an ending


def test_a_nifti_volume_is_one_image_or_a_stack_of_slices(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((6, 4, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    assert np.array_equal(read_image(tmp_path / "a.nii.gz", 3).images, volume[None, ..., None])
    slices = read_image(tmp_path / "a.nii.gz", 2).images
    assert slices.shape == (5, 6, 4, 1)
    assert np.array_equal(slices[3, ..., 0], volume[..., 3])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("cut.png", b"\x89PNG\r\n", "cannot be read"),
        ("notes.txt", b"text", "of no kind that is read"),
        ("pickled.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
        ("cut.nii", b"abc", "cannot be read"),
        ("cut.dcm", b"abc", "cannot be read"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=text):
        read_image(*(*image_files([tmp_path / name]), 2))  # type: ignore[arg-type]


def test_objects_in_an_array_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "a.npy", 2)


def test_wrong_paths_and_axes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "line.npy", np.zeros(4, np.float32))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="2 spatial axes"):
        read_image(tmp_path / "line.npy", 2)
    with pytest.raises(InputError, match="does not exist"):
        image_files([tmp_path / "gone.png"])
    with pytest.raises(InputError, match="folder without images"):
        image_files([tmp_path / "empty"])


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(image_packages, "import_module", absent)
    with pytest.raises(InputError, match=r"needs pillow: pip install 'optimize\[files\]'"):
        read_image(tmp_path / "a.png", 2)
