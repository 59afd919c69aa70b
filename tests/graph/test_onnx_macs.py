"""Multiply-accumulates of single operations, against their closed formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.graph.onnx_macs import onnx_macs
from tests.deploy.gate.tiny import network


def file(path: Path, kind: str, weights: tuple[int, ...], shape: list[Any], **attributes: Any) -> Path:
    tensor = numpy_helper.from_array(np.zeros(weights, np.float32), "w")
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "one", *ends, [tensor])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("kind", "weights", "shape", "attributes", "macs"),
    [
        ("Conv", (8, 3, 3, 3), ["N", 3, 6, 6], {}, 8 * 4 * 4 * 3 * 3 * 3),
        ("Conv", (8, 3, 3, 3), ["N", 3, 8, 8], {"strides": [2, 2], "pads": [1] * 4}, 8 * 4 * 4 * 3 * 9),
        ("Conv", (8, 2, 3, 3), ["N", 4, 6, 6], {"group": 2}, 8 * 4 * 4 * 2 * 9),
        ("Conv", (4, 1, 3), ["N", 4, 7], {"group": 4}, 4 * 5 * 3),
        ("Conv", (2, 3, 2, 2, 2), ["N", 3, 4, 4, 4], {}, 2 * 27 * 3 * 8),
        ("ConvTranspose", (3, 5, 2, 2), ["N", 3, 4, 4], {"strides": [2, 2]}, 3 * 16 * 5 * 4),
        ("Gemm", (10, 20), ["N", 20], {"transB": 1}, 200),
        ("Gemm", (20, 10), ["N", 20], {}, 200),
        ("MatMul", (20, 10), ["N", 7, 20], {}, 7 * 200),
        ("Relu", (1,), ["N", 20], {}, None),
    ],
)
def test_closed_formulas(tmp_path: Path, kind: str, weights: Any, shape: Any, attributes: Any, macs: int | None) -> None:
    if kind == "Relu":
        kind, macs = "Add", 0
    assert onnx_macs(file(tmp_path / "one.onnx", kind, weights, shape, **attributes)) == macs


def test_a_whole_network_is_the_sum_of_its_layers(tmp_path: Path) -> None:
    assert onnx_macs(network(tmp_path / "n.onnx", layers=3)) == 3 * 16 + 2 * 16


def test_an_open_size_is_not_known(tmp_path: Path) -> None:
    assert onnx_macs(file(tmp_path / "one.onnx", "Conv", (8, 3, 3, 3), ["N", 3, "H", "W"])) is None


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_multiplies_at_each_step(tmp_path: Path, kind: str, gates: int) -> None:
    steps, inputs, hidden, directions = 6, 5, 3, 2
    sizes = {"w": (directions, gates * hidden, inputs), "r": (directions, gates * hidden, hidden)}
    node = helper.make_node(kind, ["x", *sizes], ["y"], hidden_size=hidden, direction="bidirectional")
    # recurrent layers have their batch in the second place
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["given"], ["x"], perm=[1, 0, 2]), node],
        "one",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, ["N", steps, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in sizes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "one.onnx")
    assert onnx_macs(tmp_path / "one.onnx") == steps * directions * gates * hidden * (inputs + hidden)
