"""Bias correction of a QDQ graph: rounding the weights shifts the mean of a layer's outputs, and its bias takes the shift back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, in the empirical form of its
appendix D: layer by layer in the order of the graph, each behind the layers already corrected, the bias of channel c grows by

    E[y_c of the float network] - E[y_c of the quantized network],

over the calibration inputs and all positions, where y is the layer's output before its activation. Where the bias is stored as int32,
with the scale of the input times that of the channel's weights, the correction is rounded to that scale.

Worked example: a channel has the weights 0.26 and 0.26, a scale of 0.1, and the mean inputs 2 and 3. Rounded, the weights are 0.3 and 0.3,
so the mean output is 1.5 instead of 1.3, for every image alike. The correction is 1.3 - 1.5 = -0.2. With an input scale of 0.05 the bias
counts steps of 0.05 * 0.1 = 0.005, so that -40 is added to it.

Why behind the corrected layers: the mean error of a layer has two sources, its own rounded weights and the shifted inputs that earlier
layers give. Corrected in order, every layer sees inputs whose means are right already, and takes back only what is its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from optimize.candidate import Floats

_Array: TypeAlias = npt.NDArray[Any]
_LAYERS = ("Conv", "Gemm")
_BATCH = 8
CASES = 64
"""Largest number of inputs, taken at even distances; what lies between two layers is held in memory for all of them."""
_QUIET = 3  # errors only


def correct_biases(floating: Any, quantized: Any, inputs: Floats) -> None:
    """Correct every quantized Conv and Gemm that has a bias.

    The quantized network is run once, in pieces that end at a layer, so that a layer reads what the corrected ones before it give.

    Args:
        floating: the ONNX model that was quantized.
        quantized: QDQ graph of that model, whose layers have the names they have in `floating`; it is changed.
        inputs: calibration inputs, (N, C, *spatial), of which `CASES` at most are taken.
    """
    from onnx import numpy_helper

    outputs = {node.name: node.output[0] for node in floating.graph.node}
    layers = {name: tensors for name, *tensors in _layers(quantized) if name in outputs}
    if not layers:
        return
    # every k-th with k rounded up: of 200 inputs every fourth, 50 in all
    inputs = inputs[:: -(-len(inputs) // CASES)]
    batches = [np.ascontiguousarray(inputs[start : start + _BATCH], dtype=np.float32) for start in range(0, len(inputs), _BATCH)]
    # the float network's means are needed once, and do not change while the quantized one is corrected
    expected = _means(floating, [outputs[name] for name in layers], batches)
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    held: dict[str, list[_Array]] = {quantized.graph.input[0].name: list(batches)}
    for piece, still_read in _pieces(quantized, set(layers)):
        layer, result = piece[-1].name, piece[-1].output[0]
        # only the piece up to this layer runs; what it reads of earlier pieces is held, already corrected
        made = _run(quantized, piece, [name for name in still_read if name not in held], held)
        # what no later piece reads is dropped: a deep network would not fit into memory otherwise
        held = {name: values for name, values in {**held, **made}.items() if name in still_read}
        bias, scale = layers[layer]
        shift = expected[outputs[layer]] - _mean(held[result])
        old = numpy_helper.to_array(stored[bias])
        if scale is None:
            new, moved = (old + shift).astype(old.dtype), shift
        else:
            step = numpy_helper.to_array(stored[scale]).astype(np.float64)
            # A stored bias b stands for b * step. The shift is rounded to whole steps, and what was really added (`moved`) is used from
            # here on.
            whole, steps = np.iinfo(np.int32), np.rint(shift / step)
            new, moved = np.clip(old + steps, whole.min, whole.max).astype(np.int32), steps * step
        stored[bias].CopyFrom(numpy_helper.from_array(new, bias))
        # the layer is not run again: its outputs with the corrected bias are the old ones plus the same number everywhere
        held[result] = [values + _by_channel(moved, values.ndim) for values in held[result]]


def _layers(quantized: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield each quantized layer with a bias, in the graph's order: name, tensor of the bias, and tensor of its scale or None."""
    makers = {output: node for node in quantized.graph.node for output in node.output}
    stored = {tensor.name for tensor in quantized.graph.initializer}
    readers = Counter(name for node in quantized.graph.node for name in node.input)
    for node in quantized.graph.node:
        if node.op_type not in _LAYERS or len(node.input) != 3:
            continue
        weight, bias = (makers.get(name) for name in node.input[1:])
        if weight is None or weight.op_type != "DequantizeLinear":
            continue
        if bias is not None and bias.op_type == "DequantizeLinear":
            yield node.name, bias.input[0], bias.input[1]
        # a float bias that another node reads too cannot be changed for one of them
        elif node.input[2] in stored and readers[node.input[2]] == 1:
            yield node.name, node.input[2], None


def _pieces(model: Any, layers: set[str]) -> Iterator[tuple[list[Any], list[str]]]:
    """Cut the graph behind each layer: the nodes of a piece, its layer last, and the tensors made so far that are still needed."""
    nodes = list(model.graph.node)
    made = {model.graph.input[0].name}
    start = 0
    for end, node in enumerate(nodes, start=1):
        made.update(node.output)
        if node.name in layers:
            later = {name for following in nodes[end:] for name in following.input}
            yield nodes[start:end], sorted(name for name in made if name in later or name in node.output)
            start = end


def _run(model: Any, nodes: Sequence[Any], outputs: Sequence[str], held: Mapping[str, Sequence[_Array]]) -> dict[str, list[_Array]]:
    """Return the outputs of a piece of a model, batch by batch, from the tensors that are held."""
    from onnx import helper

    read = {name for node in nodes for name in node.input}
    entries = [name for name in held if name in read]
    types = {name: helper.np_dtype_to_tensor_dtype(held[name][0].dtype) for name in entries}
    ends = [[helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()], [_untyped(name) for name in outputs]]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = helper.make_graph(nodes, "piece", *ends, constants)
    session = _session(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version))
    fed = zip(*(held[name] for name in entries), strict=True)
    runs = [session.run(list(outputs), dict(zip(entries, batch, strict=True))) for batch in fed]
    return {name: [run[place] for run in runs] for place, name in enumerate(outputs)}


def _means(model: Any, tensors: Sequence[str], batches: Sequence[Floats]) -> dict[str, _Array]:
    """Return the mean of each tensor over all inputs and positions, one number for each channel."""
    import onnx

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(map(_untyped, tensors))
    session, entry = _session(observed), model.graph.input[0].name
    runs = (session.run(list(tensors), {entry: batch}) for batch in batches)
    sums = [[values.sum(_all_but_channels(values), dtype=np.float64) for values in run] for run in runs]
    # the size of one channel of one case: how many values a sum over positions adds up for each case
    positions = [values[:, :1].size for values in session.run(list(tensors), {entry: batches[0][:1]})]
    count = sum(map(len, batches))
    return {name: sum(of_batch[k] for of_batch in sums) / (positions[k] * count) for k, name in enumerate(tensors)}


def _mean(batches: Sequence[_Array]) -> _Array:
    """Return the mean over all batches and positions, one number for each channel."""
    total = sum(values.sum(_all_but_channels(values), dtype=np.float64) for values in batches)
    return np.asarray(total / sum(values[:, :1].size for values in batches))


def _all_but_channels(values: _Array) -> tuple[int, ...]:
    """Return all axes but that of the channels."""
    return tuple(axis for axis in range(values.ndim) if axis != 1)


def _by_channel(values: _Array, axes: int) -> _Array:
    return values.astype(np.float32).reshape(1, -1, *[1] * (axes - 2))


def _untyped(name: str) -> Any:
    import onnx

    return onnx.ValueInfoProto(name=name)


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
