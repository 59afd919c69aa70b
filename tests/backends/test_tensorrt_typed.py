"""Half precision as a graph, against the float graph in ONNX Runtime and against ONNX's own reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, load, numpy_helper
from onnx.reference import ReferenceEvaluator

from optimize.backends.tensorrt_common.typed import HALVES, cast
from optimize.candidate import Floats
from optimize.errors import InputError

onnxruntime = pytest.importorskip("onnxruntime")


def run(model: Any, inputs: Floats) -> Floats:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: inputs})[0])


def graph(nodes: list[Any], weights: dict[str, Any] | None = None, shape: tuple[int, ...] = (2, 3)) -> Any:
    """A model x -> y."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None if name == "y" else shape) for name in ("x", "y")]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_f16_computes_what_f32_does_to_11_bits(onnx_file: Path, inputs: Floats) -> None:
    model = load(onnx_file)
    halved = cast(model, "f16")
    checker.check_model(halved)
    expected = run(model, inputs)
    got = run(halved, inputs)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - expected).max() <= 2e-3 * np.abs(expected).max()


def test_bf16_computes_what_f32_does_to_8_bits(onnx_file: Path, inputs: Floats) -> None:
    """In the reference evaluator: ONNX Runtime's CPU has no convolution in bf16."""
    model = load(onnx_file)
    expected = run(model, inputs[:4])
    got = ReferenceEvaluator(cast(model, "bf16")).run(None, {"input": inputs[:4]})[0]
    assert got.dtype == np.float32
    assert 1e-4 * np.abs(expected).max() < np.abs(got - expected).max() <= 3e-2 * np.abs(expected).max()


@pytest.mark.parametrize("precision", HALVES)
def test_every_weight_is_half_and_both_ends_are_float(precision: str, onnx_file: Path) -> None:
    model = load(onnx_file)
    before = model.SerializeToString()
    halved = cast(model, precision)
    assert model.SerializeToString() == before
    types = {tensor.data_type for tensor in halved.graph.initializer} - {TensorProto.INT64}
    assert types == {TensorProto.DataType.Value(HALVES[precision])}
    ends = [*halved.graph.input, *halved.graph.output]
    assert [(end.name, end.type.tensor_type.elem_type) for end in ends] == [("input", 1), ("output", 1)]
    assert (halved.graph.node[0].op_type, halved.graph.node[-1].op_type) == ("Cast", "Cast")
    assert cast(model, precision).SerializeToString() == halved.SerializeToString()


def test_a_transposed_convolution_stays_float_in_bf16_alone(onnx_file: Path) -> None:
    for precision, expected in (("f16", set()), ("bf16", {"Cast"})):
        nodes = cast(load(onnx_file), precision).graph.node
        maker = {name: node.op_type for node in nodes for name in node.output}
        (transposed,) = [node for node in nodes if node.op_type == "ConvTranspose"]
        assert {maker.get(name) for name in transposed.input} & {"Cast"} == expected


def test_constants_types_and_scales_of_a_resize() -> None:
    """x -> resize by 2 -> + 1.5 (a Constant) -> Cast to float -> + full(0.25), all exact in f16."""
    filled = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.25])
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["big"], mode="nearest"),
        helper.make_node("Constant", [], ["c"], value_float=1.5),
        helper.make_node("Add", ["big", "c"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["same"], to=TensorProto.FLOAT),
        helper.make_node("ConstantOfShape", ["shape"], ["full"], value=filled),
        helper.make_node("Add", ["same", "full"], ["y"]),
    ]
    model = graph(nodes, {"scales": np.array([1, 2], np.float32), "shape": np.array([1], np.int64)})
    halved = cast(model, "f16")
    scales = next(tensor for tensor in halved.graph.initializer if tensor.name == "scales")
    assert scales.data_type == TensorProto.FLOAT
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run(halved, x), np.repeat(x, 2, 1) + 1.75)


def test_a_value_out_of_range_is_refused_not_made_infinite() -> None:
    model = graph([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.float32(1e5)})
    with pytest.raises(InputError, match=r"`precision` \(='f16'\) cannot hold the values of 'w'"):
        cast(model, "f16")
    assert ReferenceEvaluator(cast(model, "bf16")).run(None, {"x": np.ones((2, 3), np.float32)})[0] == pytest.approx(1e5, rel=2**-8)


def test_a_scale_that_would_become_0_is_refused() -> None:
    quantize = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    dequantize = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
    model = graph([quantize, dequantize], {"s": np.float32(1e-9), "z": np.int8(0)})
    with pytest.raises(InputError, match=r"cannot hold the scale 's', which becomes 0"):
        cast(model, "f16")


def test_branches_are_refused() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 3])]
    )
    model = graph([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], {"c": np.bool_(True)})
    with pytest.raises(InputError, match="needs a model without branches or loops"):
        cast(model, "f16")
