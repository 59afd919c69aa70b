"""Files that are no model of PyTorch's: each is named for what it is, before anything else is said of the call."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from optimize.data import sources
from optimize.errors import InputError
from optimize.loading.model_formats import format_of
from tests.runs import command


def line(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        format_of(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes it"),
        ("a.tflite", b"\x1c\x00\x00\x00TFL3", "is a TensorFlow Lite model"),
        ("a.engine", b"ftrt\x00\x00", "is a TensorRT engine, which is compiled already"),
        ("a.xml", b'<?xml version="1.0"?>', "is XML, such as OpenVINO's"),
        ("a.pt", b"<!DOCTYPE html>", "is a web page, not a model: the download went wrong"),
        ("a.png", b"\x89PNG\r\n", "is a picture"),
        ("a.txt", b"weights\n", "is a text file, not a model"),
        ("net.py", b"from torch import nn\n", "is a Python file: pass it as --arch file.py:factory"),
        ("config.json", b"{}\n", "is the settings of a Hugging Face folder: name the folder"),
        ("a.pt.gz", b"\x1f\x8b\x08", "is compressed with gzip: unpack it first"),
    ],
)
def test_by_their_format_of(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in line(tmp_path / name)


def test_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", train_images=np.zeros(3))
    assert "is a file of arrays (.npz), not a model: pass it as --data" in line(tmp_path / "cells.npz")
    np.save(tmp_path / "cells.npy", np.zeros(3))
    assert "is a numpy array (.npy), not a model" in line(tmp_path / "cells.npy")
    for name, members, said in (
        ("a.keras", ("config.json", "model.weights.h5"), "is a Keras model"),
        ("a.zip", ("run/best.pt",), "with run/best.pt in it: unpack it"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, "x")
        assert said in line(tmp_path / name)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "best.pth").touch()
    assert "is a folder: name the file of weights inside it, such as best.pth" in line(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert "is a TensorFlow SavedModel" in line(tmp_path)


@pytest.mark.parametrize("legacy", [True, False])
def test_what_may_be_pytorch_is_let_through_and_is_no_data(legacy: bool, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        assert format_of(tmp_path / name)
        with pytest.raises(InputError, match="is a file of weights: name it first, as the model, and the data behind --data"):
            sources.format_of(tmp_path / name)


def test_the_model_is_spoken_of_before_the_data_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    code, _, stderr = command("compress", tmp_path / "a.h5", "--target", "onnxruntime", "--out", tmp_path / "out")
    assert code == 2
    assert "is an HDF5 file" in stderr
    assert "data" not in stderr


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        (("--target", "openvno"), "openvino"),
        (("--target", "ORT"), "onnxruntime"),
        (("--target", "onnxruntime", "--preset", "clincal"), "clinical"),
        (("--target", "onnxruntime", "--strategy", "alocate"), "allocate"),
        (("--target", "onnxruntime", "--cpu-level", "avx3"), "avx2"),
        (("--target", "onnxruntime", "--metric", "acuracy"), "accuracy"),
        (("--target", "onnxruntime", "--standardize", "Image"), "image"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(flags: tuple[str, ...], meant: str, tmp_path: Path) -> None:
    code, _, stderr = command("compress", tmp_path / "a.pt", "--out", tmp_path / "out", *flags)
    assert code == 2
    assert f"(did you mean '{meant}'?)" in stderr
