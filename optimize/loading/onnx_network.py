"""An ONNX file as a network of PyTorch, whose channels can be cut, whose layers can be repaired and trained.

Every node becomes a plain layer (`onnx_layers.py`) or a function (`onnx_operators.py`). The network runs once on a trial input while it is
built, since much of what a file says is computed in it: the sizes of a reshape from the shape of a tensor, say. What depends on constants
and shapes alone is computed then, and does not come back. The function of a node is made from what it was given and gave in the trial.

A bias is a layer's own where it can be: the product with a matrix and the sum with a vector behind it become one linear layer.

In the end the network is compared with the file, as ONNX's own reference computes it on the trial input. Where the reference cannot run
the file, a note says so. A file that cannot be rebuilt, or computes something else, is run as it is (`file_network.py`).

No code of the file's runs: it names operators.
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
from optimize.loading.file_network import FileNetwork, as_it_is
from optimize.loading.model_formats import ShapedNetwork
from optimize.loading.onnx_constants import as_tensor, folded, for_any_batch
from optimize.loading.onnx_layers import LAYERS, filled
from optimize.loading.onnx_operators import OPERATORS
from optimize.loading.onnx_trial import Function, Trial

OPEN_SIZE = 5
"""The batch of the trial where the file leaves it open: a size that is hardly one of the network's own."""
SAME = 1e-4
"""Largest difference between the network and the file, as a share of the largest output."""
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


def read_onnx(path: Path, input_shape: Sequence[int] = ()) -> OnnxNetwork | FileNetwork:
    """Return the network of an ONNX file: rebuilt where that is possible, else run as it is, with a note that says why.

    Args:
        path: the file, perhaps with its weights in a second file beside it.
        input_shape: (C, *spatial) for sizes that the file leaves open; empty where it leaves none.

    Raises:
        InputError: when it cannot be read, is quantized already or has several inputs; or when it is not rebuilt and the runtime cannot
            run it either.
    """
    import onnx

    try:
        model: Any = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as problem:  # protobuf, the checker and missing weights have errors of their own
        words = " ".join(str(problem).split())[:200]
        raise InputError(f"`model` (={path}) cannot be read as ONNX ({words}): export it again.") from problem
    if quantized := sorted({node.op_type for node in model.graph.node} & _QUANTIZED):
        raise InputError(f"`model` (={path}) is quantized already ({quantized[0]}): pass the file from before that.")
    shape = _input_shape(path, model.graph, input_shape)
    try:
        return rebuilt(path, model, shape)
    except _NotRebuilt as reason:
        return as_it_is(path, model, shape[1:], str(reason))


class _NotRebuilt(Exception):
    """Why no network of plain layers computes what a file does, in words."""


def rebuilt(path: Path, model: Any, shape: tuple[int, ...]) -> OnnxNetwork:
    """Return the network of a file as plain layers.

    Args:
        path: the file, for the notes.
        model: what it holds.
        shape: shape of a trial input, (N, C, *spatial).

    Raises:
        _NotRebuilt: when an operator is not known here, or the network would compute something else than the file.
    """
    graph = model.graph
    kinds = {node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in graph.node}
    if unknown := sorted(kind for kind in kinds if kind not in OPERATORS and kind not in LAYERS and kind not in _OF_SHAPES):
        raise _NotRebuilt(f"it has operators that are not rebuilt: {', '.join(unknown[:5])}")
    builder = _Builder(graph, _opset(model), shape)
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

    def __init__(self, graph: Any, opset: int, shape: tuple[int, ...]) -> None:
        from onnx import numpy_helper

        self._graph, self._opset = graph, opset
        self._constants = {tensor.name: as_tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        self._given = next(value.name for value in graph.input if value.name not in self._constants)
        self.trial = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
        self._values = {self._given: self.trial}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._steps: list[_Step] = []
        self._layers: dict[str, nn.Module] = {}

    def network(self) -> OnnxNetwork:
        """Return the whole network.

        Raises:
            _NotRebuilt: naming the first node that is not rebuilt.
        """
        for node in self._graph.node:
            try:
                with torch.no_grad():
                    self._add(node)
            except InputError:
                raise
            except Exception as problem:  # whatever torch and ONNX raise on a node of a kind that is not foreseen here
                words = " ".join(str(problem).split())[:160] or type(problem).__name__
                raise _NotRebuilt(f"{node.op_type} {node.name or next(iter(node.output), '')} is not rebuilt: {words}") from problem
        outputs = tuple(value.name for value in self._graph.output)
        if missing := set(outputs) - self._values.keys():
            raise _NotRebuilt(f"its output {min(missing)} does not depend on its input")
        used = sorted({name for step in self._steps for name in step.takes if name in self._constants})
        renamed = {name: f"constant_{place}" for place, name in enumerate(used)}  # a buffer's name has no dots
        steps = [_Step(step.run, tuple(renamed.get(name, name) for name in step.takes), step.makes) for step in self._steps]
        kept = {renamed[name]: self._constants[name] for name in used}
        ends = _Ends(self._given, outputs, tuple(self.trial.shape[1:]))
        return OnnxNetwork(steps, self._layers, kept, ends).eval().requires_grad_(False)

    def _add(self, node: Any) -> None:
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and names[0] in self._values:
            ends = _attributes(node)
            sizes = self._values[names[0]].shape[ends.get("start", 0) : ends.get("end")]
            self._constants[node.output[0]] = torch.tensor(sizes, dtype=torch.int64)
        elif all(name in self._constants for name in names):
            made = folded(node, {name: self._constants[name] for name in names}, self._opset)
            self._constants |= {name: for_any_batch(part, len(self.trial)) for name, part in zip(node.output, made, strict=False)}
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

    values = ((item.name, helper.get_attribute_value(item)) for item in node.attribute)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values}


def _compared(path: Path, model: Any, trial: torch.Tensor, network: OnnxNetwork) -> tuple[str, ...]:
    """Check that the network computes what the file does on the trial input; return a sentence where that cannot be told.

    Raises:
        _NotRebuilt: when it does not.
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
            raise _NotRebuilt(f"the network that was rebuilt computes something else, its output is off by {100 * apart:.3g} %")
    return ()


def _unused(name: str, taken: Mapping[str, object]) -> str:
    name = name if name[0].isalpha() else f"layer_{name}"
    if name not in taken and not hasattr(nn.Module, name):
        return name
    return next(f"{name}_{number}" for number in range(1, len(taken) + 2) if f"{name}_{number}" not in taken)
