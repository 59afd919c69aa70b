"""An ONNX file as a network of PyTorch, whose channels can be cut, whose layers can be repaired and trained.

Every node becomes a plain layer (`onnx_layers.py`) or a function (`onnx_operators.py`). The network runs once on a trial input while it is
built, since much of what a file says is computed in it: the sizes of a reshape from the shape of a tensor, say. What depends on constants
and shapes alone is computed then, and does not come back. The function of a node is made from what it was given and gave in the trial.

A bias is a layer's own where it can be: the product with a matrix and the sum with a vector behind it become one linear layer.

In the end the network is compared with the file, as ONNX's own reference computes it on the trial input. A network that computes something
else is refused. Where the reference cannot run the file, a note says so.

No code of the file's runs: it names operators, and those that are not known here are refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.errors import InputError
from optimize.loading.model_formats import ShapedNetwork
from optimize.loading.onnx_layers import LAYERS, filled
from optimize.loading.onnx_operators import OPERATORS
from optimize.loading.onnx_trial import Function, Trial

OPEN_SIZE = 5
"""The batch of the trial where the file leaves it open: a size that is hardly one of the network's own."""
SAME = 1e-4
"""Largest difference between the network and the file, as a share of the largest output."""
MAX_FOLDED = 2**26
"""Most values of a constant that a file has computed: a few bytes can ask for any number of them."""
MANY_AXES = 64
"""Numbers of a constant that may still be the sizes of a tensor."""
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


class OnnxNetwork(ShapedNetwork):
    """The network of an ONNX file."""

    def __init__(self, steps: Sequence[_Step], layers: Mapping[str, nn.Module], constants: Mapping[str, torch.Tensor], ends: _Ends) -> None:
        super().__init__()
        self.input_shape, self._steps, self._ends = ends.input_shape, tuple(steps), ends
        self.notes = ()
        for name, layer in layers.items():
            self.add_module(name, layer)
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)
        # a tensor is dropped after the last node that reads it, so that memory is that of the network and not of all its tensors
        self._last = {name: place for place, step in enumerate(self._steps) for name in step.takes}

    @property
    def given(self) -> str:
        """Name of the input in the file."""
        return self._ends.given

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
        InputError: when it cannot be read, is quantized already, has several inputs or operators that are not known here, or the network
            would compute something else than the file.
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
    builder = _Builder(path, graph, _opset(model), shape)
    network = builder.network()
    network.notes = _compared(path, model, builder.trial, network)
    if any(tensor.data_type == _HALF for tensor in graph.initializer):
        network.notes += ("the weights are stored as float16, and were read as float32",)
    return network


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


def _opset(model: Any) -> int:
    """Return the version of ONNX's operators that the file means."""
    return next((int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)


class _Builder:
    """Builds a network node by node, and runs each node on a trial input as it is built.

    Attributes:
        trial: the trial input, (N, C, *spatial).
    """

    def __init__(self, path: Path, graph: Any, opset: int, shape: tuple[int, ...]) -> None:
        from onnx import numpy_helper

        self._path, self._graph, self._opset = path, graph, opset
        self._constants = {tensor.name: _tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        self._given = next(value.name for value in graph.input if value.name not in self._constants)
        self.trial = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
        self._values = {self._given: self.trial}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._steps: list[_Step] = []
        self._layers: dict[str, nn.Module] = {}

    def network(self) -> OnnxNetwork:
        """Return the whole network.

        Raises:
            InputError: naming the first node that is not rebuilt.
        """
        for node in self._graph.node:
            try:
                with torch.no_grad():
                    self._add(node)
            except Exception as problem:  # whatever torch and ONNX raise on a node of a kind that is not foreseen here
                words = " ".join(str(problem).split())[:160] or type(problem).__name__
                raise InputError(
                    f"`model` (={self._path}): {node.op_type} {node.name or next(iter(node.output), '')} is not rebuilt ({words}): "
                    "save model.state_dict() with torch.save and pass --arch file.py:factory."
                ) from problem
        outputs = tuple(value.name for value in self._graph.output)
        if missing := [name for name in outputs if name not in self._values]:
            raise InputError(f"`model` (={self._path}): its output {missing[0]} does not depend on its input: export it again.")
        used = sorted({name for step in self._steps for name in step.takes if name in self._constants})
        # names of tensors in a file may hold dots, and names of buffers may not
        renamed = {name: f"constant_{place}" for place, name in enumerate(used)}
        steps = [_Step(step.run, tuple(renamed.get(name, name) for name in step.takes), step.makes) for step in self._steps]
        kept = {renamed[name]: self._constants[name] for name in used}
        ends = _Ends(self._given, outputs, tuple(self.trial.shape[1:]))
        return OnnxNetwork(steps, self._layers, kept, ends).eval().requires_grad_(False)

    def _add(self, node: Any) -> None:
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and names[0] in self._values:
            attributes = _attributes(node)
            sizes = tuple(self._values[names[0]].shape)[attributes.get("start", 0) : attributes.get("end")]
            self._constants[node.output[0]] = torch.tensor(sizes, dtype=torch.int64)
        elif all(name in self._constants for name in names):
            made = _folded(node, {name: self._constants[name] for name in names}, self._opset)
            self._constants |= {name: _for_any_batch(part, len(self.trial)) for name, part in zip(node.output, made, strict=False)}
        elif not self._as_bias(node):
            self._add_step(node)

    def _as_bias(self, node: Any) -> bool:
        """Make a sum with a vector the bias of the linear layer right in front of it; return whether it is one."""
        constant = [name for name in node.input if name in self._constants]
        if node.op_type != "Add" or len(constant) != 1 or not self._steps or not isinstance(self._steps[-1].run, str):
            return False
        step, bias = self._steps[-1], self._constants[constant[0]]
        layer, made = self._layers[str(step.run)], step.makes[0]
        # another reader of the product would get it with the bias
        if made not in node.input or self._readers[made] != 1 or not isinstance(layer, nn.Linear) or layer.bias is not None:
            return False
        if bias.shape != (layer.out_features,):
            return False
        self._layers[str(step.run)] = filled(nn.Linear(layer.in_features, layer.out_features), layer.weight.detach(), bias)
        self._steps[-1] = _Step(step.run, step.takes, (node.output[0],))
        self._values[node.output[0]] = self._values.pop(made) + bias
        return True

    def _add_step(self, node: Any) -> None:
        """Add a node as a layer or as a function."""
        attributes = _attributes(node)
        fixed = [self._constants.get(name) if name else None for name in node.input]
        given = [self._values.get(name, self._constants.get(name)) if name else None for name in node.input]
        layer = LAYERS[node.op_type](attributes, fixed, given[0]) if node.op_type in LAYERS and given[0] is not None else None
        if layer is not None:
            name = _unused(re.sub(r"\W+", "_", node.name or node.output[0]).strip("_") or node.op_type, self._layers)
            self._layers[name] = layer.eval()
            step, made = _Step(name, (node.input[0],), tuple(node.output[:1])), layer(given[0])
        elif node.op_type in OPERATORS:
            function = OPERATORS[node.op_type](Trial(attributes, fixed, given, len(node.output), self._opset))
            step = _Step(function, tuple(name for name in node.input if name), tuple(node.output))
            made = function(*[tensor for tensor in given if tensor is not None])
        else:
            raise NotImplementedError("its weights, places or sizes are of a kind that is not known")
        self._steps.append(step)
        self._values.update(zip(step.makes, made if isinstance(made, tuple | list) else (made,), strict=False))


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _tensor(array: np.ndarray) -> torch.Tensor:
    # half and double precision become single, as everywhere else
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype))


def _folded(node: Any, given: Mapping[str, torch.Tensor], opset: int) -> list[torch.Tensor]:
    """Return the outputs of a node whose inputs are all constants, by ONNX's own reference.

    Raises:
        ValueError: when one would have more than `MAX_FOLDED` values.
    """
    from onnx import TensorProto, helper, numpy_helper, shape_inference
    from onnx.reference import ReferenceEvaluator

    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    known = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape) for name, each in arrays.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    # the numbers that may be sizes go in as values, so that the sizes of the outputs are known before any memory is taken for them
    few = [numpy_helper.from_array(each, name) for name, each in arrays.items() if each.size <= MANY_AXES]
    graph = helper.make_graph([node], "constant", known, outputs, few)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    for made in shape_inference.infer_shapes(model, data_prop=True).graph.output:
        size = prod(max(1, axis.dim_value) for axis in made.type.tensor_type.shape.dim)
        if size > MAX_FOLDED and size > max((each.size for each in arrays.values()), default=0):
            raise ValueError(f"a constant of {size:,} values is computed, and at most {MAX_FOLDED:,} are")
    evaluator = ReferenceEvaluator(helper.make_graph([node], "constant", known, outputs), opsets={"": opset})
    return [_tensor(np.asarray(part)) for part in evaluator.run(None, arrays)]


def _compared(path: Path, model: Any, trial: torch.Tensor, network: OnnxNetwork) -> tuple[str, ...]:
    """Check that the network computes what the file does on the trial input; return a sentence where that cannot be told.

    Raises:
        InputError: when it does not.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        expected = ReferenceEvaluator(model).run(None, {network.given: trial.numpy()})
    except Exception as problem:  # an operator that the reference does not have in this form
        words = " ".join(str(problem).split())[:160] or type(problem).__name__
        return (f"the network that was rebuilt from {path.name} could not be compared with the file ({words})",)
    with torch.no_grad():
        made = network(trial)
    for actual, other in zip(made.values() if isinstance(made, dict) else (made,), expected, strict=True):
        apart = float(np.abs(actual.numpy() - other).max(initial=0)) / max(float(np.abs(other).max(initial=0)), 1e-12)
        # written so that NaN counts as different
        if not apart <= SAME:
            raise InputError(
                f"`model` (={path}) cannot be rebuilt: the network would compute something else (output off by {100 * apart:.3g} %): "
                "save model.state_dict() with torch.save and pass --arch file.py:factory."
            )
    return ()


def _for_any_batch(constant: torch.Tensor, batch: int) -> torch.Tensor:
    """Return a constant of floats that is the same for every image of the trial, such as a class token, as that of one image."""
    several = constant.dim() > 1 and constant.shape[0] == batch > 1 and constant.is_floating_point()
    return constant[:1].clone() if several and bool((constant == constant[:1]).all()) else constant


def _unused(name: str, taken: Mapping[str, object]) -> str:
    name = name if name[0].isalpha() else f"layer_{name}"
    if name not in taken and not hasattr(nn.Module, name):
        return name
    return next(f"{name}_{number}" for number in range(1, len(taken) + 2) if f"{name}_{number}" not in taken)
