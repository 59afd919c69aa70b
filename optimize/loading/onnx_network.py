"""An ONNX file as a network of PyTorch, whose channels can be cut, whose layers can be repaired and trained.

Every node becomes a plain layer (`onnx_layers.py`) or a function (`onnx_operators.py`). The network runs once on a trial input while it is
built, since much of what a file says is computed in it: the sizes of a reshape from the shape of a tensor, say. What depends on constants
and shapes alone is computed then, and does not come back. The function of a node is made from what it was given and gave in the trial.

A bias is a layer's own where it can be: the product with a matrix and the sum with a vector behind it become one linear layer.

No code of the file's runs: it names operators, and those that are not known here are refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.errors import InputError
from optimize.loading.onnx_layers import LAYERS, filled
from optimize.loading.onnx_operators import OPERATORS, Function, Trial

OPEN_SIZE = 5
"""The batch of the trial where the file leaves it open: a size that is hardly one of the network's own."""
_FLOAT, _HALF = 1, 10
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}


@dataclass(frozen=True, eq=False)
class _Step:
    """A node of the network as it runs.

    Args:
        run: a function of tensors, or the name of a layer.
        takes: names of the tensors that it is given.
        makes: names of what it gives.
    """

    run: Function | str
    takes: tuple[str, ...]
    makes: tuple[str, ...]


class OnnxNetwork(nn.Module):
    """The network of an ONNX file.

    Attributes:
        input_shape: shape of one input, (C, *spatial), as the file says it.
    """

    def __init__(self, steps: Sequence[_Step], layers: Mapping[str, nn.Module], constants: Mapping[str, torch.Tensor], ends: _Ends) -> None:
        super().__init__()
        self.input_shape, self._steps, self._ends = ends.input_shape, tuple(steps), ends
        for name, layer in layers.items():
            self.add_module(name, layer)
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)
        # a tensor is dropped after the last node that reads it, so that memory is that of the network and not of all its tensors
        self._last = {name: place for place, step in enumerate(self._steps) for name in step.takes}

    def forward(self, inputs: torch.Tensor) -> Any:
        """(N, C, *spatial) -> the output, or several by name."""
        values: dict[str, torch.Tensor] = {self._ends.given: inputs}
        for place, step in enumerate(self._steps):
            taken = [values[name] if name in values else getattr(self, name) for name in step.takes]
            made = (getattr(self, step.run) if isinstance(step.run, str) else step.run)(*taken)
            values.update(zip(step.makes, made if isinstance(made, tuple | list) else (made,), strict=False))
            for name in step.takes:
                if self._last[name] == place and name not in self._ends.gave:
                    values.pop(name, None)
        outputs = {name: values[name] for name in self._ends.gave}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


@dataclass(frozen=True)
class _Ends:
    """Where a network begins and ends."""

    given: str
    gave: tuple[str, ...]
    input_shape: tuple[int, ...]


def read_onnx(path: Path, input_shape: Sequence[int] = ()) -> OnnxNetwork:
    """Return the network of an ONNX file.

    Args:
        path: the file, perhaps with its weights in a second file beside it.
        input_shape: (C, *spatial) for sizes that the file leaves open; empty where it leaves none.

    Raises:
        InputError: when it cannot be read, is quantized already, has several inputs or operators that are not known here.
    """
    import onnx

    try:
        model: Any = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as problem:  # protobuf, the checker and missing weights have errors of their own
        words = " ".join(str(problem).split())[:200]
        raise InputError(f"`model` (={path}) cannot be read as ONNX ({words}): export it again.") from problem
    graph = model.graph
    kinds = Counter(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in graph.node)
    if kinds.keys() & _QUANTIZED:
        raise InputError(f"`model` (={path}) is quantized already ({min(kinds.keys() & _QUANTIZED)}): pass the file from before that.")
    shape = _input_shape(path, graph, input_shape)
    unknown = sorted(kind for kind in kinds if kind not in OPERATORS and kind not in LAYERS and kind not in _OF_SHAPES)
    if unknown:
        raise InputError(
            f"`model` (={path}) has operators that are not rebuilt ({', '.join(unknown[:5])}): save model.state_dict() with torch.save and "
            "pass --arch file.py:factory."
        )
    return _built(path, graph, shape)


_OF_SHAPES = {"Shape", "Size", "Constant", "ConstantOfShape", "Range", "Equal", "Where", "Not", "And", "Or", "Less", "Greater", "Mod"}
"""Operators that occur in computing shapes; where they meet values of the network, they are refused."""


def _input_shape(path: Path, graph: Any, input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the input with the batch of the trial, (N, C, *spatial)."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in (_FLOAT, _HALF):
        names = ", ".join(value.name for value in inputs) or "none"
        raise InputError(f"`model` (={path}) must have one input, a batch of floats (it has: {names}): export it so.")
    batch, *sizes = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim]
    fits = len(input_shape) == len(sizes) and all(has in (0, asked) for has, asked in zip(sizes, input_shape, strict=True))
    if input_shape and not fits:
        said, has = (",".join(str(size or "?") for size in part) for part in (input_shape, sizes))
        raise InputError(f"`--input` (={said}) must fit `model` (={path}), whose input is {has}: pass those sizes, or leave it out.")
    whole = tuple(input_shape or sizes)
    if not all(whole):
        said = ",".join(str(size or "?") for size in sizes)
        raise InputError(f"`--input` is missing: `model` (={path}) takes inputs of {said}; pass --input C,H,W.")
    return (batch or OPEN_SIZE, *whole)


def _built(path: Path, graph: Any, shape: tuple[int, ...]) -> OnnxNetwork:
    """Return the network, built while it runs on a trial input."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {tensor.name for tensor in graph.initializer}
    given = next(value.name for value in graph.input if value.name not in weights)
    constants: dict[str, torch.Tensor] = {tensor.name: _tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    values: dict[str, torch.Tensor] = {given: torch.from_numpy(rng.standard_normal(shape, np.float32))}
    readers = Counter(name for node in graph.node for name in node.input)
    outputs = tuple(value.name for value in graph.output)
    steps: list[_Step] = []
    layers: dict[str, nn.Module] = {}
    for node in graph.node:
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and names[0] in values:
            constants[node.output[0]] = _shape_of(node, values[names[0]], helper)
        elif all(name in constants for name in names):
            made = _folded(node, [constants[name] for name in names])
            constants.update(zip(node.output, [_for_any_batch(part, shape[0]) for part in made], strict=False))
        elif (fused := _with_bias(node, steps, layers, constants, readers)) is not None:
            steps[-1] = _Step(steps[-1].run, steps[-1].takes, (node.output[0],))
            values[node.output[0]] = values.pop(fused) + _bias_of(node, constants)
        else:
            _add(path, node, steps, layers, constants, values, helper)
    used = {name for step in steps for name in step.takes if name in constants}
    renamed = {name: f"constant_{place}" for place, name in enumerate(sorted(used))}
    steps = [_Step(step.run, tuple(renamed.get(name, name) for name in step.takes), step.makes) for step in steps]
    missing = [name for name in outputs if name not in values]
    if missing:
        raise InputError(f"`model` (={path}): its output {missing[0]} does not depend on its input: export it again.")
    kept = {renamed[name]: constants[name] for name in used}
    return OnnxNetwork(steps, layers, kept, _Ends(given, outputs, shape[1:])).eval().requires_grad_(False)


def _tensor(array: np.ndarray) -> torch.Tensor:
    # half and double precision become single, as everywhere else
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype))


def _shape_of(node: Any, tensor: torch.Tensor, helper: Any) -> torch.Tensor:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return torch.tensor(tuple(tensor.shape)[attributes.get("start", 0) : attributes.get("end")], dtype=torch.int64)


def _folded(node: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the outputs of a node whose inputs are all constants, by ONNX's own reference."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "Constant":
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return [_tensor(numpy_helper.to_array(value))]
        return [_tensor(np.asarray(value, dtype=np.float32 if "float" in attribute.name else np.int64))]
    names = [name for name in node.input if name]
    kinds = {torch.float32: TensorProto.FLOAT, torch.bool: TensorProto.BOOL, torch.int32: TensorProto.INT32}
    inputs = [
        helper.make_tensor_value_info(name, kinds.get(tensor.dtype, TensorProto.INT64), list(tensor.shape))
        for name, tensor in dict(zip(names, given, strict=True)).items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    evaluator = ReferenceEvaluator(helper.make_graph([node], "constant", inputs, outputs), opsets={"": 20})
    made = evaluator.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
    return [_tensor(np.asarray(part)) for part in made]


def _for_any_batch(constant: torch.Tensor, batch: int) -> torch.Tensor:
    """Return a constant of floats that is the same for every image of the trial, such as a class token, as that of one image."""
    several = constant.dim() > 1 and constant.shape[0] == batch > 1 and constant.is_floating_point()
    return constant[:1].clone() if several and bool((constant == constant[:1]).all()) else constant


def _bias_of(node: Any, constants: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return next(constants[name] for name in node.input if name in constants)


def _with_bias(
    node: Any, steps: Sequence[_Step], layers: dict[str, nn.Module], constants: Mapping[str, torch.Tensor], readers: Mapping[str, int]
) -> str | None:
    """Make a sum with a vector the bias of the linear layer in front of it; return the layer's former output, or None where it is none."""
    if node.op_type != "Add" or not steps or not isinstance(steps[-1].run, str):
        return None
    layer, made = layers[steps[-1].run], steps[-1].makes[0]
    constant = [name for name in node.input if name in constants]
    if len(constant) != 1 or made not in node.input or readers[made] != 1 or not isinstance(layer, nn.Linear) or layer.bias is not None:
        return None
    bias = constants[constant[0]]
    if bias.dim() != 1 or len(bias) != layer.out_features:
        return None
    layers[str(steps[-1].run)] = filled(nn.Linear(layer.in_features, layer.out_features), layer.weight.detach(), bias)
    return made


def _add(
    path: Path,
    node: Any,
    steps: list[_Step],
    layers: dict[str, nn.Module],
    constants: Mapping[str, torch.Tensor],
    values: dict[str, torch.Tensor],
    helper: Any,
) -> None:
    """Add the step of a node, and run it."""
    attributes = {item.name: _attribute(helper.get_attribute_value(item)) for item in node.attribute}
    fixed = [constants.get(name) if name else None for name in node.input]
    given = [values.get(name, constants.get(name)) if name else None for name in node.input]
    what = f"`model` (={path}): {node.op_type} {node.name or node.output[0]}"
    try:
        layer = LAYERS[node.op_type](attributes, fixed, given[0]) if node.op_type in LAYERS and given[0] is not None else None
        if layer is not None:
            name = _unused(re.sub(r"\W+", "_", node.name or node.output[0]).strip("_") or node.op_type, layers)
            layers[name] = layer.eval()
            step = _Step(name, (node.input[0],), tuple(node.output[:1]))
            with torch.no_grad():
                made = layer(given[0])
        elif node.op_type in OPERATORS:
            function = OPERATORS[node.op_type](Trial(attributes, fixed, given, len(node.output)))
            takes = tuple(name for name in node.input if name)
            step = _Step(function, takes, tuple(node.output))
            with torch.no_grad():
                made = function(*[tensor for tensor in given if tensor is not None])
        else:
            raise NotImplementedError("its weights or places are computed from the input")
    except InputError as problem:
        raise InputError(f"{what}: {problem}: export it again.") from problem
    except Exception as problem:  # whatever torch raises on a node that is of a kind not foreseen here
        words = " ".join(str(problem).split())[:160] or type(problem).__name__
        remedy = "save model.state_dict() with torch.save and pass --arch file.py:factory"
        raise InputError(f"{what} is not rebuilt ({words}): {remedy}.") from problem
    steps.append(step)
    values.update(zip(step.makes, made if isinstance(made, tuple | list) else (made,), strict=False))


def _attribute(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _unused(name: str, taken: Mapping[str, object]) -> str:
    name = name if name[0].isalpha() else f"layer_{name}"
    if name not in taken and not hasattr(nn.Module, name):
        return name
    return next(f"{name}_{number}" for number in range(1, len(taken) + 2) if f"{name}_{number}" not in taken)
