"""Count the multiply-accumulates of an ONNX file: of the matrix products, as `optimize.graph.macs` counts them in torch.

    Conv            outputs of one input x kernel positions x input channels of a group
    ConvTranspose   inputs of one input x kernel positions x output channels of a group
    Gemm, MatMul    outputs of one input x length of the summed axis
    LSTM, GRU, RNN  steps x values of both matrices, of the input and of the state

Quantized forms (QLinearConv, ConvInteger, QLinearMatMul, MatMulInteger) count the same: they do as many products, of smaller numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1, "Gemm": 1}
"""Operation -> place of its weights among its inputs."""
_RECURRENT = ("LSTM", "GRU", "RNN")
"""Operations with an input (steps, N, inputs) and two matrices, (directions, gates x hidden, inputs or hidden)."""
_LEFT = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0}
"""Operation -> place of its left matrix among its inputs."""


def onnx_macs(path: Path) -> int | None:
    """Return the multiply-accumulates of one input, batch 1; None where a shape that is needed cannot be told.

    Raises:
        Exception: whatever the ONNX library raises about a file that it cannot read.
    """
    import onnx

    # shapes are enough: weights in a second file are not read
    return model_macs(onnx.load(path, load_external_data=False))


def model_macs(source: Any) -> int | None:
    """Return the multiply-accumulates of one input of a model that was read, which is not changed; None as above."""
    import onnx

    model: Any = onnx.ModelProto()
    model.CopyFrom(source)
    weights = {tensor.name for tensor in model.graph.initializer}
    for tensor_input in model.graph.input:
        sizes = tensor_input.type.tensor_type.shape.dim
        if tensor_input.name not in weights and len(sizes) > 0:
            sizes[0].dim_value = 1  # clears a symbolic batch
    # An output that still says "N" would contradict the batch of 1 that follows from the input.
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    counts = [_node_macs(node, shapes) for node in graph.node]
    return None if None in counts else sum(count for count in counts if count is not None)


def _shape(value: Any) -> Shape | None:
    """Return the shape of a tensor; None where a size is open."""
    tensor = value.type.tensor_type
    sizes = tuple(size.dim_value for size in tensor.shape.dim)
    return sizes if tensor.HasField("shape") and all(sizes) else None


def _node_macs(node: Any, shapes: Mapping[str, Shape | None]) -> int | None:
    """Return the multiply-accumulates of one node, 0 where it is no matrix product; None where a shape is not known."""
    places: Mapping[str, int] = {**_WEIGHTS, **_LEFT}
    if node.op_type in _RECURRENT:
        steps, *matrices = (shapes.get(name) for name in node.input[:3])
        # an attribute may put the batch, which is 1 here, in front of the steps
        return None if steps is None or None in matrices else math.prod(steps[:2]) * sum(math.prod(each) for each in matrices if each)
    if node.op_type not in places:
        return 0
    output, operand = shapes.get(node.output[0]), shapes.get(node.input[places[node.op_type]])
    data = shapes.get(node.input[0])
    if output is None or operand is None or data is None:
        return None
    if node.op_type in _LEFT:
        return math.prod(output) * operand[-1]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return math.prod(output) * operand[1 if transposed else 0]
    # weights: (outputs, inputs / groups, *kernel); of a transposed one: (inputs, outputs / groups, *kernel)
    return math.prod(data if node.op_type == "ConvTranspose" else output) * math.prod(operand[1:])
