"""The Q/DQ graph for TensorRT: its content, and what it computes in ONNX Runtime beside the float graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, load, numpy_helper

from optimize.backends.tensorrt_common.symmetric import quantize
from optimize.backends.tensorrt_common.typed import cast
from optimize.candidate import Floats
from optimize.errors import InputError
from tests.backends.test_tensorrt_typed import run


@pytest.fixture(scope="module")
def quantized(onnx_file: Path, inputs: Floats) -> Any:
    return quantize(onnx_file, inputs)


def stored(model: Any) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_every_zero_point_is_an_int8_0(quantized: Any) -> None:
    arrays = stored(quantized)
    points = [arrays[node.input[2]] for node in quantized.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(points) == 12  # three convolutions and the linear layer, each: Q and DQ of its input, DQ of its weight
    assert all(point.dtype == np.int8 and not point.any() for point in points)


def test_weights_are_int8_per_channel_and_biases_float(quantized: Any, onnx_file: Path) -> None:
    """Scale and integers by hand, from the float weights: max |w| / 127 of each output channel, and the nearest integer."""
    arrays, floats = stored(quantized), stored(load(onnx_file))
    maker = {name: node for node in quantized.graph.node for name in node.output}
    layers = {node.name: node for node in quantized.graph.node if node.op_type in ("Conv", "Gemm")}
    assert set(layers) == {"stem.0", "body", "tail", "head"}
    for name, node in layers.items():
        weight, scale = (arrays[each] for each in maker[node.input[1]].input[:2])
        expected = floats[f"{name}.weight"]
        by_hand = np.abs(expected).reshape(len(expected), -1).max(1) / 127
        np.testing.assert_allclose(scale, by_hand, rtol=1e-5)
        exact = expected / scale.reshape(-1, *[1] * (expected.ndim - 1))
        assert weight.dtype == np.int8
        assert np.abs(weight - exact).max() <= 0.5 + 1e-3
        assert maker[node.input[0]].op_type == "DequantizeLinear"
        bias = arrays[node.input[2]]
        assert bias.dtype == np.float32


def test_the_input_scale_is_the_largest_value_over_all_of_calibration(quantized: Any, inputs: Floats) -> None:
    first = next(node for node in quantized.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "input")
    assert stored(quantized)[first.input[1]] == pytest.approx(np.abs(inputs).max() / 127, rel=1e-5)


def test_only_what_layers_with_weights_read_is_quantized(quantized: Any, onnx_file: Path) -> None:
    """Not what they give, and nothing of a transposed convolution."""
    read = {node.input[0] for node in load(onnx_file).graph.node if node.op_type in ("Conv", "Gemm")}
    assert {node.input[0] for node in quantized.graph.node if node.op_type == "QuantizeLinear"} == read
    assert len(read) == 4
    transposed = next(node for node in quantized.graph.node if node.op_type == "ConvTranspose")
    assert stored(quantized)[transposed.input[1]].dtype == np.float32


def test_it_computes_what_the_float_graph_does(quantized: Any, onnx_file: Path, inputs: Floats) -> None:
    expected = run(load(onnx_file), inputs)
    assert np.abs(run(quantized, inputs) - expected).max() <= 8e-2 * np.abs(expected).max()


def test_the_rest_may_be_half(quantized: Any, inputs: Floats) -> None:
    halved = cast(quantized, "f16")
    arrays = stored(halved)
    assert {array.dtype for array in arrays.values()} <= {np.dtype(kind) for kind in ("int8", "float16", "int64")}
    assert next(entry.version for entry in halved.opset_import if not entry.domain) == 19
    expected = run(quantized, inputs)
    # As much again as int8 loses: scales of 11 bits move some values to the next integer.
    assert np.abs(run(halved, inputs) - expected).max() <= 8e-2 * np.abs(expected).max()


def test_layers_that_are_kept_stay_float(onnx_file: Path, inputs: Floats) -> None:
    model = quantize(onnx_file, inputs, ignored_layers=["body"])
    body = next(node for node in model.graph.node if node.name == "body")
    assert next(tensor for tensor in model.graph.initializer if tensor.name == body.input[1]).data_type == TensorProto.FLOAT
    with pytest.raises(InputError, match=r"`ignored_layers` \(='bodi'\) is no layer of the model"):
        quantize(onnx_file, inputs, ignored_layers=["bodi"])


def test_the_same_calibration_gives_the_same_bytes(quantized: Any, onnx_file: Path, inputs: Floats) -> None:
    assert quantize(onnx_file, inputs).SerializeToString(deterministic=True) == quantized.SerializeToString(deterministic=True)


def test_calibration_of_another_shape_is_refused(onnx_file: Path, inputs: Floats) -> None:
    with pytest.raises(InputError, match=r"must have shape \(N, 3, 8, 8\)"):
        quantize(onnx_file, inputs[:, :2])
