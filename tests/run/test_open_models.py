"""What may be named, what it becomes, and one line for whatever cannot be run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from optimize import backends
from optimize.backends import onnx_target_names
from optimize.errors import InputError, TargetUnavailable
from optimize.run import open_models as module
from optimize.run.open_models import ModelOpener
from tests import runs
from tests.measure import small


def opening(scratch: Path, **more: Any) -> ModelOpener:
    return ModelOpener(scratch / "scratch", **more)


def refuses(path: Path, text: str, scratch: Path, **more: Any) -> None:
    with pytest.raises(InputError, match=text) as refused:
        opening(scratch, **more).all([path])
    assert "\n" not in str(refused.value)


@pytest.fixture
def one_runtime(any_target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The others would only take time."""
    monkeypatch.setattr(module, "onnx_target_names", lambda: (any_target,))
    return any_target


@pytest.fixture(scope="module")
def compiled(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended well."""
    folder = tmp_path_factory.mktemp("compiled")
    backends.backend(any_target).convert(small.write(folder / "m.onnx"), folder / "out" / "model", "f32")
    return folder / "out"


def test_a_run_and_its_artifact_are_the_same_model(compiled: Path, any_target: str, tmp_path: Path) -> None:
    run, artifact = opening(tmp_path).all([compiled, compiled / "model"])
    assert run.model == artifact.model
    assert run.name == f"{compiled} ({any_target} f32)"
    assert (run.runtime, run.precision, run.input_shape) == (any_target, "f32", (3, 4, 4))
    assert run.size_bytes == sum(path.stat().st_size for path in (compiled / "model").iterdir() if path.name != "artifact.json")


def test_the_same_model_twice_has_two_names(compiled: Path, tmp_path: Path) -> None:
    names = [each.name for each in opening(tmp_path).all([compiled] * 3)]
    assert [name.removeprefix(names[0]) for name in names] == ["", " #2", " #3"]


def test_an_onnx_file_runs_in_every_runtime_that_is_installed(tmp_path: Path) -> None:
    installed = []
    for name in onnx_target_names():
        try:
            backends.backend(name).preflight()
        except TargetUnavailable:
            continue
        installed.append(name)
    found = opening(tmp_path).all([small.write(tmp_path / "m.onnx")])
    assert [each.runtime for each in found] == installed
    for each in found:
        inputs = each.inputs(5)
        with each.open(1) as session:
            assert np.allclose(session.predict(inputs), inputs.mean(axis=(2, 3)) @ small.WEIGHTS, atol=1e-5)


def test_random_inputs_are_seeded(compiled: Path, tmp_path: Path) -> None:
    first, second = (opening(tmp_path, seed=seed).all([compiled])[0].inputs(3) for seed in (0, 1))
    assert first.shape == (3, 3, 4, 4)
    assert first.dtype == np.float32
    assert np.array_equal(first, opening(tmp_path).all([compiled])[0].inputs(3))
    assert not np.array_equal(first, second)


def test_inputs_from_data_go_round(compiled: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", test_images=images, val_images=images)
    found = opening(tmp_path, data=str(tmp_path / "data.npz"), batches=(5,)).all([compiled])[0].inputs(5)
    expected = np.moveaxis(images, -1, 1).astype(np.float32) / 255
    assert np.allclose(found, expected[[0, 1, 0, 1, 0]])
    np.savez(tmp_path / "none.npz", images=images)
    np.savez(tmp_path / "small.npz", test_images=images[:, 1:3, 1:3], val_images=images)
    misfit = r"`test_images` holds images of 2x2x3, .* input 3,4,4: resize them, or leave --data out"
    refuses(compiled, misfit, tmp_path, data=str(tmp_path / "small.npz"))
    refuses(compiled, r"`data` \(=.*none.npz\) has no array 'val_images', 'test_images'", tmp_path, data=str(tmp_path / "none.npz"))


def test_sizes_left_open_are_given(one_runtime: str, tmp_path: Path) -> None:
    path = small.write(tmp_path / "open.onnx", "N", 3, "H", "W")
    refuses(path, r"`--input` is missing: `model` \(=.*\) takes inputs of 3,\?,\?; pass --input", tmp_path)
    refuses(path, r"`--input` \(=1,4,4\) must fit `model` \(=.*\), whose input is 3,\?,\?", tmp_path / "a", input_shape=(1, 4, 4))
    refuses(path, r"`--input` \(=3,4\) must fit", tmp_path / "b", input_shape=(3, 4))
    found = opening(tmp_path / "c", input_shape=(3, 6, 5)).all([path])[0]
    assert found.input_shape == (3, 6, 5)
    with found.open(1) as session:
        assert session.predict(found.inputs(2)).shape == (2, 2)


def test_a_fixed_batch_is_the_one_to_ask_for(one_runtime: str, tmp_path: Path) -> None:
    path = small.write(tmp_path / "fixed.onnx", 4, 3, 4, 4)
    refuses(path, r"`--batches` \(=1,4\) must be 4, which `model` .* was exported for: pass --batches 4", tmp_path, batches=(1, 4))
    found = opening(tmp_path / "a", batches=(4,)).all([path])[0]
    with found.open(1) as session:
        assert session.predict(found.inputs(4)).shape == (4, 2)


def test_weights_beside_the_file_and_among_its_inputs(one_runtime: str, tmp_path: Path) -> None:
    model = small.graph(named=True)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found = opening(tmp_path).all([tmp_path / "m.onnx"])[0]
    (tmp_path / "m.data").unlink()
    assert found.input_shape == (3, 4, 4)
    inputs = found.inputs(1)
    with found.open(1) as session:
        assert np.allclose(session.predict(inputs), inputs.mean(axis=(2, 3)) @ small.WEIGHTS, atol=1e-5)


def test_what_cannot_be_run_takes_one_line(one_runtime: str, tmp_path: Path) -> None:
    refuses(tmp_path / "no.onnx", r"`model` \(=.*no.onnx\) does not exist: check the path", tmp_path)
    (tmp_path / "rejected").mkdir()
    refuses(tmp_path / "rejected", r"`model` \(=.*rejected\) holds no compiled model: give the `model` folder", tmp_path)
    (tmp_path / "text.onnx").write_text("no model")
    refuses(tmp_path / "text.onnx", r"`model` \(=.*text.onnx\) cannot be read as ONNX", tmp_path / "a")
    two = small.write(tmp_path / "two.onnx", inputs=2)
    refuses(two, r"must have one input, a batch of float32 \(it has: input0, input1\)", tmp_path / "b")
    whole = small.write(tmp_path / "whole.onnx", kind=TensorProto.INT64)
    refuses(whole, r"must have one input, a batch of float32 \(it has: input0\)", tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"is empty: copy it again"),
        (b"this is no model\n", "is a text file, not a model: this takes PyTorch weights"),
        (bytes(range(256)), r"is damaged or no PyTorch file \(.*\): copy it again, or save it anew"),
    ],
)
def test_what_is_no_model_lacks_no_input(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    refuses(tmp_path / "m.pt", rf"`model` \(=.*m.pt\) {text}", tmp_path)


def absent(name: str) -> Any:
    def refuse() -> None:
        raise TargetUnavailable(f"target '{name}' cannot run here: not installed.")

    return SimpleNamespace(preflight=refuse)


def test_without_a_runtime_there_is_nothing_to_measure(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backend", absent)
    with pytest.raises(TargetUnavailable, match=r"'onnxruntime' cannot run here: .* 'openvino' cannot run here"):
        opening(tmp_path).all([small.write(tmp_path / "m.onnx")])
    with pytest.raises(TargetUnavailable, match=r"cannot run here: not installed"):
        opening(tmp_path).all([compiled])


def test_a_runtime_that_is_missing_is_left_out(any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backend", lambda name: backends.backend(name) if name == any_target else absent(name))
    assert [each.runtime for each in opening(tmp_path).all([small.write(tmp_path / "m.onnx")])] == [any_target]


def test_the_parameters_of_an_onnx_file_are_those_of_its_weights(one_runtime: str, tmp_path: Path) -> None:
    found = opening(tmp_path).all([small.write(tmp_path / "m.onnx")])[0]
    assert (found.parameters, found.macs) == (small.WEIGHTS.size, None)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, (78, 640)),
        ({"artifact": {"files": [{"name": "of another", "sha256": "0"}]}}, (None, None)),
        ({"artifact": None}, (None, None)),
        ({"compressed": None}, (None, None)),
    ],
)
def test_a_run_says_the_work_of_its_artifact_as_long_as_it_is_the_same(
    compiled: Path, change: dict[str, Any], known: tuple[int | None, int | None], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(compiled, tmp_path / "run"))
    assert opening(tmp_path / "a").all([run])[0].parameters is None
    files = [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in (run / "model").iterdir()]
    report = {"artifact": {"files": files}, "compressed": {"parameters": 78, "macs": 640}}
    (run / "report.json").write_text(json.dumps(report | change))
    for place in (run, run / "model"):
        found = opening(tmp_path / "b").all([place])[0]
        assert (found.parameters, found.macs) == known


def test_a_torch_model_has_its_settings_beside_it(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    path = runs.laid(tmp_path / "brought", runs.NET, runs.SETTINGS, {}, module)
    found = opening(tmp_path).all([path])[0]
    assert (found.name, found.runtime, found.input_shape) == (f"{path} (torch f32)", "torch", (1, 8, 8))
    assert isinstance(found.model, dict)
    assert found.model["arch"] == f"{path.parent / 'net.py'}:net"
    assert found.parameters == (9 + 1) * 8 + (128 + 1) * 32 + (32 + 1) * 4
    assert found.macs == 9 * 8 * 64 + 128 * 32 + 32 * 4
    inputs = found.inputs(2)
    with found.open(1) as session, torch.inference_mode():
        assert np.allclose(session.predict(inputs), module(torch.from_numpy(inputs)).numpy(), atol=1e-5)
    refuses(path, "`--arch`.*nothing", tmp_path, settings={"arch": f"{path.parent / 'net.py'}:nothing", "trust_pickle": None})
