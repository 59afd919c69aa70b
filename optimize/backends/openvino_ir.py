"""Write an IR file that computes in the precision that was verified, whoever opens it and with whatever options.

Left alone, OpenVINO computes in bf16 wherever the CPU can: `Core().compile_model("model.xml", "CPU")` made of an f32 model another one.
The option that forbids it, INFERENCE_PRECISION_HINT, can be written into the file under `rt_info/runtime_options`, where a reader finds
it; but the CPU plugin (2026.4) takes other options from there and not this one. What it does obey is the attribute "precise" of an
operation, which OpenVINO's own passes set where a result must not be rounded. So every operation that computes gets it:

    <layer id="7" type="Convolution" …>
        <data …/>
        <rt_info><attribute name="precise" version="0"/></rt_info>
    </layer>

The plugin loses the attribute where it puts another operation in an operation's place. Where it does so in the networks that are common,
the file holds a form of the same operation that the plugin leaves alone. What remains (`docs/artifact.md`) needs the option.

    MatMul + bias [K]            -> the same sum with one more axis, (…, K, 1) + [K, 1]: a bias of the last axis is fused into the product
    MaxPool of opset 8 or later  -> MaxPool of opset 1, which has no second output
    PRelu with one slope         -> PRelu with the slope repeated for each channel
    Reshape by computed sizes    -> Reshape by numbers, -1 for the one that is free
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

_HOLDING = {"Parameter", "Result", "Const"}
_ACTIVATIONS = {"Relu", "Sigmoid", "Tanh", "HSwish", "HSigmoid", "Clamp", "Elu", "Gelu", "Swish", "Mish", "SoftPlus"}
_ATTRIBUTE, _VERSION = "precise", "0"


def hold_precision(path: Path) -> None:
    """Mark every operation of the IR at `path` as one that is computed in the precision of its data."""
    tree = ElementTree.parse(path)  # noqa: S314 - written by us a moment ago
    for layer in tree.iterfind("./layers/layer"):
        if layer.get("type") in _HOLDING:
            continue
        information = layer.find("rt_info")
        if information is None:
            information = ElementTree.Element("rt_info")
            # the schema wants <data> first, then <rt_info>, then the ports
            layer.insert(0 if layer.find("data") is None else 1, information)
        if all(entry.get("name") != _ATTRIBUTE for entry in information):
            ElementTree.SubElement(information, "attribute", {"name": _ATTRIBUTE, "version": _VERSION})
    tree.write(path, encoding="utf-8", xml_declaration=True)


def keep_forms(model: Any) -> None:
    """Replace operations that the plugin would replace by forms of the same that it leaves alone; the names stay."""
    for node in model.get_ordered_ops():
        form = _FORMS.get(node.get_type_name())
        new = None if form is None else form(node)
        if new is not None:
            _put_in_place(node, new)
    for node in model.get_ordered_ops():
        if node.get_type_name() in _ACTIVATIONS:
            _activate_before_reshape(node)
        elif node.get_type_name() == "Add":
            _widen_bias(node)
    model.validate_nodes_and_infer_types()


def _put_in_place(node: Any, new: Any) -> None:
    """Let what reads `node` read `new`, which is called as that was."""
    name = node.get_friendly_name()
    _read_instead(node, new)
    node.set_friendly_name(f"{name}/replaced")
    new.set_friendly_name(name)


def _read_instead(node: Any, new: Any) -> None:
    """Let what reads `node`, but for `new`, read that, under the same names of tensors."""
    output = node.output(0)
    names = output.get_names()
    for target in list(output.get_target_inputs()):
        if target.get_node().get_friendly_name() != new.get_friendly_name():
            target.replace_source_output(new.output(0))
    # a tensor's name may belong to one output only, so it is taken off the old one first
    output.set_names(set())
    new.output(0).set_names(names)


def _widen_bias(add: Any) -> None:
    """Sum a float matrix product and its bias with an axis more: a bias of the last axis the plugin takes into the product.

    The axis goes behind the activation, which the plugin would else move before that and lose the attributes of both.
    """
    from openvino import opset13 as ops

    sides = [value.get_source_output() for value in add.inputs()]
    values = [_constant(side.get_node()) for side in sides]
    # exactly one side must vary: a sum of two tensors is no bias, one of two constants is none either
    if sum(value is None for value in values) != 1:
        return
    product, bias = _unscaled(sides[values.index(None)]), next(value for value in values if value is not None)
    rank = product.get_partial_shape().rank
    if product.get_node().get_type_name() != "MatMul" or rank.is_dynamic or bias.dtype != np.float32 or not bias.ndim:
        return
    # a bias of the last axis only, behind a product with constant weights: other sums the plugin does not fuse
    if bias.size != bias.shape[-1] or product.get_node().input(1).get_source_output().get_node().get_type_name() != "Constant":
        return
    # 0 keeps a size, so this works with a free batch: (N, K) becomes (N, K, 1), and the bias [K] becomes [K, 1]
    wide = ops.reshape(product, np.array([0] * rank.get_length() + [1], dtype=np.int64), special_zero=True)
    total = ops.add(wide, np.ascontiguousarray(bias.reshape(-1, 1)))
    wide.set_friendly_name(f"{add.get_friendly_name()}/wide")
    last = _last_activation(add) or total
    _put_in_place(add, total)
    if _all_reshape(last):  # which takes the axis away itself; two in a row would become one, without the attribute
        return
    narrow = ops.reshape(last, np.array([0] * rank.get_length(), dtype=np.int64), special_zero=True)
    narrow.set_friendly_name(f"{last.get_friendly_name()}/narrow")
    _read_instead(last, narrow)


def _activate_before_reshape(node: Any) -> None:
    """Move an activation before the reshape that it alone reads, as the plugin would, which loses the attributes of both."""
    source = node.input_value(0)
    reshape = source.get_node()
    if reshape.get_type_name() != "Reshape" or len(source.get_target_inputs()) != 1:
        return
    unshaped = reshape.input_value(0)
    # x -> Reshape -> Relu becomes x -> Relu -> Reshape; element by element both give the same
    node.input(0).replace_source_output(unshaped)
    reshape.input(0).replace_source_output(node.output(0))
    _read_instead(node, reshape)


def _all_reshape(node: Any) -> bool:
    """Return whether all that read a node give it another shape, by numbers."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    constant = [reader.get_type_name() == "Reshape" and _constant(reader.input_value(1).get_node()) is not None for reader in readers]
    return bool(constant) and all(constant)


def _last_activation(node: Any) -> Any | None:
    """Return the last of the activations that follow a node, one after another and read by nothing else; None where none does."""
    last = None
    while True:
        readers = [target.get_node() for target in node.output(0).get_target_inputs()]
        if len(readers) != 1 or readers[0].get_type_name() not in _ACTIVATIONS:
            return last
        node = last = readers[0]


def _constant(node: Any) -> Any | None:
    """Return the value of a constant, or of a constant times another, as a Gemm's bias is; None of anything else."""
    if node.get_type_name() == "Constant":
        return np.array(node.data)
    if node.get_type_name() != "Multiply":
        return None
    factors = [value.get_source_output().get_node() for value in node.inputs()]
    if any(factor.get_type_name() != "Constant" for factor in factors):
        return None
    return np.multiply(*(np.array(factor.data) for factor in factors))


def _unscaled(value: Any) -> Any:
    """Return what a factor of 1 multiplies, as a Gemm has it; any other value as it is."""
    node = value.get_node()
    if node.get_type_name() != "Multiply":
        return value
    sides = [side.get_source_output() for side in node.inputs()]
    ones = [(known := _constant(side.get_node())) is not None and bool((known == 1).all()) for side in sides]
    return sides[ones.index(False)] if ones.count(True) == 1 else value


def _pooled(pool: Any) -> Any | None:
    from openvino import opset1

    if len(pool.outputs()) != 2 or pool.output(1).get_target_inputs():
        return None
    attributes = pool.get_attributes()
    # the pooling of opset 1 knows no dilation and no other rounding
    if any(size != 1 for size in attributes["dilations"]) or attributes["rounding_type"] not in ("floor", "ceil"):
        return None
    sizes = [attributes[name] for name in ("strides", "pads_begin", "pads_end", "kernel")]
    return opset1.max_pool(pool.input_value(0), *sizes, attributes["rounding_type"], attributes["auto_pad"])


def _sloped(prelu: Any) -> Any | None:
    from openvino import opset1

    data, slope = prelu.input_value(0), prelu.input_value(1).get_node()
    shape = data.get_partial_shape()
    if slope.get_type_name() != "Constant" or slope.data.size != 1 or shape.rank.is_dynamic or shape.rank.get_length() < 2:
        return None
    channels = shape[1]
    if channels.is_dynamic or channels.get_length() < 2:
        return None
    sizes = [1, channels.get_length(), *[1] * (shape.rank.get_length() - 2)]
    return opset1.prelu(data, opset1.constant(np.full(sizes, slope.data.reshape(()), dtype=slope.data.dtype)))


def _with_axes(unsqueeze: Any) -> Any | None:
    from openvino import opset1

    data, axes = unsqueeze.input_value(0), unsqueeze.input_value(1).get_node()
    rank = data.get_partial_shape().rank
    if rank.is_dynamic or axes.get_type_name() != "Constant":
        return None
    axes_there, more = rank.get_length(), axes.data.size
    # only new axes at the end can be written as a reshape that copies all sizes in front (0) and appends ones
    behind = sorted(int(axis) % (axes_there + more) for axis in axes.data.reshape(-1))
    if behind != [*range(axes_there, axes_there + more)]:
        return None
    return opset1.reshape(data, np.array([0] * axes_there + [1] * more, dtype=np.int64), special_zero=True)


def _shaped(reshape: Any) -> Any | None:
    """Return a reshape to sizes that are known but for one, such as the batch."""
    from openvino import opset1

    shape = reshape.output(0).get_partial_shape()
    if reshape.input_value(1).get_node().get_type_name() == "Constant" or shape.rank.is_dynamic:
        return None
    sizes = [-1 if size.is_dynamic else size.get_length() for size in shape]
    # only one size may be free (-1); a reshape to an empty tensor is left as it is
    if sizes.count(-1) > 1 or 0 in sizes:
        return None
    return opset1.reshape(reshape.input_value(0), np.array(sizes, dtype=np.int64), special_zero=False)


_FORMS: dict[str, Callable[[Any], Any | None]] = {
    "MaxPool": _pooled,
    "PRelu": _sloped,
    "Reshape": _shaped,
    "Unsqueeze": _with_axes,
}
