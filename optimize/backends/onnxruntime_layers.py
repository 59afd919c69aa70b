"""Match the nodes of the graph that ONNX Runtime optimized with the layers of the ONNX file, and read the precision they run in.

The optimizer fuses nodes, renames some after their result, and replaces an operation that it has no kernel for by several nodes without a
name. The names of tensors survive all that. So a node is identified by its name where the file has it, else by the tensor that it is named
after or gives, else by the tensors that it reads. No two nodes of the graph get the same name.

Worked example: the file has Conv "stem.0" -> "t1" and Relu "r" -> "t2". The optimizer fuses them into one node "fused r" that gives "t2".
`owners` knows that "t2" belongs to "stem.0", because a Relu is fused into the layer before it; so the node is reported as "stem.0".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from optimize.backends.weighted_nodes import WEIGHTED, constants, weight_of

MOVERS = {"QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Flatten", "Shape", "ReorderInput", "ReorderOutput"}
"""Kinds of nodes of the optimized graph that move or convert numbers instead of computing them."""
_COUNTER = re.compile(r"_token_\d+$")
_ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
# What the optimizer fuses into a layer with weights.
_FUSED = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Add"}
# Integer kernels whose result is float again.
_BACK_TO_FLOAT = {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DequantizeLinear"}


@dataclass(frozen=True)
class GraphNode:
    """One node of the optimized graph.

    Args:
        kind: name of its operation.
        layer: the layer that it executes; empty for a node that only moves or converts numbers.
        precision: "f32" or "int8".
    """

    kind: str
    layer: str
    precision: str


def executed(optimized: Any, file: Any) -> list[GraphNode]:
    """Return the nodes of the graph as ONNX Runtime optimized it, in its order.

    Args:
        optimized: graph that the runtime wrote.
        file: graph of the artifact.
    """
    runs = _integer(optimized)
    names = _Names(file, optimized)
    layers: dict[int, str] = {}
    # layers with weights choose their names first; helpers take what is left
    for weighted in (True, False):
        for place, node in enumerate(optimized.node):
            if node.op_type not in MOVERS and _multiplies(node) == weighted:
                layers[place] = names.name(node)
    nodes = optimized.node
    return [GraphNode(node.op_type, layers.get(place, ""), "int8" if runs[place] else "f32") for place, node in enumerate(nodes)]


def owners(graph: Any) -> dict[str, str]:
    """Return tensor -> the layer with weights that makes it, through what the optimizer fuses into a layer."""
    constant = constants(graph)
    owner_of: dict[str, str] = {}
    for node in graph.node:
        if weight_of(node, constant) is not None:
            owner_of[node.output[0]] = node.name
        elif node.op_type in _FUSED:
            sources = [owner_of[name] for name in node.input if name in owner_of]
            # a sum is fused into the later of its layers: the earlier one's result has to be finished by then
            owner_of.update({node.output[0]: sources[-1]} if sources else {})
    return owner_of


def renamed(prepared: Any, graph: Any) -> list[tuple[Any, str]]:
    """Name each node of a graph after the node of another that it was made of; returns them with the name of that one.

    Args:
        prepared: graph; nodes without a name of the other graph get one, which no other node has.
        graph: the one it was made of.
    """
    by_weights, makers = owners(graph), _makers(graph)
    names = {node.name for node in graph.node}
    nodes: list[tuple[Any, str]] = []
    readers: dict[str, list[str]] = {}
    # from back to front, so that what reads a nameless node is known when the node is reached
    for node in reversed(prepared.node):
        of_tensors = by_weights if node.op_type in WEIGHTED else makers
        owners_of_outputs = [of_tensors[tensor] for tensor in node.output if tensor in of_tensors]
        # What gives no tensor of the other graph is a part of what reads it.
        read_by = [layer for tensor in node.output for layer in readers.get(tensor, [])]
        layer = node.name if node.name in names else (owners_of_outputs or read_by or [node.name])[0]
        nodes.append((node, layer))
        for tensor in node.input:
            readers.setdefault(tensor, []).append(layer)
    taken = {node.name for node, layer in nodes if node.name == layer}
    for node, layer in nodes:
        if node.name != layer or not node.name:
            node.name = next(name for name in _spellings(layer or node.op_type, node.op_type) if name not in taken)
            taken.add(node.name)
    return nodes


def _spellings(layer: str, kind: str) -> Iterator[str]:
    yield layer
    yield f"{layer}/{kind}"
    yield from (f"{layer}/{kind}#{number}" for number in count(2))


def plain_name(name: str) -> str:
    """Return a node's name without the marks that the optimizer adds."""
    return _COUNTER.sub("", name.removeprefix("fused ")).removesuffix("_nchwc").removesuffix("_pre_q")


def _multiplies(node: Any) -> bool:
    return any(kind in node.op_type for kind in WEIGHTED)


def _integer(graph: Any) -> list[bool]:
    """Return whether each node runs in integers, by following the element type through the graph: what its first input is, it runs in."""
    integer = {tensor.name for tensor in graph.initializer if tensor.data_type in (2, 3)}  # UINT8, INT8
    runs = []
    for node in graph.node:
        runs.append(node.op_type.startswith("QLinear") or (bool(node.input) and node.input[0] in integer))
        # QGemm gives floats unless its ninth input, the zero point of the result, is there.
        floats = node.op_type in _BACK_TO_FLOAT or (node.op_type == "QGemm" and not any(node.input[8:]))
        if node.op_type == "QuantizeLinear" or (runs[-1] and not floats):
            integer.update(node.output)
    return runs


class _Names:
    """Names for the nodes of one optimized graph, each given once."""

    def __init__(self, file: Any, optimized: Any) -> None:
        self._owners, self._makers = owners(file), _makers(file)
        self._readers = {maker: list(_reading(file, maker, self._makers)) for maker in set(self._makers.values())}
        self._names_in_file = {node.name for node in file.node if node.name and node.op_type not in _ROUNDING}
        self._names_left = {plain_name(node.name) for node in optimized.node}
        self._made_by = {tensor: node for node in optimized.node for tensor in node.output}
        self._layers: dict[str, str] = {}  # of the optimized graph: tensor -> the layer that gives it
        self._taken: set[str] = set()

    def name(self, node: Any) -> str:
        layer = self._layer(node)
        name = next(spelling for spelling in _spellings(layer, node.op_type) if spelling not in self._taken)
        self._taken.add(name)
        self._layers.update(dict.fromkeys(node.output, layer))
        return name

    def _layer(self, node: Any) -> str:
        plain = plain_name(node.name)
        if plain in self._names_in_file:
            return plain
        for tensor in (plain, *map(plain_name, node.output)):
            if tensor in self._owners or tensor in self._makers:
                return self._owners.get(tensor) or self._makers[tensor]
        return self._part(node) or plain or str(node.op_type)

    def _part(self, node: Any) -> str:
        """Return the operation of the file that a nameless node is a part of: one that the graph no longer has, and that reads the same."""
        for tensor in node.input:
            maker = self._source(tensor)
            if maker in self._names_in_file:
                # of the nodes that read the same tensor in the file, one that is still in the graph cannot be what this part came from
                gone = [reader for reader in self._readers.get(maker, []) if reader not in self._names_left]
                return next(iter(gone), maker)
        return ""

    def _source(self, tensor: str) -> str:
        """Return the layer that gives a tensor of the optimized graph, past what only moves or converts it."""
        while (node := self._made_by.get(tensor)) is not None and node.op_type in MOVERS:
            tensor = node.input[0]
        if tensor in self._layers:
            return self._layers[tensor]
        return "" if node is None else plain_name(node.name)


def _makers(graph: Any) -> dict[str, str]:
    """Return tensor -> the node that makes it, past what rounds it; nodes without a name are called after what they give."""
    makers: dict[str, str] = {}
    for node in graph.node:
        own = node.name or (node.output[0] if node.output else "")
        source = makers.get(node.input[0]) if node.op_type in _ROUNDING and node.input else own
        makers.update({tensor: source for tensor in node.output if tensor and source})
    return makers


def _reading(graph: Any, maker: str, makers: Mapping[str, str]) -> Iterator[str]:
    for node in graph.node:
        if node.op_type not in _ROUNDING and node.name and any(makers.get(tensor) == maker for tensor in node.input):
            yield node.name
