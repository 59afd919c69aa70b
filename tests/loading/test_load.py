from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from optimize.errors import InputError
from optimize.loading.load import load_model

ARCH = """
import torch
from torch import nn
from torch.nn import functional

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 3)
    def forward(self, x):
        return self.fc(x.flatten(1))

def net(classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes))

def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
def number(): return 3
def meta(): return net().to("meta")

class Odd(nn.Module):
    def __init__(self, inner, turn):
        super().__init__()
        self.inner, self.turn = inner, turn
    def forward(self, x):
        return self.turn(self.inner(x))

class Bare(nn.Sequential):
    turn = None
    def forward(self, x):
        return type(self).turn(super().forward(x))

def odd(kind):
    turns = {
        "tuple": lambda y: (y, y), "dict": lambda y: {"out": y}, "ints": lambda y: y.argmax(1), "labels": lambda y: y.long(),
        "flat": lambda y: y.flatten(), "dropout": lambda y: functional.dropout(y + 1), "nan": lambda y: y / 0 * 0,
        "raises": lambda y: 1 / 0, "merged": lambda y: y.reshape(1, -1),
    }
    class Turned(Bare):
        turn = staticmethod(turns[kind])
    return Turned(*net())
"""
SHAPE = (3, 4, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arch.py").write_text(ARCH, encoding="utf-8")
    return tmp_path


def _net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, classes))
    net[1].running_mean.uniform_()  # type: ignore[operator]
    return net.eval()


def _saved(value: object, **kwargs: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **kwargs)
    return stream.getvalue()


def _file(folder: Path, content: bytes, name: str = "m.pt") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _args(folder: Path, factory: str = "net") -> dict[str, object]:
    return {"arch": f"{folder}/arch.py:{factory}", "input_shape": SHAPE}


WEIGHTS = _net().state_dict()
READABLE: dict[str, Callable[[], bytes]] = {
    "zip": lambda: _saved(WEIGHTS),
    "legacy": lambda: _saved(WEIGHTS, _use_new_zipfile_serialization=False),
    "safetensors": lambda: save(dict(WEIGHTS)),
    "nested": lambda: _saved({"epoch": 3, "state_dict": WEIGHTS}),
    "deeper": lambda: _saved({"model": {"model_state_dict": WEIGHTS}}),
    "other name": lambda: _saved({"epoch": 3, "net": WEIGHTS}),
    "preferred": lambda: _saved({"ema": {k: v * 0 for k, v in WEIGHTS.items()}, "model": WEIGHTS}),
    "optimizer": lambda: _saved({"weights": WEIGHTS, "optimizer": {"state": {0: {"m": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}}),
    "module.": lambda: _saved({f"module.{k}": v for k, v in WEIGHTS.items()}),
    "two prefixes": lambda: _saved({f"_orig_mod.module.{k}": v for k, v in WEIGHTS.items()}),
    "double": lambda: _saved({k: v.double() if v.is_floating_point() else v for k, v in WEIGHTS.items()}),
    "no counter": lambda: _saved({k: v for k, v in WEIGHTS.items() if "num_batches" not in k}),
    "generators": lambda: _saved({"model": WEIGHTS, "rng": np.random.RandomState(0).get_state(), "classes": np.array(["a", "bc"])}),
    "score and arguments": lambda: _saved({"best": np.float64(0.5), "args": argparse.Namespace(lr=1), "model": WEIGHTS}),
}


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("name", ["m.pt", "weights été.bin", "m.safetensors", "m"])
def test_same_outputs_whatever_the_container(folder: Path, kind: str, name: str) -> None:
    candidate = load_model(_file(folder, READABLE[kind](), name), **_args(folder))  # type: ignore[arg-type]
    inputs = torch.randn(5, *SHAPE)
    with torch.no_grad():
        expected = _net()(inputs).numpy()
    np.testing.assert_allclose(candidate.predict(inputs.numpy()), expected, rtol=1e-5, atol=1e-6)
    assert not candidate.module.training
    assert candidate.example.shape == (1, *SHAPE)
    assert candidate.lineage == ()
    assert not any(parameter.requires_grad for parameter in candidate.module.parameters())


def test_arrays_of_objects_are_refused(folder: Path) -> None:
    """Unlike arrays of numbers they can hold anything."""
    held = _saved({"model": WEIGHTS, "extra": np.array([argparse.ArgumentParser], dtype=object)})
    with pytest.raises(InputError, match="is a pickle that wants to run "):
        load_model(_file(folder, held), **_args(folder))  # type: ignore[arg-type]


def test_half_precision_becomes_float32(folder: Path) -> None:
    candidate = load_model(_file(folder, _saved(_net().half().state_dict())), **_args(folder))  # type: ignore[arg-type]
    assert {parameter.dtype for parameter in candidate.module.parameters()} == {torch.float32}
    torch.testing.assert_close(candidate.module.state_dict()["4.weight"], WEIGHTS["4.weight"], rtol=1e-3, atol=1e-3)


def test_arch_args_and_lazy_layers(folder: Path) -> None:
    path = _file(folder, _saved(_net(7).state_dict()))
    candidate = load_model(path, arch=f"{folder}/arch.py:net", arch_args={"classes": 7}, input_shape=SHAPE)
    assert candidate.predict(np.zeros((2, *SHAPE), np.float32)).shape == (2, 7)
    lazy = load_model(_file(folder, READABLE["zip"]()), **_args(folder, "lazy"))  # type: ignore[arg-type]
    assert torch.equal(lazy.module.state_dict()["4.weight"], WEIGHTS["4.weight"])


def _zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


def _damaged_safetensors() -> bytes:
    return READABLE["safetensors"]()[:-40]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "is damaged or no PyTorch file"),
        (b"hello, this is no model at all", "is a text file, not a model"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page, not a model"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 50, "is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        (READABLE["zip"]()[:-200], "is damaged or cut short"),
        (READABLE["legacy"]()[:-200], "is damaged or no PyTorch file"),
        (READABLE["legacy"]()[:30], "is damaged or no PyTorch file"),
        (_damaged_safetensors(), "is damaged safetensors"),
        (READABLE["safetensors"]()[:30], "is damaged safetensors"),
        (b"\x08\x07\x12\x07pytorch", "holds a whole network: leave --arch out"),
        (_zipped("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "is TorchScript, which is a program, .* pass --trust-pickle"),
        (_zipped("m/archive_format", "m/models/model.json"), "is an exported program .* pass --trust-pickle"),
        (_zipped("word/document.xml"), "is a zip file without PyTorch weights"),
        (_zipped("m/data.pkl"), "is damaged or no PyTorch file"),
        (pickle.dumps({"a": 1}), "is damaged or no PyTorch file"),
        (_saved([1, 2]), "holds a list, not named weights"),
        (_saved({}), "holds no weights"),
        (_saved({"epoch": 3, "loss": 0.1}), r"entries that are no tensors \(epoch, loss\)"),
        (_saved({"a": WEIGHTS, "b": WEIGHTS}), r"several sets of weights \(a, b\)"),
        (_saved({k.replace("4.bias", "extra"): v for k, v in WEIGHTS.items()}), r"1 missing \(4.bias\); 1 unexpected \(extra\)"),
        (_saved({f"x{n}.w": torch.ones(1) for n in range(9)}), r"9 unexpected \(x0.w, x1.w, x2.w, and 6 more\)"),
        (_saved(_net(2).state_dict()), r"2 of another shape \(4.weight 2x64 for 3x64, 4.bias 2 for 3\)"),
        (_saved(WEIGHTS | {"4.bias": torch.tensor([0.0, float("nan"), float("inf")])}), "4.bias has 2 values that are not finite"),
        (_saved(WEIGHTS | {"1.running_var": -torch.ones(4)}), r"not finite on noise .* \(first in `1`, BatchNorm2d\): check the weights"),
        (_saved(WEIGHTS | {"4.weight": torch.ones(3, 64, dtype=torch.int8)}), "4.weight is torch.int8, not floats"),
    ],
)
@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
def test_wrong_files_give_one_line(folder: Path, content: bytes, words: str, name: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_model(_file(folder, content, name), **_args(folder))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_missing_file_folder_and_architecture(folder: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_model(folder / "gone.pt", **_args(folder))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is a folder"):
        load_model(folder, **_args(folder))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"holds weights alone: pass --arch file.py:factory"):
        load_model(_file(folder, READABLE["zip"]()), input_shape=SHAPE)


@pytest.mark.parametrize("shape", [(), (3,), (3, 0, 4), (3, -4, 4), (True, 4, 4), (3.0, 4, 4)])
def test_input_shape_is_checked(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"`input` is missing: pass --input 3,32,32" if not shape else r"`input` \(=.*\) must be channels"):
        load_model(_file(folder, READABLE["zip"]()), arch=f"{folder}/arch.py:net", input_shape=shape)


@pytest.mark.parametrize(
    ("factory", "args", "words"),
    [
        ("number", {}, "returned a int: it must return a torch.nn.Module"),
        ("meta", {}, "meta device"),
        ("net", {"clases": 3}, r"raised TypeError: .*'clases'"),
        ("net", {"classes": -1}, "raised RuntimeError"),
        ("odd", {"kind": "ints"}, r"\(2,\) torch.int64, not floats"),
        ("odd", {"kind": "labels"}, r"\(2, 3\) torch.int64, not floats"),
        ("odd", {"kind": "flat"}, r"\(6,\) torch.float32, not floats \(N, classes"),
        ("odd", {"kind": "merged"}, r"\(1, 6\) torch.float32"),
        ("odd", {"kind": "nan"}, "is not finite"),
        ("odd", {"kind": "dropout"}, "two calls on the same image differ: dropout is at work in the forward of Turned"),
        ("odd", {"kind": "raises"}, "makes the network fail with ZeroDivisionError"),
    ],
)
def test_wrong_architectures(folder: Path, factory: str, args: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model(_file(folder, READABLE["zip"]()), arch=f"{folder}/arch.py:{factory}", arch_args=args, input_shape=SHAPE)


def test_input_that_does_not_fit_the_network(folder: Path) -> None:
    with pytest.raises(InputError, match=r"`input` \(=3,8,8\) makes the network fail with RuntimeError: mat1 and mat2"):
        load_model(_file(folder, READABLE["zip"]()), arch=f"{folder}/arch.py:net", input_shape=(3, 8, 8))


class Evil:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_runs_nothing_without_trust(folder: Path, zipped: bool) -> None:
    marker = folder / "ran"
    path = _file(folder, _saved({"state_dict": WEIGHTS, "x": Evil(str(marker))}, _use_new_zipfile_serialization=zipped))
    with pytest.raises(InputError, match=r"wants to run \S*open.* or pass --trust-pickle"):
        load_model(path, **_args(folder))  # type: ignore[arg-type]
    assert not marker.exists()


def test_whole_module_is_refused_then_loaded_with_trust(folder: Path) -> None:
    path = _file(folder, _saved(_net()))
    with pytest.raises(InputError, match=r"wants to run torch\.nn\.modules\.\w+\.\w+.*save model.state_dict\(\).*--trust-pickle"):
        load_model(path, input_shape=SHAPE)
    inputs = np.random.default_rng(0).standard_normal((2, *SHAPE), dtype=np.float32)
    expected = load_model(_file(folder, READABLE["zip"](), "w.pt"), **_args(folder)).predict(inputs)  # type: ignore[arg-type]
    for extra in ({}, {"arch": f"{folder}/arch.py:net"}):
        candidate = load_model(path, input_shape=SHAPE, trust_pickle=True, **extra)  # type: ignore[arg-type]
        np.testing.assert_array_equal(candidate.predict(inputs), expected)


def test_trusted_pickle_whose_code_is_gone(folder: Path) -> None:
    content = _saved(_net()).replace(b"torch.nn.modules.container", b"gonee.nn.modules.container")
    with pytest.raises(InputError, match="loaded as a trusted pickle, raised ModuleNotFoundError: No module named 'gonee'"):
        load_model(_file(folder, content), input_shape=SHAPE, trust_pickle=True)


def test_trust_does_not_hide_damage(folder: Path) -> None:
    with pytest.raises(InputError, match="is damaged"):
        load_model(_file(folder, READABLE["zip"]()[:-200]), trust_pickle=True, **_args(folder))  # type: ignore[arg-type]
