"""Read a user's single image files, whatever they are: photographs, arrays, DICOM or NIfTI.

Every file becomes a batch of images: one for a photograph, one for each slice of a volume where the network reads slices. What reads a
format is imported when a file of that format is opened: Pillow, pydicom and nibabel are no requirements (`optimize[files]`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimize.data.arrays import Array
from optimize.data.image_packages import image_package
from optimize.errors import InputError
from optimize.loading.factory import describe

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ENDINGS = (*PHOTOGRAPHS, ".npy", ".dcm", ".nii", ".nii.gz")
"""Endings of files that are read, in lower case; a file without an ending that begins as DICOM does is one too."""
_DICOM_MAGIC = 128, b"DICM"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The images of one file.

    Args:
        images: the images, channels last, (N, *spatial, C); N is above 1 for the slices of a volume.
        size: *spatial of one image, as stored.
    """

    images: Array
    size: tuple[int, ...]


def image_files(paths: Sequence[str | Path]) -> list[Path]:
    """Return the image files that are meant: files as they are, and of each folder those with a known ending, by name.

    Args:
        paths: files and folders; folders are not searched in depth.

    Raises:
        InputError: when a path does not exist, is of no kind that is read, or a folder holds no image.
    """
    return [file for path in paths for file in _files(Path(path))]


def read_image(path: Path, spatial: int) -> ImageFile:
    """Read one file.

    Args:
        path: file of a kind in `ENDINGS`.
        spatial: number of spatial axes of the network's input, 1 to 3; a file with one axis more is a stack of slices.

    Raises:
        InputError: when the file is damaged, of another kind, has another number of axes, or the package that reads it is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.zeros((5, 4), np.uint8))
        ...     read_image(Path(folder) / "a.npy", 2).images.shape
        (1, 5, 4, 1)
    """
    read = _reader(path)
    try:
        images = read(path, spatial)
    except InputError:
        raise
    except Exception as problem:  # whatever the library that reads a format raises on a damaged file
        raise InputError(f"`files` (={path}) cannot be read ({describe(problem)}): copy it again, or leave it out.") from problem
    if images.ndim != spatial + 2 or not images.size:
        raise InputError(f"`files` (={path}) holds an array of shape {images.shape[1:]}: the network reads {spatial} spatial axes.")
    return ImageFile(images, tuple(images.shape[1:-1]))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        within = sorted(file for file in path.iterdir() if file.is_file() and _known(file))
        if not within:
            raise InputError(f"`files` (={path}) is a folder without images: it may hold {', '.join(ENDINGS)}.")
        yield from within
        return
    if not path.is_file():
        raise InputError(f"`files` (={path}) does not exist: check the path.")
    if not _known(path):
        raise InputError(f"`files` (={path}) is of no kind that is read: pass {', '.join(ENDINGS)}.")
    yield path


def _known(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS) or (not path.suffix and _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    start, magic = _DICOM_MAGIC
    with path.open("rb") as stream:
        return stream.read(start + len(magic))[start:] == magic


def _reader(path: Path) -> Callable[[Path, int], Array]:
    name = path.name.lower()
    if name.endswith(PHOTOGRAPHS):
        return _photograph
    if name.endswith(".npy"):
        return _numpy
    return _nifti if name.endswith((".nii", ".nii.gz")) else _dicom


def _photograph(path: Path, spatial: int) -> Array:
    image = image_package("PIL.Image", f"`files` (={path})").open(path)
    # a palette or an alpha channel is no image that a network was trained on
    pixels = np.asarray(image if image.mode in ("L", "RGB", "I;16", "F") else image.convert("RGB"))
    return _with_channels(pixels, spatial)[None]


def _numpy(path: Path, spatial: int) -> Array:
    pixels = np.load(path, allow_pickle=False)
    # as in a file of data: floats with channels first, bytes with channels last
    if pixels.dtype.kind == "f" and pixels.ndim == spatial + 1:
        pixels = np.moveaxis(pixels, 0, -1)
    return _with_channels(pixels, spatial)[None]


def _dicom(path: Path, spatial: int) -> Array:
    stored = image_package("pydicom", f"`files` (={path})").dcmread(path)
    pixels = np.asarray(stored.pixel_array)
    if int(getattr(stored, "SamplesPerPixel", 1)) == 1:
        pixels = pixels * float(getattr(stored, "RescaleSlope", 1)) + float(getattr(stored, "RescaleIntercept", 0))
        pixels = pixels.astype(np.float32)[..., None]
    # frames come first, and are the images of a network that reads slices
    return pixels if pixels.ndim == spatial + 2 else pixels[None]


def _nifti(path: Path, spatial: int) -> Array:
    volume = np.asarray(image_package("nibabel", f"`files` (={path})").load(path).dataobj, dtype=np.float32)
    if volume.ndim == spatial + 1:
        volume = np.moveaxis(volume, -1, 0)  # slices along the last axis
        return volume[..., None]
    return volume[None, ..., None]


def _with_channels(pixels: Array, spatial: int) -> Array:
    return pixels[..., None] if pixels.ndim == spatial else pixels
