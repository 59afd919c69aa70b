"""Export candidates of one topology by one trace: the file of the first is filled with the weights of the others.

Tracing a network takes seconds, and the proposals of a search differ from each other in weights and widths alone. So the file of a traced
network is kept with the origin of each of its tensors, and for the next candidate of the same modules the tensors are made anew:

    a parameter or buffer       as it is, or transposed
    a folded batch norm         computed from the layer and its batch norm, as the exporter does
    a flattening                told to flatten, whatever the number of channels
    anything else               kept

A file with other sizes in it, such as those of a split of channels, is not filled.
Whether that is right is not assumed: the filled file is compared with torch like every exported one. Where it differs, or the runtime
cannot run it, the candidate is traced, and so are all later ones of this topology. What ships is always traced.

Example: the batch norm of conv1, with 64 channels, is folded into the tensors `conv1.weight` and `conv1.weight_bias`. A candidate keeps 40
channels: the weight is scaled by gamma / sqrt(variance + eps) of the 40 that are left, and the file has 40 channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from optimize.backends.export import Parity, compared, export_onnx
from optimize.candidate import Candidate, Floats
from optimize.errors import OptimizeError
from optimize.graph.surgery import with_batch_norms

Values: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = Mapping[str, torch.Tensor]
Origin: TypeAlias = Callable[[nn.Module, Tensors], Values]
"""(network, its parameters and buffers) -> values of one tensor of its file."""
SIZED = ("Reshape", "Expand", "Split", "Slice", "Tile")
"""Kinds of nodes that may hold numbers of channels."""
Topology: TypeAlias = tuple[tuple[str, type], ...]


class Exporter:
    """Exports candidates, each at most once, and traces those of one topology only once where the file can be filled."""

    def __init__(self) -> None:
        self._templates: dict[Topology, Template | None] = {}
        self._traced: list[tuple[Candidate, bytes, Parity]] = []

    def export(self, candidate: Candidate, path: Path, inputs: Floats | None = None) -> Parity:
        """Trace a candidate and write its ONNX file, as `export_onnx` does; a candidate that was traced before is not traced again.

        Args:
            candidate: the model; it is not changed.
            path: file to write; its folder must exist.
            inputs: (N, C, *spatial), what to compare on; seven random inputs when None.
        """
        for earlier, content, parity in self._traced:
            if earlier is candidate:
                path.write_bytes(content)
                return parity
        parity = export_onnx(candidate, path, inputs)
        self._templates.setdefault(_topology(candidate.module), Template(candidate, path))
        # the original is the one that is asked for again
        self._traced = [*self._traced, (candidate, path.read_bytes(), parity)][:1]
        return parity

    def fill(self, candidate: Candidate, path: Path) -> None:
        """Write an ONNX file that computes what the candidate computes, from the file of a candidate of the same topology if there is one.

        Args:
            candidate: the model; it is not changed.
            path: file to write; its folder must exist.
        """
        topology = _topology(candidate.module)
        template = self._templates.get(topology)
        if template is None or not template.fill(candidate, path):
            if template is not None:
                self._templates[topology] = None
            self.export(candidate, path)


class Template:
    """The file of a traced network, with the origin of each of its tensors.

    Args:
        candidate: the network that was traced.
        path: its ONNX file.
    """

    def __init__(self, candidate: Candidate, path: Path) -> None:
        import onnx
        from onnx.numpy_helper import to_array

        self._model = onnx.load(path)
        module = with_batch_norms(candidate.module)
        tensors = module.state_dict()
        self._origins: dict[str, Origin] = {}
        for stored in self._model.graph.initializer:
            values = to_array(stored)
            for origin in _origins(module, tensors, stored.name, values.shape):
                if _same(origin(module, tensors), values):
                    self._origins[stored.name] = origin
                    break
        self._fillable = _flatten_freely(self._model.graph)
        # widths of tensors between the nodes, which the runtime infers by itself
        del self._model.graph.value_info[:]

    def fill(self, candidate: Candidate, path: Path) -> bool:
        """Write the file of a candidate of this topology; return whether it computes what torch computes."""
        import onnx
        from onnx.numpy_helper import from_array

        if not self._fillable:
            return False
        module = with_batch_norms(candidate.module)
        tensors, layers = module.state_dict(), dict(module.named_modules())
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        try:
            for stored in model.graph.initializer:
                if origin := self._origins.get(stored.name):
                    stored.CopyFrom(from_array(np.ascontiguousarray(origin(module, tensors)), stored.name))
            for node in model.graph.node:
                layer = layers.get(node.name.partition("#")[0])
                for attribute in node.attribute:
                    if attribute.name == "group" and isinstance(layer, _ConvNd):
                        attribute.i = layer.groups
            path.write_bytes(model.SerializeToString())
            return compared(candidate, path)[1]
        except (OptimizeError, RuntimeError, ValueError):  # widths that another network's file does not allow
            return False


def _topology(module: nn.Module) -> Topology:
    return tuple((name, type(layer)) for name, layer in module.named_modules())


def _origins(network: nn.Module, tensors: Tensors, name: str, shape: tuple[int, ...]) -> Iterator[Origin]:
    """Yield where a tensor of the file may come from, the likeliest first.

    Args:
        network: the network that was traced.
        tensors: its parameters and buffers.
        name: name of the tensor in the file.
        shape: shape of the tensor in the file.
    """
    # a counter of batches, a whole number, is in no file
    floats = [key for key, tensor in tensors.items() if tensor.is_floating_point()]
    for key in sorted(floats, key=lambda key: key != name):
        if tuple(tensors[key].shape) == shape:
            yield lambda _, tensors, key=key: _array(tensors[key])  # type: ignore[misc]
        if tuple(tensors[key].shape)[::-1] == shape:
            yield lambda _, tensors, key=key: _array(tensors[key]).T  # type: ignore[misc]
    layer_name, _, kind = name.rpartition(".")
    layers = dict(network.named_modules())
    if kind in ("weight", "bias", "weight_bias") and isinstance(layers.get(layer_name), (_ConvNd, nn.Linear)):
        place = list(layers).index(layer_name)
        # as a rule the batch norm is the next module
        for norm_name in [*list(layers)[place:], *list(layers)[:place]]:
            if isinstance(layers[norm_name], _BatchNorm) and getattr(layers[norm_name], "running_mean", None) is not None:
                yield lambda network, _, norm_name=norm_name: _folded(network, layer_name, norm_name, kind)  # type: ignore[misc]


def _folded(network: nn.Module, layer_name: str, norm_name: str, kind: str) -> Values:
    """Return the weight or bias of a layer that its batch norm was folded into."""
    layer, norm = network.get_submodule(layer_name), cast(_BatchNorm, network.get_submodule(norm_name))
    assert isinstance(layer, (_ConvNd, nn.Linear))
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if norm.num_features != outputs:
        return np.zeros(0)
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)  # type: ignore[arg-type]
    else:
        transposed = isinstance(layer, _ConvTransposeNd)
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, transpose=transposed)  # type: ignore[arg-type]
    return _array(weight if kind == "weight" else bias)


def _array(tensor: torch.Tensor) -> Values:
    return np.asarray(tensor.detach().cpu())


def _same(made: Values, stored: Values) -> bool:
    return made.shape == stored.shape and bool(np.allclose(made, stored, rtol=1e-4, atol=1e-6))


def _flatten_freely(graph: Any) -> bool:
    """Let each reshape to (batch, K) take K from what it reads; return whether no other number in the file depends on the widths.

    Example: the shape (-1, 2048) of a flattening becomes (0, -1), which is the same for 2048 features: 0 stands for the size of the input.
    """
    from onnx.numpy_helper import from_array, to_array

    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in SIZED and not (node.op_type == "Reshape" and node.input[1] in stored):
            return False
        if node.op_type != "Reshape":
            continue
        target = to_array(stored[node.input[1]])
        if len(target) != 2 or target[0] not in (-1, 0):
            return False
        stored[node.input[1]].CopyFrom(from_array(np.array([0, -1], dtype=np.int64), node.input[1]))
        # with this attribute a 0 would be the size 0
        for attribute in [attribute for attribute in node.attribute if attribute.name == "allowzero"]:
            node.attribute.remove(attribute)
    return True
