"""Model formats are found by looking into a folder: a made-up one is put there, and everything knows it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from optimize.errors import InputError
from optimize.loading import formats
from optimize.loading.load import load_model
from optimize.loading.model_formats import ModelFormat, format_of, model_formats
from tests.runs import bring, command

NUMPY_WEIGHTS = '''"""Weights in a NumPy archive."""

import zipfile

import numpy as np
import torch

NAMED = "NumPy archive of weights"


def recognises(path, head):
    return head.startswith(b"PK") and zipfile.is_zipfile(path) and all(name.endswith(".npy") for name in zipfile.ZipFile(path).namelist())


def read(path, *, trust_pickle, code):
    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}
'''
NET = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))\n"


@pytest.fixture
def numpy_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more format, in a folder that belongs to the package for the time of a test."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "numpy_weights.py").write_text(NUMPY_WEIGHTS)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "more")])
    yield
    sys.modules.pop("optimize.loading.formats.numpy_weights", None)


def _net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def _as_numpy(module: nn.Module, path: Path) -> Path:
    with path.open("wb") as file:  # under any name: numpy appends a suffix to a path
        np.savez(file, **{name: tensor.numpy() for name, tensor in module.state_dict().items()})
    return path


@pytest.mark.parametrize("format", model_formats(), ids=lambda format: format.__name__.rpartition(".")[2])
def test_every_format_defines_what_the_protocol_lists(format: ModelFormat) -> None:
    assert isinstance(format.NAMED, str)
    for name in ("recognises", "read"):
        expected = list(inspect.signature(getattr(ModelFormat, name)).parameters)[1:]
        assert list(inspect.signature(getattr(format, name)).parameters) == expected
        assert inspect.getdoc(getattr(format, name))


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    save_file(_net().state_dict(), tmp_path / "a.pt")
    torch.save(_net().state_dict(), tmp_path / "b.safetensors")
    torch.save(_net().state_dict(), tmp_path / "c.onnx", _use_new_zipfile_serialization=False)
    named = {name: format_of(tmp_path / name).NAMED for name in ("a.pt", "b.safetensors", "c.onnx")}
    assert named == {"a.pt": "safetensors", "b.safetensors": "PyTorch file (.pt, .pth)", "c.onnx": "PyTorch file (.pt, .pth)"}


@pytest.mark.usefixtures("numpy_weights")
def test_a_new_format_gives_the_same_network(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    path = _as_numpy(_net(), tmp_path / "weights.dat")
    candidate = load_model(path, arch=f"{tmp_path}/net.py:net", input_shape=(1, 8, 8))
    inputs = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        np.testing.assert_allclose(candidate.predict(inputs.numpy()), _net()(inputs).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("numpy_weights")
def test_the_command_reads_a_new_format(tmp_path: Path) -> None:
    model = bring(tmp_path / "brought")
    path = _as_numpy(nn.Linear(2, 2), model.with_name("weights.dat"))
    code, _, stderr = command("compress", path, "--target", "onnxruntime", "--out", tmp_path / "out")
    assert code == 2
    assert "0.weight 2x2 for 8x1x3x3" in stderr


@pytest.mark.usefixtures("numpy_weights")
def test_a_damaged_file_of_a_new_format_gives_one_line(tmp_path: Path) -> None:
    path = _as_numpy(_net(), tmp_path / "weights.dat")
    path.write_bytes(path.read_bytes().replace(b"\x93NUMPY", b"\x93NUMPX"))
    with pytest.raises(InputError, match=r"is damaged NumPy archive of weights \(\w+: .*\): copy it again") as raised:
        load_model(path, input_shape=(1, 8, 8))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"a text file\n", b"\x00" * 100])
def test_an_unknown_file_is_answered_with_all_formats(content: bytes, tmp_path: Path, numpy_weights: None) -> None:
    (tmp_path / "weights.dat").write_bytes(content)
    with pytest.raises(InputError, match=r"NumPy archive of weights, .*PyTorch file \(\.pt, \.pth\), .*safetensors"):
        format_of(tmp_path / "weights.dat")


def test_formats_of_others_are_gone_afterwards() -> None:
    assert {format.NAMED for format in model_formats()} >= {"PyTorch file (.pt, .pth)", "safetensors"}
    assert {Path(inspect.getfile(format)).parent for format in model_formats()} == {Path(formats.__file__).parent}  # type: ignore[arg-type]
