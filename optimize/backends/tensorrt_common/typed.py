"""Cast an ONNX graph to half precision: a strongly typed compiler takes the precision of every layer from the ONNX file.

Weights and constants become f16 or bf16, and so does what flows between them; a Cast behind each input and before each output keeps both
in float, so that the caller's arrays stay what they were. What ONNX defines in float only (the scales of a Resize) stays float, and so does
an operation that TensorRT has no half kernel for, between Casts of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optimize.errors import InputError

HALVES = {"f16": "FLOAT16", "bf16": "BFLOAT16"}
"""Precision -> the name of its element type in ONNX."""

# Operation -> positions of inputs that are float whatever the type of the others.
_FLOAT_INPUTS = {"Resize": {1, 2}, "Upsample": {1}}
# Operations that do not compile in a precision.
_FLOAT_NODES = {"f16": set[str](), "bf16": {"ConvTranspose"}}
_QDQ = {"QuantizeLinear", "DequantizeLinear"}
# The first whose Q/DQ operations take half precision. All that changed in it since 18 are additions.
_QDQ_OPSET = 19


def cast(model: Any, precision: str) -> Any:
    """Return a copy of a float ONNX model that computes in `precision`, "f16" or "bf16"; its inputs and outputs stay float.

    Raises:
        InputError: when a weight lies beyond the range of `precision`, or the graph has branches or loops.
    """
    import onnx

    half = onnx.TensorProto.DataType.Value(HALVES[precision])
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    nested = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    if any(attribute.type in nested for node in graph.node for attribute in node.attribute):
        raise InputError(f"`precision` (={precision!r}) needs a model without branches or loops in its graph: use f32.")
    # names of the inputs that ONNX defines in float, such as the scales of a Resize; "" stands for an omitted input
    stay = {node.input[k] for node in graph.node for k in _FLOAT_INPUTS.get(node.op_type, ()) if k < len(node.input)} - {""}
    scales = {node.input[1] for node in graph.node if node.op_type in _QDQ}
    for tensor in graph.initializer:
        if tensor.name not in stay:
            _halve(tensor, half, precision)
        # f16 has no number between 0 and 6e-8, so the scale of a tensor with tiny values may become 0, and dividing by it infinity
        if tensor.name in scales and not onnx.numpy_helper.to_array(tensor).all():
            raise InputError(f"`precision` (={precision!r}) cannot hold the scale {tensor.name!r}, which becomes 0: use f32.")
    for node in graph.node:
        if not stay & set(node.output):
            _halve_attributes(node, half, precision)
    _cast_ends(graph, half)
    _cast_around(graph, half, _FLOAT_NODES[precision])
    for entry in model.opset_import:
        if scales and entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _QDQ_OPSET)
    del graph.value_info[:]  # the types in it are those of before
    return model


def _halve(tensor: Any, half: int, precision: str) -> None:
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    values = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halved = values.astype(onnx.helper.tensor_dtype_to_np_dtype(half))
    # f16 ends at 65,504: a weight of 70,000 becomes infinite. Infinities that were there before (a mask) may stay.
    if not np.array_equal(np.isfinite(values), np.isfinite(halved.astype(np.float32))):
        raise InputError(f"`precision` (={precision!r}) cannot hold the values of {tensor.name!r}: use f32 or bf16.")
    tensor.CopyFrom(onnx.numpy_helper.from_array(halved, tensor.name))


def _halve_attributes(node: Any, half: int, precision: str) -> None:
    """Make constants, and the element types that nodes name themselves, half precision."""
    import onnx

    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _halve(attribute.t, half, precision)
        elif attribute.name in ("to", "dtype") and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = half
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = np.float32(attribute.f) if attribute.name == "value_float" else np.asarray(attribute.floats, np.float32)
            tensor = onnx.numpy_helper.from_array(np.asarray(values), node.output[0])
            _halve(tensor, half, precision)
            attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))


def _cast_ends(graph: Any, half: int) -> None:
    """Rename what the inputs and outputs were called inside, and put a Cast between."""
    import onnx

    def floats(values: Any) -> set[str]:
        return {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}

    # Inside, "input" becomes "input_half", made by a Cast from "input"; the caller sees the old names and types.
    ends = {name: f"{name}_half" for name in floats(graph.input) | floats(graph.output)}
    for node in graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    casts_in = [onnx.helper.make_node("Cast", [name], [ends[name]], f"cast_{name}", to=half) for name in sorted(floats(graph.input))]
    single = onnx.TensorProto.FLOAT
    casts_out = [onnx.helper.make_node("Cast", [ends[name]], [name], f"cast_{name}", to=single) for name in sorted(floats(graph.output))]
    nodes = [*casts_in, *graph.node, *casts_out]
    del graph.node[:]
    graph.node.extend(nodes)


def _cast_around(graph: Any, half: int, operations: set[str]) -> None:
    """Let nodes of these operations compute in float."""
    import onnx

    nodes = []
    for node in graph.node:
        if node.op_type not in operations:
            nodes.append(node)
            continue
        for k, name in enumerate(node.input):
            node.input[k] = f"{name}_for_{node.name}"
            nodes.append(onnx.helper.make_node("Cast", [name], [node.input[k]], f"cast_{node.input[k]}", to=onnx.TensorProto.FLOAT))
        # back to half behind it, under the name that its readers know
        name = node.output[0]
        node.output[0] = f"{name}_float"
        nodes += [node, onnx.helper.make_node("Cast", [node.output[0]], [name], f"cast_{name}", to=half)]
    del graph.node[:]
    graph.node.extend(nodes)
