"""Files that people pass as a model and that are none of PyTorch's: recognised by their first bytes, each with what to do instead."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

_ELSE = "this takes PyTorch weights (.pt, .pth, .safetensors)"
_HEADS = (
    (b"\x89HDF", f"an HDF5 file, as Keras writes it: {_ELSE}; save the network's weights from PyTorch"),
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
_PICKLE, _ZIP, _SAFETENSORS_AT = b"\x80", b"PK", 8


def foreign(path: Path, head: bytes) -> str | None:
    """What a file is, and what to do instead, where it cannot be PyTorch's; None where it may be.

    Args:
        path: of the file.
        head: its first bytes.
    """
    for start, words in _HEADS:
        if head.startswith(start):
            return words
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model: {_ELSE}; name those that it was made from"
    if head.startswith(_ZIP):
        return _foreign_zip(path)
    if head.startswith((_PICKLE, b"version https://git-lfs")) or head[_SAFETENSORS_AT : _SAFETENSORS_AT + 1] == b"{":
        return None
    if path.suffix == ".py":
        return "a Python file: pass it as --arch file.py:factory, and name the file of weights as the model"
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"a text file, not a model: {_ELSE}"
    return None


def model_folder(path: Path) -> str:
    """What to say of a folder that was passed as a model."""
    names = {child.name for child in path.iterdir()}
    if "saved_model.pb" in names:
        return f"is a TensorFlow SavedModel: {_ELSE}"
    if "manifest.json" in names or "report.json" in names:
        return "is the folder of a run or of a compiled model: name the PyTorch weights (optimize verify and optimize profile take folders)"
    weights = sorted(name for name in names if name.endswith((".pt", ".pth", ".bin", ".safetensors")))
    found = f", such as {weights[0]}" if weights else ""
    return f"is a folder: name the file of weights inside it{found}"


def weights_as_data(path: Path) -> bool:
    """Whether what was passed as data is a file of weights."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_ZIP):
        return any(name.rpartition("/")[2] == "data.pkl" for name in _names(path))
    return head.startswith(_PICKLE) or head[_SAFETENSORS_AT : _SAFETENSORS_AT + 1] == b"{"


def _foreign_zip(path: Path) -> str | None:
    names = _names(path)
    if any(name.endswith(".npy") for name in names):
        return "a file of arrays (.npz), not a model: pass it as --data, and name the file of weights first"
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return f"a Keras model: {_ELSE}"
    if {name.rpartition("/")[2] for name in names} & {"data.pkl", "archive_format", "serialized_exported_program.json"}:
        return None
    packed = [name for name in names if name.endswith((".pt", ".pth", ".safetensors"))]
    return f"a zip archive with {packed[0]} in it: unpack it and name that file" if packed else None


def _names(path: Path) -> Collection[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return ()
