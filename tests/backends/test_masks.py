"""Every runtime runs a network that gives masks, (N, 1, H, W), in float and in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from optimize.backends import backend, require_runnable, target_names
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.errors import TargetUnavailable
from optimize.loading.factory import load_factory
from tests.nets import cases, ready

ROOT = Path(__file__).parents[2]
INT8 = {f"{part}.{level}.conv{number}" for part, levels in (("encoder", 3), ("decoder", 2)) for level in range(levels) for number in (1, 2)}


@pytest.fixture(scope="module")
def unet() -> Candidate:
    module = load_factory(f"{ROOT / 'models' / 'unet.py'}:unet")(width=8, depth=2)
    assert isinstance(module, torch.nn.Module)
    return Candidate(ready(module), torch.from_numpy(cases(1, (3, 16, 24))))


@pytest.fixture(scope="module")
def onnx_file(unet: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unet") / "model.onnx"
    assert export_onnx(unet, path).cases == 8
    return path


@pytest.mark.parametrize("target", target_names())
def test_masks_come_out_as_torch_gives_them(target: str, unet: Candidate, onnx_file: Path, tmp_path: Path) -> None:
    runtime = backend(target)
    try:
        require_runnable(runtime)
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    inputs = cases(40, (3, 16, 24))
    expected = unet.predict(inputs)
    with runtime.build(runtime.convert(onnx_file, tmp_path / "f32", "f32")) as session:
        got = session.predict(inputs)
    assert got.shape == expected.shape == (40, 1, 16, 24)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    with runtime.build(runtime.quantize(onnx_file, tmp_path / "int8", inputs)) as session:
        got, layers = session.predict(inputs), runtime.inspect(session)
    assert got.shape == expected.shape
    assert ((got > 0) == (expected > 0)).mean() > 0.95
    assert {name for name in INT8 if layers[name] != "int8"} == set()
    if target == "onnxruntime":
        assert {layers[f"up.{level}"] for level in range(2)} == {"f32"}
