"""Nodes of an ONNX graph that have weights: the ones that int8 quantizes, and that a claim of int8 is about."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Kinds of nodes that multiply with weights."""

_RANDOM = {"RandomNormal", "RandomUniform"}


def constants(graph: Any) -> set[str]:
    """Return the names of the tensors that are the same at every call: stored ones, and what is computed from nothing else."""
    names = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in _RANDOM and all(name in names for name in node.input if name):
            names.update(node.output)
    return names


def weight_of(node: Any, constant: Collection[str]) -> str | None:
    """Return the tensor of a node's weights; None where it has none. A product of two matrices may have them on either side."""
    if node.op_type not in WEIGHTED or len(node.input) < 2:
        return None
    # Both sides constant is a constant, neither is a product of two activations (attention); weights are on exactly one side.
    sides = [name in constant for name in node.input[:2]]
    if sides[1] and not sides[0]:
        return str(node.input[1])
    return str(node.input[0]) if sides[0] and not sides[1] and node.op_type in ("Gemm", "MatMul") else None


def with_weights(onnx: Path) -> set[str]:
    """Return the names of the ONNX file's nodes that have weights."""
    import onnx as onnx_format

    graph = onnx_format.load(onnx, load_external_data=False).graph
    constant = constants(graph)
    return {node.name for node in graph.node if weight_of(node, constant) is not None}
