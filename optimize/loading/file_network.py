"""An ONNX file that is not rebuilt as layers: it is run as it is, and quantized, compiled, measured and judged like every other network.

Nothing can be cut out of it, repaired or trained. What the steps, the export and the counts need of a network is here: a forward, the
numbers of its weights, its multiply–accumulates, and the file itself for the export.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from optimize.errors import InputError
from optimize.graph.onnx_macs import model_macs
from optimize.loading.model_formats import ShapedNetwork

OPSET = 18
"""Operators of this version are what the runtimes and their quantizers know best; an older file is converted where that succeeds."""
MAX_VALUES = 2**30
"""Most values of one tensor."""
_QUIET = 4
_HALF = 10


class FileNetwork(ShapedNetwork):
    """A network that ONNX Runtime runs as its file says.

    Its parameters are the file's weights: they are counted, and changing them changes nothing.

    Args:
        content: the file, with one input "input", whose batch is open.
        input_shape: (C, *spatial).
        notes: sentences on what was read.
        output: name of the output that is returned; None for all of them, by name.
    """

    def __init__(self, content: bytes, input_shape: tuple[int, ...], notes: tuple[str, ...] = (), output: str | None = None) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        self.content, self.input_shape, self.notes, self.output = content, input_shape, notes, output
        model = onnx.load_from_string(content)
        self.counted_macs = model_macs(model) or 0
        self._session = _Session(content)
        for place, tensor in enumerate(model.graph.initializer):
            values = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            if values.is_floating_point():
                name = re.sub(r"\W+", "_", tensor.name)
                self.register_parameter(f"{name}_{place}", nn.Parameter(values, requires_grad=False))

    def forward(self, inputs: torch.Tensor) -> Any:
        """(N, C, *spatial) -> the chosen output, or all of them by name."""
        outputs = self._session.run(np.asarray(inputs.detach().float().numpy()), self.output)
        tensors = {name: torch.from_numpy(values).to(inputs.dtype) for name, values in outputs.items()}
        return next(iter(tensors.values())) if len(tensors) == 1 else tensors

    def choosing(self, output: str) -> FileNetwork:
        """Return this network with one of its outputs, which is the only one that an export has."""
        return FileNetwork(self.content, self.input_shape, self.notes, output).eval().requires_grad_(False)

    def onnx(self) -> Any:
        """Return the file as a model of the ONNX library, with one input "input" and one output "output"."""
        import onnx

        model: Any = onnx.load_from_string(self.content)
        graph = model.graph
        names = [each.name for each in graph.output]
        chosen = names[0] if self.output is None else self.output
        for place in reversed([place for place, name in enumerate(names) if name != chosen]):
            del graph.output[place]
        _rename(graph, chosen, "output")
        return model


class _Session:
    """A session of the runtime, which copies of a network share: it keeps nothing between calls."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __deepcopy__(self, memo: dict[int, Any]) -> _Session:
        return self

    def run(self, inputs: np.ndarray, output: str | None) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        names = [each.name for each in self._session.get_outputs()] if output is None else [output]
        return dict(zip(names, self._session.run(names, {"input": inputs}), strict=True))


def as_it_is(path: Path, source: Any, input_shape: Sequence[int], reason: str) -> FileNetwork:
    """Return the network of a file that is not rebuilt.

    Args:
        path: the file, for errors and notes.
        source: what it holds.
        input_shape: (C, *spatial).
        reason: why it is not rebuilt, in words.

    Raises:
        InputError: when ONNX Runtime is not installed or cannot run the file.
    """
    remedy = "save model.state_dict() with torch.save and pass --arch file.py:factory"
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise InputError(
            f"`model` (={path}) is not rebuilt as layers ({reason}), and ONNX Runtime, which would run it as it is, is missing: "
            f"pip install 'optimize[onnxruntime]', or {remedy}."
        ) from None
    if any(tensor.data_type == _HALF for tensor in source.graph.initializer):
        raise InputError(f"`model` (={path}) is in half precision and not rebuilt as layers ({reason}): export it in float32, or {remedy}.")
    notes = (f"the network of {path.name} is compiled as it is, and nothing can be cut out of it ({reason})",)
    _require_bounded(path, source)
    try:
        network = FileNetwork(_prepared(source, input_shape).SerializeToString(deterministic=True), tuple(input_shape), notes)
    except Exception as problem:  # whatever the runtime raises about operators that it does not have
        words = " ".join(str(problem).split())[:200]
        raise InputError(
            f"`model` (={path}) is not rebuilt as layers ({reason}), and ONNX Runtime cannot run it ({words}): {remedy}."
        ) from problem
    return network.eval().requires_grad_(False)


def _prepared(source: Any, input_shape: Sequence[int]) -> Any:
    """Return a copy of a file whose input is named "input" and has an open batch and fixed sizes, in the usual version where it can be."""
    import onnx
    from onnx import version_converter

    model: Any = onnx.ModelProto()
    model.CopyFrom(source)
    if any(each.domain in ("", "ai.onnx") and each.version < OPSET for each in model.opset_import):
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception:  # the converter has no rule for an operator: the runtime takes the file as it is
            model.CopyFrom(source)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    given = next(value for value in graph.input if value.name not in weights)
    for kept in [value for value in graph.input if value.name in weights]:
        graph.input.remove(kept)  # a weight that is listed as an input could be replaced at each call, and is not folded
    axes = given.type.tensor_type.shape.dim
    axes[0].dim_param = "batch"
    for axis, size in zip(axes[1:], input_shape, strict=True):
        axis.dim_value = size
    for output in graph.output:
        if output.type.tensor_type.shape.dim:
            output.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    _rename(graph, given.name, "input")
    return model


def _require_bounded(path: Path, source: Any) -> None:
    """Raise `InputError` when the file has a tensor that no network has: a few bytes can ask for any size."""
    import onnx

    for value in onnx.shape_inference.infer_shapes(source, data_prop=True).graph.value_info:
        size = math.prod(max(1, axis.dim_value) for axis in value.type.tensor_type.shape.dim)
        if size > MAX_VALUES:
            rule = f"has {size:,} values, and at most {MAX_VALUES:,} are computed"
            raise InputError(f"`model` (={path}): {value.name[:60]} {rule}: export it again.")


def _rename(graph: Any, name: str, into: str) -> None:
    """Rename a tensor of a graph wherever it occurs; one that has the new name already is renamed out of the way first."""
    if name == into:
        return
    taken = {each for node in graph.node for each in (*node.input, *node.output)}
    taken |= {value.name for part in (graph.initializer, graph.input, graph.output) for value in part}
    if into in taken:
        _rename(graph, into, next(f"{into}_{number}" for number in range(1, len(taken) + 2) if f"{into}_{number}" not in taken))
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [into if each == name else each for each in places]
        for attribute in node.attribute:
            # the branches of a condition and the body of a loop read tensors from outside under their names
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, name, into)
    for part in (graph.initializer, graph.input, graph.output, graph.value_info):
        for value in part:
            value.name = into if value.name == name else value.name
