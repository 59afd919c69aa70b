from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.backends.targets import openvino as target
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


@pytest.mark.parametrize(("precision", "suffix"), [("f32", "_f32"), ("bf16", "_bf16"), ("int8", "_i8")])
def test_convolutions_run_in_kernels_of_their_precision(
    precision: str, suffix: str, onnx_file: Path, inputs: Floats, tmp_path: Path
) -> None:
    if precision == "bf16" and "bf16" not in target.precisions():
        pytest.skip("this CPU has no bf16 arithmetic")
    kernels = convolution_kernels(tmp_path, onnx_file, precision, inputs)
    assert len(kernels) == 3
    # i8 or I8: with AMX both are seen in one network
    assert all(kernel.lower().endswith(suffix) for kernel in kernels), kernels


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
from optimize.backends.targets import openvino
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


class Counted:
    """Tells of each node the mean of all runs so far in whole microseconds, as OpenVINO does; a run takes what it is told."""

    def __init__(self, **nodes: Callable[[int], float]) -> None:
        self.nodes, self.runs, self.totals = nodes, 0, dict.fromkeys(nodes, 0)

    def infer(self, inputs: object, *, share_inputs: bool) -> None:
        for name, taken in self.nodes.items():
            self.totals[name] += int(taken(self.runs))
        self.runs += 1

    def get_profiling_info(self) -> list[SimpleNamespace]:
        means = {name: total // self.runs for name, total in self.totals.items()}
        return [SimpleNamespace(node_name=name, real_time=timedelta(microseconds=mean)) for name, mean in means.items()]


def test_blocks_of_runs_are_told_apart_from_means(inputs: Floats) -> None:
    """Slow at first, and once disturbed: the blocks after the first two runs are 2, 4, 8, 16 and 32 long, and one of them is spoilt."""
    request = Counted(a=lambda run: 500 if run < 2 else 10_000 if run == 20 else 40.4, b=lambda run: 7.6)
    blocks = target._block_means_us(request, inputs, seconds=0, min_rounds=64)
    assert request.runs == 64
    assert {name: len(means) for name, means in blocks.items()} == {"a": 5, "b": 5}
    # Two cuts of half a microsecond each were added; the rest is within the rounding of the means that were told.
    assert [abs(mean - 41) <= 1.5 for mean in blocks["a"]] == [True, True, True, False, True]
    assert blocks["b"] == [8] * 5
    assert blocks["a"][3] == pytest.approx(41 + 9960 / 16, abs=1.5)


@pytest.mark.parametrize(("min_rounds", "runs"), [(0, 4), (4, 4), (5, 8), (16, 16), (17, 32)])
def test_there_is_always_a_block_and_as_many_runs_as_asked(min_rounds: int, runs: int, inputs: Floats) -> None:
    request = Counted(a=lambda run: 5)
    assert len(target._block_means_us(request, inputs, seconds=0, min_rounds=min_rounds)["a"]) == runs.bit_length() - 2
    assert request.runs == runs


def test_requests_of_any_size_in_any_order_leave_the_inputs_alone(artifact_of_any_size: Artifact) -> None:
    """Small inputs are copied into a tensor that stays bound, large ones are read where they lie, even where they may not be written to."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((30, 3, 16, 16), dtype=np.float32)
    inputs.setflags(write=False)
    with target.build(artifact_of_any_size, threads=1) as session:
        large = session.predict(inputs)
        assert inputs.nbytes > target._COPIED_BYTES > inputs[:1].nbytes
        for count in (1, 30, 2, 1, 30):
            np.testing.assert_allclose(session.predict(inputs[:count]), large[:count], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def artifact_of_any_size(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    folder = tmp_path_factory.mktemp("sizes")
    export_onnx(Candidate(net.eval(), torch.randn(1, 3, 16, 16)), folder / "model.onnx")
    return target.convert(folder / "model.onnx", folder / "f32", "f32")


def test_activations_that_dip_below_zero_get_a_zero_point_of_their_own(tmp_path: Path) -> None:
    """The oracle is the float net: int8 of a leaky net errs no more than twice as much as that of the same net with ReLU."""
    errors = {}
    inputs = np.random.default_rng(0).standard_normal((64, 3, 8, 8), dtype=np.float32)
    for activation in (torch.nn.ReLU(), torch.nn.LeakyReLU(0.1)):
        torch.manual_seed(0)
        convolutions = [torch.nn.Conv2d(3, 16, 3), activation, torch.nn.Conv2d(16, 16, 3), activation]
        layers = [*convolutions, torch.nn.Flatten(), torch.nn.Linear(256, 4)]
        net, folder = Candidate(torch.nn.Sequential(*layers).eval(), torch.zeros(1, 3, 8, 8)), tmp_path / type(activation).__name__
        folder.mkdir()
        export_onnx(net, folder / "net.onnx")
        assert target._dips(target._read(folder / "net.onnx")) == isinstance(activation, torch.nn.LeakyReLU)
        with target.build(target.quantize(folder / "net.onnx", folder / "int8", inputs), threads=1) as session:
            exact = net.predict(inputs)
            errors[type(activation).__name__] = float(np.sqrt(np.mean((session.predict(inputs) - exact) ** 2)) / exact.std())
    assert errors["LeakyReLU"] < 2 * errors["ReLU"] < 0.05
