"""Recognise files that are often passed as a model by mistake, and say what to do instead."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from optimize.loading.factory import describe

SAVE_INSTEAD = "save model.state_dict() with torch.save and pass --arch file.py:factory"
PICKLE, ZIP = b"\x80", b"PK"
_FORMATS = "{formats}"
"""Stands for the names of the formats that can be read."""
_READABLE = f"this takes PyTorch weights in one of these formats: {_FORMATS}"
_BY_FIRST_BYTES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: run `git lfs pull`"),
    (b"\x89HDF", f"an HDF5 file, as Keras writes it: {_READABLE}; save the network's weights from PyTorch"),
    (b"\x93NUMPY", "a numpy array (.npy), not a model: name the file of weights; data go behind --data, as an .npz"),
    (b"ftrt", "a TensorRT engine, which is compiled already: name the PyTorch weights that it was made from"),
    (b"\x89PNG", "a picture, not a model: name the file of weights"),
    (b"\xff\xd8\xff", "a picture, not a model: name the file of weights"),
    (b"%PDF", "a PDF, not a model: name the file of weights"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"<?xml", "XML, such as OpenVINO's, which is compiled already: name the PyTorch weights that it was made from"),
    (b"<!DOCTYPE", "a web page, not a model: the download went wrong, so fetch the file again"),
    (b"<html", "a web page, not a model: the download went wrong, so fetch the file again"),
)


def unsupported_reason(path: Path, head: bytes, formats: Sequence[str]) -> str:
    """Return what a file that no format recognises is, and what to do instead; to be read behind the file's name.

    Args:
        path: path of the file.
        head: first bytes of the file.
        formats: names of the formats that can be read.
    """
    return f"is {_kind(path, head)}".replace(_FORMATS, ", ".join(formats))


def unsupported_folder_reason(path: Path, formats: Sequence[str]) -> str:
    """Return what a folder that no format recognises is, and what to do instead; to be read behind the folder's name.

    Args:
        path: path of the folder.
        formats: names of the formats that can be read.
    """
    names = {child.name for child in path.iterdir()}
    if "saved_model.pb" in names:
        return f"is a TensorFlow SavedModel: {_READABLE}".replace(_FORMATS, ", ".join(formats))
    if "manifest.json" in names or "report.json" in names:
        return "is the folder of a run or of a compiled model: name the PyTorch weights (optimize verify and optimize profile take folders)"
    weights = sorted(name for name in names if name.endswith((".pt", ".pth", ".bin", ".safetensors")))
    example = f", such as {weights[0]}" if weights else ""
    return f"is a folder: name the file of weights inside it{example}"


def unsupported_zip_reason(path: Path) -> str | None:
    """Return what a zip archive is, and what to do instead, where it holds no weights that `torch.save` wrote; None where it holds them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as problem:
        return f"damaged or cut short ({describe(problem)}): copy it again"
    leaves = {name.rpartition("/")[2] for name in names}
    if any(name.endswith(".npy") for name in names):
        return "a file of arrays (.npz), not a model: pass it as --data, and name the file of weights first"
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return f"a Keras model: {_READABLE}"
    if leaves & {"archive_format", "serialized_exported_program.json"}:
        return "an exported program (.pt2), and no file of weights"
    if "constants.pkl" in leaves and any("/code/" in name for name in names):
        return "TorchScript, and no file of weights"
    if "data.pkl" in leaves:
        return None
    packed = [name for name in names if name.endswith((".pt", ".pth", ".safetensors"))]
    if packed:
        return f"a zip archive with {packed[0]} in it: unpack it and name that file"
    return _not_yet("a zip file without PyTorch weights")


def weights_as_data(path: Path) -> bool:
    """Return whether what was passed as data is a file of weights."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(ZIP):
        return any(name.rpartition("/")[2] == "data.pkl" for name in zip_names(path))
    return head.startswith(PICKLE) or head[8:9] == b"{"


def _kind(path: Path, head: bytes) -> str:
    for start, words in _BY_FIRST_BYTES:
        if head.startswith(start):
            return words
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model: {_READABLE}; name those that it was made from"
    words_of_zip = unsupported_zip_reason(path) if head.startswith(ZIP) else None
    if words_of_zip is not None:
        return words_of_zip
    # Of what has no mark of its own, the suffix gives the better advice; it decides nothing, since nothing here is read.
    if path.name == "config.json":
        return "the settings of a Hugging Face folder: name the folder"
    if path.suffix == ".py":
        return "a Python file: pass it as --arch file.py:factory, and name the file of weights as the model"
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"a text file, not a model: {_READABLE}"
    return f"damaged or no PyTorch file (this reads {_FORMATS}): copy it again, or save it anew"


def _not_yet(kind: str) -> str:
    return f"{kind}, which is not readable yet: {SAVE_INSTEAD}"


def zip_names(path: Path) -> Collection[str]:
    """Return the names in a zip archive; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return ()
