"""Write into the name of every operation of an OpenVINO model which layer of the ONNX file it belongs to.

OpenVINO makes several operations of one ONNX node, and names some of them from a counter: a transposed convolution became
"ConvolutionBackpropData_49", and the sum with its bias was named after the network's output. The names of tensors are reliable: the last
operation of a node gives the tensor that the node gives, and the others lie before it. So an operation is named `<node>/<kind>`, and
`<node>/<kind>@<layer>` where it continues what a layer with weights gave. Such a name survives saving, quantizing and fusing. It says for
every executed node which layers it executes.

Worked example: node "up" of the file, a ConvTranspose with a bias, becomes the operations "up/ConvolutionBackpropData" and "up/Add".
A Relu "act" behind it becomes "act/Relu@up".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote, unquote

from optimize.backends.weighted_nodes import constants, weight_of

_PRODUCTS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
"""Kinds of operations that multiply with weights, in a model."""
_PRODUCT_KERNELS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "BinaryConvolution"}
"""Names of such operations in a model that the CPU plugin compiled."""
# The compiled graph's nodes that hold or move numbers instead of computing them.
_MOVERS = {"Const", "Input", "Output", "Reorder", "Reshape", "Transpose", "FakeQuantize", "ShapeOf"}
_UNNAMED = {"Parameter", "Result", "Constant"}
_NAME = re.compile(r"([^/]+)/([A-Z]\w*(?:#\d+)?)(?:@([^/]*))?(/.*)?")
MADE_UP = re.compile(r"[A-Z][A-Za-z]+_\d+")
"""A name OpenVINO makes up: the operation, and a counter that runs on through the life of the process."""
_SAFE = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%,/")


def name_operations(model: Any, graph: Any) -> None:
    """Name each operation after the ONNX node that it was made of, and its kind.

    Args:
        model: OpenVINO's, as read from the ONNX file; its operations are renamed.
        graph: graph of the ONNX file.
    """
    makers = _makers(graph)
    operations = [operation for operation in model.get_ordered_ops() if operation.get_type_name() not in _UNNAMED]
    owners: dict[str, str] = {}
    # from back to front: an operation without a tensor of the file takes the owner of what reads it, which must be known
    for operation in reversed(operations):
        made = [makers[name] for output in operation.outputs() for name in output.get_names() if name in makers]
        # What gives no tensor of the file was made for what reads it.
        read_by = [owners[name] for name in _readers(operation) if name in owners]
        owners[operation.get_friendly_name()] = max(made)[-1] if made else (read_by or [operation.get_friendly_name()])[0]
    behind = _behind(operations, owners, {name for weighted, _, name in makers.values() if weighted})
    uses: Counter[str] = Counter()
    named = []
    for operation in operations:
        old_name = operation.get_friendly_name()
        name = f"{quote(owners[old_name], safe=_SAFE)}/{operation.get_type_name()}"
        uses[name] += 1
        number = "" if uses[name] == 1 else f"#{uses[name]}"
        layer = behind.get(old_name, owners[old_name])
        named.append((operation, name + number + ("" if layer == owners[old_name] else f"@{quote(layer, safe=_SAFE)}")))
    # renamed only now: the maps above are by the old names
    for operation, name in named:
        operation.set_friendly_name(name)


def _behind(operations: Sequence[Any], owners: Mapping[str, str], weighted: Collection[str]) -> dict[str, str]:
    """Return operation -> the layer with weights whose result it takes on, past whatever has a single input that is no constant."""
    layer_before: dict[str, str] = {}
    constant: set[str] = set()
    for operation in operations:
        name = operation.get_friendly_name()
        sources = [value.get_source_output().get_node() for value in operation.inputs()]
        varying = {source.get_friendly_name() for source in sources if source.get_type_name() != "Constant"} - constant
        if not varying:
            constant.add(name)
        elif owners[name] in weighted:
            layer_before[name] = owners[name]
        # with two varying inputs (a residual sum) it belongs to neither of the layers in front of it
        elif len(varying) == 1 and (only := min(varying)) in layer_before:
            layer_before[name] = layer_before[only]
    return layer_before


def _makers(graph: Any) -> dict[str, tuple[bool, int, str]]:
    """Return tensor -> (whether it has weights, minus its position, its name) of its maker; of several makers the greatest counts."""
    constant = constants(graph)
    return {
        tensor: (weight_of(node, constant) is not None, -position, node.name or f"{node.op_type}:{position}")
        for position, node in enumerate(graph.node)
        for tensor in node.output
        if tensor
    }


def _readers(operation: Any) -> Iterator[str]:
    for output in operation.outputs():
        for target in output.get_target_inputs():
            yield target.get_node().get_friendly_name()


def operations_of(model: Any, layers: Collection[str]) -> dict[str, list[str]]:
    """Return layer -> names of the operations that it was made into; empty where there is none.

    Args:
        model: OpenVINO's model, whose operations `name_operations` named.
        layers: names of nodes of the ONNX file.
    """
    names: dict[str, list[str]] = {layer: [] for layer in layers}
    for operation in model.get_ordered_ops():
        part = _Part.of(operation.get_friendly_name())
        if part is not None and part.kind and part.layer in names:
            names[part.layer].append(operation.get_friendly_name())
    return names


@dataclass(frozen=True)
class ExecutedNode:
    """One node of a compiled model that computes.

    Args:
        node: its name in the compiled model.
        layers: the layers that it executes; several where the plugin fused them.
        precision: precision in the plugin's words: "f32", "bf16", "u8", "i8".
        rest: whether another node executes what is most of the layer, and this one the rest, such as a sum with a bias that was not fused.
    """

    node: str
    layers: tuple[str, ...]
    precision: str
    rest: bool = False


def executed(compiled: Any) -> list[ExecutedNode]:
    """Return the nodes of a compiled model that compute; no layer stands at two of them, but for the rest of one.

    What multiplies with weights is called after all layers whose products it executes. Any other node is called after the first layer in it
    that no other is called after; where there is none, it is the rest of the first.
    """
    nodes = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        information = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")}
        if information["layerType"] not in _MOVERS:
            name = node.get_friendly_name()
            originals = [original for original in information["originalLayersNames"].split(",") if original] or [name]
            nodes.append((name, information, [part for original in originals if (part := _Part.of(original)) is not None]))
    layers: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    # kernels first: they have the best claim to a layer's name, and a leftover sum or activation must not take it from them
    for kernels in (True, False):
        for name, information, parts in nodes:
            if (information["layerType"] in _PRODUCT_KERNELS) == kernels:
                layers[name] = _named(parts, information["layerType"], taken)
                taken.update(layers[name])
    rests = {name: next((part.layer for part in parts if part.layer in taken), "") for name, _, parts in nodes if not layers[name]}
    return [
        ExecutedNode(name, layers[name] or (rests[name],), information["runtimePrecision"], rest=not layers[name])
        for name, information, _ in nodes
    ]


def _named(parts: Sequence[_Part], layer_type: str, taken: Collection[str]) -> tuple[str, ...]:
    """Return the layers that a node is called after; none where all of them are taken."""
    # a fused kernel may hold two convolutions (a depthwise one behind a pointwise one): it is called after both
    products = tuple(dict.fromkeys(part.layer for part in parts if part.is_product and part.layer not in taken))
    helpers = [part for part in parts if not part.is_product]
    if layer_type in _PRODUCT_KERNELS:
        # The plugin forgets the product where it keeps the sum with the bias; the sum tells what it lies behind.
        behind = next((part.behind or part.layer for part in helpers), None)
        if products or (behind is not None and behind not in taken):
            return products or (str(behind),)
    first = next((part.layer for part in helpers if not part.derived and part.layer not in taken), None)
    if first is None and not products and not any(part.layer in taken for part in parts):
        first = _free(next((part.layer for part in parts), layer_type), taken)
    # Products in a node of another kind, as where a whole block is one, are layers that are executed nowhere else.
    return (*(() if first is None else (first,)), *products)


def _free(name: str, taken: Collection[str]) -> str:
    return next(spelling for number in count(1) if (spelling := name if number == 1 else f"{name}#{number}") not in taken)


@dataclass(frozen=True)
class _Part:
    """The parts of an operation's name.

    Args:
        layer: name of a node of the ONNX file.
        kind: kind of the operation, with what the plugin or a quantizer put behind it; empty for a name of another maker.
        behind: the layer with weights that it takes on; empty where it is `layer` or there is none.
    """

    layer: str
    kind: str = ""
    behind: str = ""

    @classmethod
    def of(cls, name: str) -> _Part | None:
        """Read a name; None for one that OpenVINO made up."""
        if MADE_UP.fullmatch(name):
            return None
        match = _NAME.fullmatch(name)
        if match is None:
            return cls(name)
        layer, kind, behind, rest = match.groups(default="")
        return cls(unquote(layer), kind + rest, unquote(behind))

    @property
    def derived(self) -> bool:
        """Whether it is not the operation itself, but something made of it."""
        return "/" in self.kind

    @property
    def is_product(self) -> bool:
        """Whether it multiplies with weights; what is taken off it for an integer kernel stands for it."""
        first, _, rest = self.kind.partition("/")
        return first.split("#")[0] in _PRODUCTS and (not rest or rest.startswith("Dequantization"))
