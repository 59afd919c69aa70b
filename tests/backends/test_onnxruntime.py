from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.backends.targets import onnxruntime as target
from optimize.candidate import Candidate, Floats
from optimize.errors import TargetUnavailable
from optimize.quantization.variant import Variant
from optimize.run.compile_artifact import float_layers_note

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def quantized(onnx_file: Path, inputs: Floats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return target.quantize(onnx_file, tmp_path_factory.mktemp("int8"), inputs).main


def weights_of(graph: Any, kind: str) -> list[tuple[Any, Any]]:
    """(int8 weight, its scale) of each node of a kind whose weight comes through a DequantizeLinear."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    dequantizers = [made_by.get(node.input[1]) for node in graph.node if node.op_type == kind]
    return [(stored[node.input[0]], stored[node.input[1]]) for node in dequantizers if node is not None]


def test_convolutions_run_as_integer_kernels(quantized: Path, tmp_path: Path) -> None:
    """Counted in the graph that the runtime writes out, not through `inspect`."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    onnxruntime.InferenceSession(quantized, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert kinds.count("QGemm") == 1
    assert "Conv" not in kinds


def test_weights_are_int8_with_a_scale_for_each_channel(quantized: Path) -> None:
    convolutions = weights_of(onnx.load(quantized).graph, "Conv")
    assert [weight.shape[0] for weight, _ in convolutions] == [16, 16, 8]
    assert all(weight.dtype == np.int8 and scale.shape == weight.shape[:1] for weight, scale in convolutions)


def test_activations_are_uint8(quantized: Path) -> None:
    graph = onnx.load(quantized).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zero_points = [types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zero_points
    assert set(zero_points) == {onnx.TensorProto.UINT8}


def test_everything_in_the_file_is_read(quantized: Path) -> None:
    """Of anything else the runtime warns whoever opens the file."""
    graph = onnx.load(quantized).graph
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_transposed_convolution_stays_float(quantized: Path) -> None:
    assert not weights_of(onnx.load(quantized).graph, "ConvTranspose")


def test_without_vnni_weights_keep_to_seven_bits(onnx_file: Path, inputs: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = {}
    for isa in (("avx2",), ("avx2", "avx512_vnni")):
        monkeypatch.setattr("optimize.hardware.machine.instruction_sets", lambda isa=isa: isa)
        graph = onnx.load(target.quantize(onnx_file, tmp_path / isa[-1], inputs).main).graph
        extremes[isa[-1]] = max(int(np.abs(weight.astype(int)).max()) for weight, _ in weights_of(graph, "Conv"))
    assert extremes == {"avx2": 64, "avx512_vnni": 127}


def test_the_faster_half_counts_and_the_profiler_is_taken_off(
    onnx_file: Path, inputs: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that only reshape took 3, 4 and 9 us: 4 us are the profiler's. Two nodes of one name are one layer."""
    views = [("Reshape", "a", 3.0), ("Flatten", "c", 4.0), ("Squeeze", "d", 9.0)]
    told = [*views, ("Conv", "b", 10.0), ("Relu", "b", 5.0), ("Conv", "e", 1.0)]
    monkeypatch.setattr(target, "_profiled", lambda *_: told)
    artifact = target.convert(onnx_file, tmp_path, "f32")
    assert target.time_layers(artifact, inputs) == pytest.approx({"b": 0.007, "d": 0.005, "e": 0.0001})
    monkeypatch.setattr(target, "_profiled", lambda *_: [("Conv", "b", 10.0)])
    assert target.time_layers(artifact, inputs) == pytest.approx({"b": 0.010})
    assert target._faster_half([9, 1, 100, 3, 2]) == 2
    assert target._faster_half([5, 3]) == 3


def test_as_many_rounds_as_asked_are_profiled(onnx_file: Path, inputs: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(target, "_faster_half", lambda samples: float(seen.append(len(samples)) or 1.0))
    target.time_layers(target.convert(onnx_file, tmp_path, "f32"), inputs[:1], threads=1, seconds=0, min_rounds=7)
    assert set(seen) == {7}


def test_preflight_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TargetUnavailable, match=r"onnxruntime not installed; pip install 'optimize\[onnxruntime\]'"):
        backend("onnxruntime").preflight()


def test_signed_activations_after_a_relu_silently_run_in_float(tmp_path: Path) -> None:
    """The graph says int8 throughout; with int8 activations of zero point 0 after a ReLU, which is no part of it, ONNX Runtime computes the
    convolutions in float, and `inspect` says so. The same graph with uint8 activations runs in int8.
    """
    ran = {}
    for kind in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
        folder = tmp_path / str(kind)
        folder.mkdir()
        onnx.save(_relu_between(kind), folder / "model.onnx")
        artifact = Artifact.save(folder, target="onnxruntime", precision="int8", input_shape=(4, 8, 8), runtime="", files=("model.onnx",))
        with target.build(artifact, threads=1) as session:
            ran[kind] = target.inspect(session)
    assert {ran[onnx.TensorProto.INT8][name] for name in ("first", "second")} == {"f32"}
    assert {ran[onnx.TensorProto.UINT8][name] for name in ("first", "second")} == {"int8"}
    said = float_layers_note(Variant("int8"), ran[onnx.TensorProto.INT8])
    assert said is not None
    assert "layers of the int8 artifact ran in float: " in said
    assert "first, " in said


def _relu_between(kind: int) -> onnx.ModelProto:
    """Q/DQ, convolution, ReLU, Q/DQ, convolution, ReLU, Q/DQ; weights int8, activations of this kind, every zero point 0."""
    make, rng = onnx.helper.make_node, np.random.default_rng(0)
    nodes, constants, last = [], [], "input"
    code = np.int8 if kind == onnx.TensorProto.INT8 else np.uint8

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(onnx.numpy_helper.from_array(value, name))
        return name

    def rounded(name: str) -> str:
        scale, zero = constant(f"{name} scale", np.float32(0.05)), constant(f"{name} zero", code(0))
        nodes.append(make("QuantizeLinear", [name, scale, zero], [f"{name} q"]))
        nodes.append(make("DequantizeLinear", [f"{name} q", scale, zero], [f"{name} dq"]))
        return f"{name} dq"

    for name in ("first", "second"):
        last = rounded(last)
        weight = constant(f"{name} weight q", rng.integers(-127, 128, (4, 4, 3, 3), dtype=np.int8))
        scale, zero = constant(f"{name} weight scale", np.float32(0.01)), constant(f"{name} weight zero", np.int8(0))
        nodes.append(make("DequantizeLinear", [weight, scale, zero], [f"{name} weight"]))
        nodes.append(make("Conv", [last, f"{name} weight"], [f"{name} sum"], name=name, pads=[1, 1, 1, 1]))
        nodes.append(make("Relu", [f"{name} sum"], [f"{name} relu"], name=f"{name} relu"))
        last = f"{name} relu"
    last = rounded(last)
    shape = ["N", 4, 8, 8]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("input", last)]
    graph = onnx.helper.make_graph(nodes, "relu between", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_answers_of_a_quantized_gemm_are_no_steps(tmp_path: Path) -> None:
    """Rounded to 8 bits there would be 256 at most; of two inputs that take 256 values each there are many more sums."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1)).eval()
    inputs = np.random.default_rng(0).uniform(-1, 1, (4000, 2, 1, 1)).astype(np.float32)
    export_onnx(Candidate(net, torch.zeros(1, 2, 1, 1)), tmp_path / "net.onnx")
    with target.build(target.quantize(tmp_path / "net.onnx", tmp_path / "int8", inputs), threads=1) as session:
        assert target.inspect(session)["1"] == "int8"
        assert len(np.unique(session.predict(inputs))) > 500
