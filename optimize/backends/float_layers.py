"""Keep layers of a QDQ graph in float when ONNX Runtime opens the file.

When a session opens a file, the transformer "WeightBiasQuantization" looks for a float Conv, ConvTranspose or Gemm between a
DequantizeLinear and a QuantizeLinear. It takes such a layer for one that was forgotten, and gives it int8 weights with one scale for all
channels. A layer that was left in float on purpose then runs in int8, and with a coarser scale than the others.

The transformer only acts where the scale of the layer's input is a single number. So the layer is made to read through a DequantizeLinear
of its own, whose scale is that number repeated for each channel. The values are the same, and the layer stays in float, whatever options
the session has.

Worked example: the input of a layer has 3 channels and the scale 0.02; its own DequantizeLinear has axis 1 and the scales 0.02, 0.02, 0.02.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

TAKEN = ("Conv", "ConvTranspose", "Gemm")
"""Kinds of nodes that the transformer takes."""

# What a DequantizeLinear is moved behind when the file is opened.
_PASSED = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}


def hold_in_float(model: Any, layers: Collection[str]) -> None:
    """Change the graph so that these layers, which it holds in float, stay so.

    Args:
        model: an ONNX model with QuantizeLinear and DequantizeLinear nodes of one scale; it is changed.
        layers: names of nodes; those of other kinds than `TAKEN` are never taken, and are passed over.
    """
    from onnx import helper, numpy_helper, shape_inference

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shapes = _shapes(shape_inference.infer_shapes(model).graph)
    own: dict[str, str] = {}
    for layer in [node for node in graph.node if node.name in layers and node.op_type in TAKEN]:
        reader = layer
        # the optimizer moves a DequantizeLinear behind a pooling or a reshape, so the one that counts may lie further in front
        while (maker := makers.get(reader.input[0])) is not None and maker.op_type in _PASSED:
            reader = maker
        if maker is None or maker.op_type != "DequantizeLinear" or maker.input[1] not in stored:
            continue
        # one copy serves all layers that read the same tensor
        if (result := maker.output[0]) not in own:
            if (axis_and_size := _split_axis(shapes.get(maker.input[0]) or shapes.get(result, ()))) is None:
                continue
            axis, size = axis_and_size
            inputs = [maker.input[0]]
            for name in maker.input[1:]:
                value = numpy_helper.to_array(stored[name])
                inputs.append(f"{name} each")
                if inputs[-1] not in stored:
                    stored[inputs[-1]] = numpy_helper.from_array(np.full(size, value.reshape(())), inputs[-1])
                    graph.initializer.append(stored[inputs[-1]])
            own[result] = f"{result} each"
            node = helper.make_node("DequantizeLinear", inputs, [own[result]], name=f"{maker.name} each", axis=axis)
            graph.node.insert(list(graph.node).index(maker) + 1, node)
        reader.input[0] = own[result]
    # a DequantizeLinear that nobody reads any more would only cost time
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for result in own:
        if result not in read:
            graph.node.remove(makers[result])


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return tensor -> its sizes, 0 where one is free."""
    tensors = [*graph.input, *graph.value_info, *graph.output]
    return {tensor.name: tuple(size.dim_value for size in tensor.type.tensor_type.shape.dim) for tensor in tensors}


def _split_axis(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the first axis behind the batch with more than one place, and its size; a list of one scale would count as a single scale."""
    return next(((axis, size) for axis, size in enumerate(shape) if axis and size > 1), None)
