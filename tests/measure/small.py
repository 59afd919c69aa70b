"""An ONNX file made by hand: a mean over the pixels and a matrix, so that no exporter is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


def graph(sizes: tuple[Any, ...] = ("N", 3, 4, 4), *, inputs: int = 1, kind: int = TensorProto.FLOAT, named: bool = False) -> Any:
    """(N, 3, H, W) -> (N, 2); with `named`, the weights are listed as the first input, as old files do."""
    taken = [helper.make_tensor_value_info(f"input{k}", kind, sizes) for k in range(inputs)]
    listed = [helper.make_tensor_value_info("weights", TensorProto.FLOAT, (3, 2))] if named else []
    nodes = [
        helper.make_node("ReduceMean", ["input0", "axes"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["output"], name="answer"),
    ]
    held = [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")]
    answers = [helper.make_tensor_value_info("output", TensorProto.FLOAT, (sizes[0] if sizes else "N", 2))]
    made = helper.make_graph(nodes, "small", [*listed, *taken], answers, held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(path: Path, *sizes: Any, **more: Any) -> Path:
    """The file, with these sizes of its input."""
    path.write_bytes(graph(sizes or ("N", 3, 4, 4), **more).SerializeToString())
    return path
