"""Constants of an ONNX file, and what is computed from constants alone: that is computed once, while the network is built."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch

from optimize.errors import InputError

MAX_FOLDED = 2**26
"""Most values of a constant that a file has computed: a few bytes can ask for any number of them."""
MANY_AXES = 64
"""Numbers of a constant that may still be the sizes of a tensor."""


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a constant of a file as a tensor."""
    # half and double precision become single, as everywhere else
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype))


def folded(node: Any, given: Mapping[str, torch.Tensor], opset: int) -> list[torch.Tensor]:
    """Return the outputs of a node whose inputs are all constants, by ONNX's own reference.

    Raises:
        InputError: when one would have more than `MAX_FOLDED` values.
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
            rule = f"gives {size:,} values, and at most {MAX_FOLDED:,} are computed"
            raise InputError(f"`model` has a {node.op_type} that {rule}: export it again.")
    parts = ReferenceEvaluator(helper.make_graph([node], "constant", known, outputs), opsets={"": opset}).run(None, arrays)
    return [as_tensor(np.asarray(part)) for part in parts]


def for_any_batch(constant: torch.Tensor, batch: int) -> torch.Tensor:
    """Return a constant of floats that is the same for every image of the trial, such as a class token, as that of one image."""
    several = constant.dim() > 1 and constant.shape[0] == batch > 1 and constant.is_floating_point()
    return constant[:1].clone() if several and bool((constant == constant[:1]).all()) else constant
