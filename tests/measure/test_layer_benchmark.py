from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from optimize.backends import backend
from optimize.errors import OptimizeError
from optimize.measure import layer_benchmark
from optimize.measure.layer_benchmark import cell_model, portions, time_cells
from optimize.measure.layers import LayerShape, layer_shapes
from tests.conftest import CPU_TARGETS, require

# One layer each, and (C, *spatial) of its input.
LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (3, 7, 5)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 5, 6)),
    (nn.Conv1d(4, 6, 3, dilation=2, groups=2), (4, 9)),
    (nn.Conv3d(2, 3, 2), (2, 3, 4, 3)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 3, 4)),
    (nn.Linear(5, 3), (5,)),
    (nn.Linear(5, 3), (2, 4, 5)),
]
SHAPES = [shape for layer, size in LAYERS for calls in layer_shapes(layer, torch.randn(1, *size)).values() for shape in calls]


def conv(in_channels: int, out_channels: int, size: int = 8) -> LayerShape:
    return LayerShape("conv", in_channels, out_channels, (size, size), (3, 3), (1, 1), (1, 1), (1, 1))


def by_torch(position: int, layer: nn.Module, size: tuple[int, ...], weights: dict[str, np.ndarray], flat: np.ndarray) -> np.ndarray:
    """What a cell must give: the layer and a ReLU on the cell's part of the input, and of a convolution the first position of that."""
    weight = torch.from_numpy(weights[f"cell{position}.w"].copy())
    layer.weight.data = weight.T if isinstance(layer, nn.Linear) and len(size) > 1 else weight
    layer.bias.data = torch.from_numpy(weights[f"cell{position}.b"].copy())
    part = torch.from_numpy(flat[:, position : position + int(np.prod(size))].copy()).reshape(len(flat), *size)
    with torch.no_grad():
        result = functional.relu(layer(part)).numpy()
    return result if isinstance(layer, nn.Linear) else result[(..., *[slice(1)] * (len(size) - 1))]


def test_each_branch_computes_its_layer() -> None:
    model = cell_model(SHAPES)
    onnx.checker.check_model(model, full_check=True)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    longest = max(int(np.prod(size)) for _, size in LAYERS)
    flat = np.random.default_rng(0).standard_normal((2, longest + len(LAYERS) - 1), dtype=np.float32)
    runtime = pytest.importorskip("onnxruntime")
    given = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"input": flat})
    assert len(given) == len(LAYERS)
    for position, ((layer, size), got) in enumerate(zip(LAYERS, given, strict=True)):
        wanted = by_torch(position, layer, size, weights, flat)
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_the_model_is_as_long_as_it_must_be_and_seeded() -> None:
    model = cell_model([conv(2, 3), conv(4, 3)])
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 4 * 64 + 1
    assert model.opset_import[0].version == 18
    assert model.SerializeToString(deterministic=True) == cell_model([conv(2, 3), conv(4, 3)]).SerializeToString(deterministic=True)


def test_portions_are_in_order_of_work_and_hold_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_benchmark, "_MOST_CELLS", 5)
    shapes = [conv(i, o) for i in range(1, 5) for o in range(1, 5)]
    cut = list(portions(reversed(shapes), batch=1))
    assert [len(portion) for portion in cut] == [5, 5, 5, 1]
    flat = [shape for portion in cut for shape in portion]
    assert set(flat) == set(shapes)
    assert [shape.macs for shape in flat] == sorted(shape.macs for shape in shapes)


def test_portions_keep_to_the_numbers_they_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of 2 -> 3 channels at 8x8 holds 54 weights, twice its 128 inputs and 192 outputs: 502 numbers, or 950 for a batch of two."""
    shapes = [conv(2, 3), conv(64, 64)]
    monkeypatch.setattr(layer_benchmark, "_MOST_NUMBERS", 502 + 9 * 64 * 64 + 3 * 64 * 64)
    assert [len(portion) for portion in portions(shapes, batch=1)] == [2]
    assert [len(portion) for portion in portions(shapes, batch=2)] == [1, 1]
    monkeypatch.setattr(layer_benchmark, "_MOST_NUMBERS", 501 + 9 * 64 * 64 + 3 * 64 * 64)
    assert [len(portion) for portion in portions(shapes, batch=1)] == [1, 1]


class Fake:
    """A runtime that says what it is told to."""

    NAME = "fake"

    def __init__(self, layers: dict[str, float]) -> None:
        self.layers, self.asked = layers, dict[str, Any]()

    def unavailable_reason(self) -> None: ...

    def version(self) -> str:
        return "1.2"

    def convert(self, onnx_file: Any, folder: Any, precision: str) -> str:
        self.asked |= {"nodes": [node.name for node in onnx.load(onnx_file).graph.node], "precision": precision}
        return "artifact"

    def quantize(self, onnx_file: Any, folder: Any, calibration: np.ndarray) -> str:
        self.asked |= {"calibration": calibration.shape, "precision": "int8"}
        return "artifact"

    def time_layers(self, artifact: str, inputs: np.ndarray, **settings: Any) -> dict[str, float]:
        self.asked |= {"inputs": inputs.shape, **settings}
        return self.layers


def test_nodes_of_a_cell_are_added_up_and_the_others_left_out() -> None:
    shapes = [conv(2, 3), conv(4, 3)]
    fake: Any = Fake({"cell1.relu": 0.5, "cell1": 2.0, "cell0.relu": 0.25, "cell0:read": 9.0, "cell0:slice": 9.0, "other": 9.0})
    timed = time_cells(fake, shapes, precision="bf16", threads=2, batch=1)
    assert timed == {shapes[0]: 0.25, shapes[1]: 2.5}
    assert fake.asked["precision"] == "bf16"
    assert fake.asked["inputs"] == (1, 257)
    assert fake.asked["threads"] == 2


def test_int8_is_quantized_on_inputs_of_its_own() -> None:
    fake: Any = Fake({"cell0": 1.0})
    assert time_cells(fake, [conv(2, 3)], precision="int8", threads=None, batch=6) == {conv(2, 3): 1.0}
    assert (fake.asked["calibration"], fake.asked["inputs"]) == ((6, 128), (6, 128))


def test_a_layer_that_the_profiler_does_not_name_is_an_error() -> None:
    fake: Any = Fake({"cell0": 1.0, "cell10": 1.0})
    with pytest.raises(OptimizeError, match=r"the profiler of fake 1.2 does not name the layer 'conv 4->3 k3x3 .* @8x8'"):
        time_cells(fake, [conv(2, 3), conv(4, 3)], precision="f32", threads=None, batch=1)


@pytest.mark.parametrize("target", CPU_TARGETS)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_kind_of_layer_is_timed_by_every_runtime(target: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_benchmark, "SECONDS", 0)
    monkeypatch.setattr(layer_benchmark, "SECONDS_PER_CELL", 0)
    runtime = backend(require(target))
    for precision in runtime.precisions():
        timed = time_cells(runtime, SHAPES, precision=precision, threads=1, batch=batch)
        assert set(timed) == set(SHAPES)
        assert all(0 < taken < 1000 for taken in timed.values())


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_int8_layers_are_timed_too(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_benchmark, "SECONDS", 0)
    monkeypatch.setattr(layer_benchmark, "SECONDS_PER_CELL", 0)
    timed = time_cells(backend(require(target)), [conv(8, 8), conv(8, 16)], precision="int8", threads=1, batch=1)
    assert min(timed.values()) > 0


