"""Kept layers stay in float in a session of ONNX Runtime with its default options: the file does not depend on how it is opened."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends.export import export_onnx
from optimize.backends.float_layers import hold_in_float
from optimize.backends.targets import onnxruntime as target
from optimize.candidate import Candidate, Floats

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def opened(path: Path, *, plain: bool = False) -> tuple[Any, Counter[str]]:
    """A session with default options, and how many nodes of each kind it made of the file; `plain` for none of its changes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(path.with_suffix(".opened"))
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, Counter(node.op_type for node in onnx.load(path.with_suffix(".opened")).graph.node)


def by_hand(channels: int) -> Any:
    """Q, DQ, a pooling, a convolution named "conv", Q, DQ, by hand; the input has `channels` channels."""
    make, number = onnx.helper.make_node, onnx.numpy_helper.from_array
    constants = [number(np.float32(0.02), "scale"), number(np.uint8(128), "zero"), number(np.float32(0.02), "scale2")]
    constants.append(number(np.random.default_rng(0).standard_normal((4, channels, 3, 3)).astype(np.float32) / 3, "weight"))
    nodes = [
        make("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
        make("DequantizeLinear", ["q", "scale", "zero"], ["x"], name="x"),
        make("MaxPool", ["x"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["pooled", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        make("QuantizeLinear", ["y", "scale2", "zero"], ["qy"]),
        make("DequantizeLinear", ["qy", "scale2", "zero"], ["output"]),
    ]
    tensor = onnx.helper.make_tensor_value_info
    ends = [tensor("input", onnx.TensorProto.FLOAT, ["N", channels, 8, 8]), tensor("output", onnx.TensorProto.FLOAT, ["N", 4, 4, 4])]
    graph = onnx.helper.make_graph(nodes, "by hand", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_float_convolution_behind_a_pooling_is_held(channels: int, tmp_path: Path) -> None:
    """Without it the runtime quantizes the convolution; with it every value is the one that the file says, to one step of the result."""
    model = by_hand(channels)
    onnx.save(model, tmp_path / "before.onnx")
    hold_in_float(model, ["conv"])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "after.onnx")
    taken, held = opened(tmp_path / "before.onnx")[1], opened(tmp_path / "after.onnx")[1]
    assert (taken["QLinearConv"], taken["Conv"]) == (1, 0)
    assert (held["QLinearConv"], held["Conv"]) == (0, 1)
    inputs = np.random.default_rng(1).standard_normal((5, channels, 8, 8)).astype(np.float32)
    expected = opened(tmp_path / "before.onnx", plain=True)[0].run(None, {"input": inputs})[0]
    np.testing.assert_allclose(opened(tmp_path / "after.onnx")[0].run(None, {"input": inputs})[0], expected, atol=0.0201)
    assert (opened(tmp_path / "after.onnx", plain=True)[0].run(None, {"input": inputs})[0] == expected).all()


def test_another_reader_keeps_the_scale_of_one_number() -> None:
    model = by_hand(3)
    model.graph.node.append(onnx.helper.make_node("Relu", ["x"], ["other"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, ["N", 3, 8, 8]))
    hold_in_float(model, ["conv"])
    readers = {node.input[0] for node in model.graph.node if node.op_type in ("MaxPool", "Relu")}
    assert readers == {"x", "x each"}
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored["scale each"].tolist() == [np.float32(0.02)] * 3
    assert stored["zero each"].tolist() == [128] * 3


def test_a_layer_that_reads_floats_is_left_as_it_is() -> None:
    model = by_hand(3)
    model.graph.node[3].input[0] = "input"
    before = model.SerializeToString(deterministic=True)
    hold_in_float(model, ["conv", "no such layer"])
    assert model.SerializeToString(deterministic=True) == before


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Floats]:
    """Four convolutions, a transposed one and two linear layers in a row."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(4 * 36, 16), nn.ReLU(), nn.Linear(16, 4)]
    path = tmp_path_factory.mktemp("chain") / "model.onnx"
    export_onnx(Candidate(nn.Sequential(*layers).eval(), torch.zeros(1, 3, 8, 8)), path)
    return path, np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("keep", [("2",), ("5",), ("8",), ("11",), ("2", "5"), ("0", "11")])
def test_kept_layers_of_a_network_stay_in_float(keep: tuple[str, ...], chain: tuple[Path, Floats], tmp_path: Path) -> None:
    path, inputs = chain
    artifact = target.quantize(path, tmp_path, inputs, ignored_layers=keep)
    kinds = {"0": "Conv", "2": "Conv", "5": "Conv", "8": "Conv", "11": "Gemm", "13": "Gemm"}
    made = opened(artifact.main)[1]
    floats = Counter(kinds[name] for name in keep)
    assert made["Conv"] == floats["Conv"]
    assert made["QLinearConv"] == 4 - floats["Conv"]
    assert made["QGemm"] == 2 - floats["Gemm"]
    assert made["ConvTranspose"] == 1
    with target.build(artifact, threads=1) as session:
        ran = target.inspect(session)
    assert {name for name in kinds if ran.get(name) == "int8"} == set(kinds) - set(keep)
