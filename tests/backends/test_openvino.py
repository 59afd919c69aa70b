from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optimize.backends import backend
from optimize.backends import openvino as target
from optimize.candidate import Candidate, Floats
from optimize.errors import TargetUnavailable

# Not importorskip: imported in any other way than through the backend, OpenVINO reports itself.
try:
    target.preflight()
except TargetUnavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)


def convolution_kernels(artifact_folder: Path, onnx_file: Path, precision: str, inputs: Floats) -> list[str]:
    """Names of the CPU kernels that run the convolutions: read from the plugin, not through `inspect`."""
    quantized = precision == "int8"
    artifact = target.quantize(onnx_file, artifact_folder, inputs) if quantized else target.convert(onnx_file, artifact_folder, precision)
    with target.build(artifact) as session:
        information = [node.get_rt_info() for node in session.handle.get_runtime_model().get_ordered_ops()]
    return [info["primitiveType"].astype(str) for info in information if info["layerType"].astype(str) == "Convolution"]


@pytest.mark.parametrize(("precision", "suffix"), [("f32", "_f32"), ("bf16", "_bf16"), ("int8", "_I8")])
def test_convolutions_run_in_kernels_of_their_precision(
    precision: str, suffix: str, onnx_file: Path, inputs: Floats, tmp_path: Path
) -> None:
    if precision == "bf16" and "bf16" not in target.precisions():
        pytest.skip("this CPU has no bf16 arithmetic")
    kernels = convolution_kernels(tmp_path, onnx_file, precision, inputs)
    assert len(kernels) == 3
    assert all(kernel.endswith(suffix) for kernel in kernels), kernels


def test_f32_keeps_every_bit_of_the_weights(candidate: Candidate, onnx_file: Path, tmp_path: Path) -> None:
    stored = target.convert(onnx_file, tmp_path, "f32").main.with_suffix(".bin").read_bytes()
    for name in ("body.weight", "up.weight", "head.weight"):
        assert candidate.module.state_dict()[name].numpy().tobytes() in stored


def test_bf16_stores_weights_in_half_the_bytes(onnx_file: Path, tmp_path: Path) -> None:
    if "bf16" not in target.precisions():
        pytest.skip("this CPU has no bf16 arithmetic")
    full, half = (target.convert(onnx_file, tmp_path / precision, precision) for precision in ("f32", "bf16"))
    assert half.files[1].size_bytes < 0.55 * full.files[1].size_bytes


def test_threads_and_one_stream_are_set(onnx_file: Path, tmp_path: Path) -> None:
    with target.build(target.convert(onnx_file, tmp_path, "f32"), threads=1) as session:
        assert session.handle.get_property("INFERENCE_NUM_THREADS") == 1
        assert session.handle.get_property("NUM_STREAMS") == 1


def test_nothing_is_reported_to_anyone(onnx_file: Path, tmp_path: Path) -> None:
    """In a fresh process, with a home of its own and every connection seen: no connection, no file left at home, nothing printed."""
    script = """
import socket, sys
from pathlib import Path
import numpy as np
calls = []
socket.getaddrinfo = lambda *arguments, **_: calls.append(arguments) or []
socket.socket.connect = lambda *arguments: calls.append(arguments)
from optimize.backends import openvino
assert "torch" not in sys.modules
onnx, folder = map(Path, sys.argv[1:])
artifact = openvino.quantize(onnx, folder, np.zeros((4, 3, 8, 8), np.float32))
from nncf.telemetry.wrapper import NNCFTelemetry, telemetry
assert not isinstance(telemetry, NNCFTelemetry)
assert not calls, calls
"""
    home = tmp_path / "home"
    home.mkdir()
    hidden = {"CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(home)}
    command = [sys.executable, "-c", script, str(onnx_file), str(tmp_path / "artifact")]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert not (home / "intel").exists()


def test_preflight_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(TargetUnavailable, match=r"cannot run here: nncf not installed; pip install 'optimize\[openvino\]'"):
        backend("openvino").preflight()


def test_ranges_come_from_the_calibration_inputs(candidate: Candidate, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    """Calibrated on inputs a hundred times too small, activations are clipped and the outputs are wrong."""
    expected = candidate.predict(inputs)
    errors = []
    for scale in (1, 0.01):
        with target.build(target.quantize(onnx_file, tmp_path / str(scale), inputs * np.float32(scale))) as session:
            errors.append(np.abs(session.predict(inputs) - expected).max())
    assert errors[1] > 5 * errors[0]
