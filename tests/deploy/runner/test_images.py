"""Files of each format, written by the libraries that own the format, are read as the run stored its images, or refused in one line."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from optimize.deploy.runner import images, preprocess
from optimize.deploy.runner.errors import WrongInput
from tests.deploy.runner.handmade import FLOATS, STORED

DRAW = np.random.default_rng(6)
GREY = DRAW.integers(0, 256, (6, 5), dtype=np.uint8)
RGB = DRAW.integers(0, 256, (6, 5, 3), dtype=np.uint8)
BYTES_1 = preprocess.read({**STORED, "pad": 1}, (1, 8, 7))
BYTES_3 = preprocess.read(STORED, (3, 6, 5))
FLOATS_1 = preprocess.read(FLOATS, (1, 6, 5))
FLOATS_3 = preprocess.read(FLOATS, (3, 6, 5))
VOLUME = preprocess.read(FLOATS, (1, 6, 5, 4))


def dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """A file as pydicom writes it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        bits,
        bits,
        bits - 1,
        int(pixels.dtype.kind == "i"),
    )
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def one(path: Path, wanted: preprocess.Preprocessing) -> np.ndarray:
    """The only image of a file."""
    (image,) = images.read(path, wanted)
    assert image.shape == wanted.stored_shape
    wanted.require(image[None])
    return image


def test_png_and_dicom_of_bytes_are_read_as_they_were_stored(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(one(tmp_path / "grey.png", BYTES_1), GREY[..., None])
    np.testing.assert_array_equal(one(tmp_path / "rgb.png", BYTES_3), RGB)
    np.testing.assert_array_equal(one(dicom(tmp_path / "grey.dcm", GREY), BYTES_1), GREY[..., None])
    # 90 bytes of pixels, an even number as DICOM wants it
    np.testing.assert_array_equal(one(dicom(tmp_path / "rgb.dcm", RGB), BYTES_3), RGB)


def test_floats_take_the_numbers_that_a_format_defines(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(one(tmp_path / "rgb.png", FLOATS_3), np.moveaxis(RGB, -1, 0).astype(np.float32))
    wide = (GREY.astype(np.uint16) * 200).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(one(tmp_path / "wide.png", FLOATS_1), wide[None].astype(np.float32))
    hounsfield = dicom(tmp_path / "ct.dcm", wide.astype(np.int16), RescaleSlope="2", RescaleIntercept="-1024")
    np.testing.assert_array_equal(one(hounsfield, FLOATS_1), (wide.astype(np.int16)[None] * 2.0 - 1024).astype(np.float32))


def test_nifti_keeps_the_order_of_its_axes(tmp_path: Path) -> None:
    values = DRAW.normal(size=(6, 5, 4)).astype(np.float32)
    for name in ("v.nii", "v.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 3, 4, 1])), tmp_path / name)
        np.testing.assert_array_equal(one(tmp_path / name, VOLUME), values[None])
    nibabel.save(nibabel.Nifti2Image(values[..., :1], np.eye(4)), tmp_path / "slice.nii")
    np.testing.assert_array_equal(one(tmp_path / "slice.nii", FLOATS_1), values[..., 0][None])


@pytest.mark.parametrize(
    ("shape", "wanted", "count"),
    [
        ((6, 5), BYTES_1, 1),
        ((6, 5, 1), BYTES_1, 1),
        ((3, 6, 5), BYTES_1, 3),
        ((3, 6, 5, 1), BYTES_1, 3),
        ((6, 5, 3), BYTES_3, 1),
        ((2, 6, 5, 3), BYTES_3, 2),
        ((1, 6, 5), FLOATS_1, 1),
        ((6, 5), FLOATS_1, 1),
        ((4, 1, 6, 5), FLOATS_1, 4),
        ((4, 6, 5), FLOATS_1, 4),
        ((2, 3, 6, 5), FLOATS_3, 2),
        ((6, 5, 4), VOLUME, 1),
    ],
)
def test_arrays_hold_one_image_or_a_stack(shape: tuple[int, ...], wanted: preprocess.Preprocessing, count: int, tmp_path: Path) -> None:
    values = DRAW.integers(0, 256, shape, dtype=np.uint8) if wanted.whole else DRAW.normal(size=shape)
    np.save(tmp_path / "x.npy", values)
    found = list(images.read(tmp_path / "x.npy", wanted))
    assert len(found) == count
    np.testing.assert_array_equal(np.stack(found), values.reshape(count, *wanted.stored_shape).astype(found[0].dtype))


def written(folder: Path, name: str) -> Path:
    """A file that does not fit, or cannot be read."""
    path = folder / name
    match path.stem:
        case "alpha":
            Image.fromarray(np.dstack([RGB, GREY])).save(path)
        case "small":
            Image.fromarray(RGB[:3]).save(path)
        case "grey":
            Image.fromarray(GREY).save(path)
        case "wide":
            Image.fromarray(np.dstack([RGB] * 1)[..., 0].astype(np.uint16)).save(path)
        case "objects":
            np.save(path, np.array([print], dtype=object), allow_pickle=True)
        case "shape":
            np.save(path, np.zeros((2, 6, 4, 3), np.uint8))
        case "texts":
            np.save(path, np.full((6, 5, 3), "x"))
        case "empty":
            np.save(path, np.zeros((0, 6, 5, 3), np.uint8))
        case "cut":
            np.save(path, RGB)
            path.write_bytes(path.read_bytes()[:-1])
        case "begun" | "flipped" | "header" | "braces":
            np.save(path, RGB) if path.suffix == ".npy" else Image.fromarray(RGB).save(path)
            content = path.read_bytes()
            changed = {
                "begun": content[:60],
                "flipped": content.replace(b"IDATx", b"IDATy"),
                "header": content.replace(b"'descr'", b"'other'"),
                "braces": content.replace(b"}", b"{"),
            }
            assert changed[path.stem] != content
            path.write_bytes(changed[path.stem])
        case "inverted":
            dicom(path, GREY, PhotometricInterpretation="MONOCHROME1")
        case "large":
            dicom(path, GREY, NumberOfFrames=10**9)
        case "no pixels":
            dicom(path, GREY)
            dataset = pydicom.dcmread(path)
            del dataset.PixelData
            dataset.save_as(path)
        case "bomb.nii":
            image = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
            image.header.set_data_shape((30000, 30000, 30000))
            path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4)))
        case "damaged.nii":
            path.write_bytes(b"\x1f\x8b" + bytes(20))
        case _:
            path.write_bytes(b"GIF89a")
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alpha.png", "is 6 x 5 with 4 channels, the network takes 6 x 5 with 3 channels"),
        ("small.png", "is 3 x 5 with 3 channels, the network takes 6 x 5 with 3 channels: bring it to that size"),
        ("grey.png", "is 6 x 5 with 1 channel, the network takes 6 x 5 with 3 channels: convert it to 3 channels as for the run; nothing"),
        ("objects.npy", "is no array that can be read (it holds objects)"),
        ("shape.npy", "is an array of shape (2, 6, 4, 3)"),
        ("texts.npy", "of type <U1, the run's images were uint8"),
        ("empty.npy", "of shape (0, 6, 5, 3)"),
        ("cut.npy", "is no array that can be read (it is cut short)"),
        ("begun.npy", "is no array that can be read (it is cut short)"),
        ("header.npy", "is no array that can be read (its header is damaged)"),
        ("braces.npy", "is no array that can be read (its header is damaged)"),
        ("begun.png", "cannot be read as PNG (it is cut short)"),
        ("flipped.png", "cannot be read as PNG (the checksum of its chunk IDAT differs)"),
        ("inverted.dcm", "is 'MONOCHROME1'"),
        ("large.dcm", "its pixels take more than 1024 MiB"),
        ("no pixels.dcm", "cannot be read as DICOM"),
        ("bomb.nii.gz", "take more than"),
        ("damaged.nii.gz", "cannot be read as NIfTI"),
        ("picture.gif", "of no known format: give a file of "),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_file(name: str, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    with pytest.raises(WrongInput) as problem:
        list(images.read(path, BYTES_3))
    line = str(problem.value)
    assert words in line
    assert name in line
    assert "\n" not in line


def test_numbers_of_another_kind_are_not_converted(tmp_path: Path) -> None:
    Image.fromarray((GREY.astype(np.uint16) * 200).astype(np.uint16)).save(tmp_path / "wide.png")
    np.save(tmp_path / "nan.npy", np.full((6, 5), np.nan))
    np.save(tmp_path / "complex.npy", np.zeros((6, 5), complex))
    for name, wanted, words in (
        ("wide.png", BYTES_1, "of type uint16, the run's images were uint8"),
        ("nan.npy", FLOATS_1, "not finite"),
        ("complex.npy", FLOATS_1, "the run's images were floats"),
        ("none.png", BYTES_1, "cannot be read (No such file"),
    ):
        with pytest.raises(WrongInput) as problem:
            list(images.read(tmp_path / name, wanted))
        assert words in str(problem.value)


@pytest.mark.parametrize(("library", "name"), [("pydicom", "x.dcm"), ("nibabel", "x.nii")])
def test_a_reader_that_is_not_installed_is_named(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if library == "pydicom":
        dicom(path, GREY)
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4), np.float32), np.eye(4)), path)
    for module in [module for module in sys.modules if module.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WrongInput, match=f"pip install {library}"):
        list(images.read(path, VOLUME))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", RGB)
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(WrongInput, match="larger than"):
        list(images.read(tmp_path / "x.npy", BYTES_3))
