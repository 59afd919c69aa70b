"""Time many layers at once, each as it runs inside a network.

One model holds a branch for each layer: a slice of the one input, reshaped to what the layer reads; the layer with its bias and a ReLU; and
a reader that takes one position of the result, so that the runtime leaves the result in the layout it likes best, as it does between two
layers of a network. The runtime's own profiler then tells what each node took. So one compilation serves dozens of layers, the cost of
a call and of its inputs and outputs is in none of the figures, and all layers take turns: every run of the model is one round.

Each branch slices at another offset, else the runtime would share the slice and a layer's input would no longer be fresh in the cache.
What a layer finds in the caches decides too: one with many weights takes three times as long when they have to come from memory. So a model
holds only as much as a small network does, and layers that do similar work.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.errors import OptimizeError
from optimize.measure.layers import LayerShape

if TYPE_CHECKING:
    from optimize.backends import Backend
    from optimize.candidate import Floats

SECONDS = 0.06
SECONDS_PER_CELL = 0.003
MIN_ROUNDS = 16
_OPSET, _IR = 18, 10
_MOST_CELLS = 48
_MOST_NUMBERS = 500_000  # 2 MB, as in a small network
_POOL = 1 << 16
_CALIBRATION = 4


def time_cells(
    runtime: Backend, shapes: Sequence[LayerShape], *, precision: str, threads: int | None, batch: int
) -> dict[LayerShape, float]:
    """Return the milliseconds of each layer on this machine, timed together.

    Args:
        runtime: backend that compiles and profiles.
        shapes: layers to time, one of the `portions`.
        precision: "f32", "bf16" or "int8", as the backend offers it.
        threads: number of threads, as in `build`.
        batch: number of inputs in one call.

    Raises:
        OptimizeError: when the runtime's profiler does not name a layer.
    """
    model = cell_model(shapes)
    length = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    inputs = np.random.default_rng(1).standard_normal((max(batch, _CALIBRATION), length), dtype=np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        onnx, made = Path(scratch) / "cells.onnx", Path(scratch) / precision
        onnx.write_bytes(model.SerializeToString())
        artifact = runtime.quantize(onnx, made, inputs) if precision == "int8" else runtime.convert(onnx, made, precision)
        seconds = max(SECONDS, SECONDS_PER_CELL * len(shapes))
        layers = runtime.time_layers(artifact, inputs[:batch], threads=threads, seconds=seconds, min_rounds=MIN_ROUNDS)
    cells = cell_ms(layers)
    missing = next((shape for position, shape in enumerate(shapes) if f"cell{position}" not in cells), None)
    if missing is not None:
        profiler = f"the profiler of {runtime.NAME} {runtime.version()}"
        raise OptimizeError(f"{profiler} does not name the layer '{missing}': use the version in constraints.txt.")
    return {shape: cells[f"cell{position}"] for position, shape in enumerate(shapes)}


def cell_ms(layers: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds of the k-th cell, as `cellk`, from the milliseconds of every node of a `cell_model`."""
    cells: dict[str, float] = {}
    for name, ms in layers.items():
        cell = name.partition(".")[0]
        cells[cell] = cells.get(cell, 0.0) + ms
    return cells


def portions(shapes: Iterable[LayerShape], batch: int) -> Iterator[list[LayerShape]]:
    """Yield the shapes in order of their MACs, cut where a model would hold too many of them, or too many numbers."""
    portion: list[LayerShape] = []
    numbers = 0
    # similar layers together: beside one that takes milliseconds, a profiler that counts microseconds shows little of a small one
    for shape in sorted(shapes, key=lambda shape: (shape.macs, str(shape))):
        # a layer's input is held twice, once as the slice and once reshaped
        size = shape.weights + batch * (2 * _numbers_in(shape) + shape.out_channels * math.prod(shape.output))
        if portion and (len(portion) == _MOST_CELLS or numbers + size > _MOST_NUMBERS):
            yield portion
            portion, numbers = [], 0
        portion.append(shape)
        numbers += size
    if portion:
        yield portion


def cell_model(shapes: Sequence[LayerShape]) -> Any:
    """Return an ONNX model with a branch for each shape; the nodes of the k-th are called `cellk` or `cellk.…`.

    The one input is (N, L), long enough for the largest layer; weights are random and seeded.
    """
    from onnx import TensorProto, helper

    pool = np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)
    branches = [_Branch(position, shape, pool) for position, shape in enumerate(shapes)]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("N", max(map(_numbers_in, shapes)) + len(shapes) - 1))]
    outputs = [helper.make_tensor_value_info(branch.last, TensorProto.FLOAT, ("N", *branch.result)) for branch in branches]
    nodes = [node for branch in branches for node in branch.nodes]
    weights = [tensor for branch in branches for tensor in branch.weights]
    graph = helper.make_graph(nodes, "cells", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


class _Branch:
    """The nodes and weights of one cell. Each node has the name of its result, since runtimes name fused nodes by either."""

    def __init__(self, position: int, shape: LayerShape, pool: Floats) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = "input"
        self._cell, self._pool = f"cell{position}", pool
        self._input(position, shape)
        (self._linear if shape.kind == "linear" else self._convolution)(shape)
        self._add("Relu", ".relu")
        self.result: tuple[int, ...] = (*shape.spatial, shape.out_channels)
        if shape.kind != "linear":
            # a stride as large as the map: one position is read, at next to no cost, and the layer's result may keep the layout of the
            # kernels
            self._add("MaxPool", ":read", kernel_shape=(1,) * len(shape.output), strides=shape.output)
            self.result = (shape.out_channels, *(1,) * len(shape.output))

    def _add(self, kind: str, suffix: str, *more: str, **attributes: Any) -> None:
        from onnx import helper

        name = self._cell + suffix
        self.nodes.append(helper.make_node(kind, [self.last, *more], [name], name=name, **attributes))
        self.last = name

    def _hold(self, suffix: str, values: Any) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.asarray(values), self._cell + suffix))
        return self._cell + suffix

    def _random(self, suffix: str, *sizes: int) -> str:
        fan_in = math.prod(sizes[1:])
        # divided by the root of the fan-in, so that results stay about as large as inputs and int8 ranges are ordinary ones
        return self._hold(suffix, np.resize(self._pool, sizes) / np.float32(math.sqrt(fan_in)))

    def _input(self, position: int, shape: LayerShape) -> None:
        # each cell starts one number further along, so that no two slices are the same
        cut = {":from": position, ":to": position + _numbers_in(shape), ":axis": 1}
        self._add("Slice", ":slice", *(self._hold(suffix, np.array([value])) for suffix, value in cut.items()))
        sizes = (*shape.spatial, shape.in_channels) if shape.kind == "linear" else (shape.in_channels, *shape.spatial)
        self._add("Reshape", ":input", self._hold(":sizes", np.array([-1, *sizes])))

    def _linear(self, shape: LayerShape) -> None:
        bias = self._random(".b", shape.out_channels)
        if shape.spatial:
            self._add("MatMul", "", self._random(".w", shape.in_channels, shape.out_channels))
            self._add("Add", ".add", bias)
        else:
            self._add("Gemm", "", self._random(".w", shape.out_channels, shape.in_channels), bias, transB=1)

    def _convolution(self, shape: LayerShape) -> None:
        first, second, kind = shape.out_channels, shape.in_channels, "Conv"
        attributes = {"kernel_shape": shape.kernel, "strides": shape.stride, "pads": shape.padding * 2, "dilations": shape.dilation}
        if shape.kind == "transposed":
            first, second, kind = second, first, "ConvTranspose"
            attributes["output_padding"] = shape.output_padding
        weights = self._random(".w", first, second // shape.groups, *shape.kernel), self._random(".b", shape.out_channels)
        self._add(kind, "", *weights, group=shape.groups, **attributes)


def _numbers_in(shape: LayerShape) -> int:
    return shape.in_channels * math.prod(shape.spatial)
