"""Layers that were kept in float run in float, and all others in int8, in the compiled model; names say which layer each node is.

The oracles are the runtimes' own words: the kernels that OpenVINO's plugin names, and the kinds of the nodes in the graph that ONNX Runtime
writes out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optimize.backends import Backend, backend, cpu_target_names
from optimize.backends.export import export_onnx
from optimize.backends.weighted_nodes import with_weights
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError, TargetUnavailable

onnx = pytest.importorskip("onnx")


class Decoder(nn.Module):
    """Ends in two transposed convolutions, the last of which gives the output; (N, 1, 8, 8) -> (N, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.lin = nn.Conv2d(1, 8, 3, 2, 1), nn.Linear(8 * 16, 8 * 4)
        self.t1, self.t2 = nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ConvTranspose2d(8, 1, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.lin(torch.relu(self.down(x)).flatten(1))).view(-1, 8, 2, 2)
        return torch.as_tensor(self.t2(torch.relu(self.t1(x))))


class Gates(nn.Module):
    """A gate behind Hardswish, for which ONNX Runtime has no kernel; (N, 1, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.gate, self.head = (
            nn.Conv2d(1, 16, 3, padding=1),
            nn.Conv2d(16, 8, 1),
            nn.Conv2d(8, 16, 1),
            nn.Linear(16, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        gate = self.gate(F.hardswish(self.squeeze(F.adaptive_avg_pool2d(x, (8, 1))))).sigmoid()
        return torch.as_tensor(self.head((x * gate).mean((2, 3))))


class Tokens(nn.Module):
    """Matrix products on three axes, with and without bias, one used twice; (N, 1, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.twice = nn.Conv2d(1, 16, 4, 4), nn.LayerNorm(16), nn.Linear(16, 16)
        self.free, self.head = nn.Linear(16, 16, bias=False), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        x = torch.relu(self.twice(torch.relu(self.twice(x)))) + torch.relu(self.free(x))
        return torch.as_tensor(self.head(x.mean(1)))


class Computed(nn.Module):
    """Functional layers whose weights are computed, and one module under the name the exporter would give another node."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled, self.node_relu, self.head = nn.Parameter(torch.randn(8, 1, 3, 3)), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(F.conv2d(x, self.scaled / self.scaled.square().sum().sqrt(), padding=1))
        x = torch.relu(self.node_relu(x))
        x = F.conv2d(x, self.node_relu.weight * 0.5, padding=1)
        return torch.as_tensor(self.head(x.mean((2, 3))))


NETS = (Decoder, Gates, Tokens, Computed)
INTEGER_KINDS = ("QLinear", "QGemm", "MatMulInteger")


@pytest.fixture(scope="module", params=cpu_target_names())
def runtime(request: pytest.FixtureRequest) -> Backend:
    try:
        backend(request.param).preflight()
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    return backend(request.param)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nets")
    for net in NETS:
        torch.manual_seed(0)
        export_onnx(Candidate(net().eval(), torch.randn(1, 1, 8, 8)), folder / f"{net.__name__}.onnx")
    return {net.__name__: folder / f"{net.__name__}.onnx" for net in NETS}


@pytest.fixture(scope="module")
def calibration() -> Floats:
    return np.random.default_rng(0).standard_normal((4, 1, 8, 8), dtype=np.float32)


def products_in_float(runtime: Backend, session: Any, scratch: Path) -> int:
    """How many kernels with weights run in float, by the runtime's own words; nothing of this goes through `inspect`."""
    if runtime.NAME == "openvino":
        told = [node.get_rt_info() for node in session.handle.get_runtime_model().get_ordered_ops()]
        kinds = ("Convolution", "Deconvolution", "FullyConnected")
        return sum(each["layerType"].astype(str) in kinds and each["runtimePrecision"].astype(str) == "f32" for each in told)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(scratch / "optimized.onnx"), 3
    onnxruntime.InferenceSession(session.handle.main, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(scratch / "optimized.onnx").graph
    stored = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if any(kind in node.op_type for kind in ("Conv", "Gemm", "MatMul"))]
    return sum(node.input[1] in stored and not node.op_type.startswith(INTEGER_KINDS) for node in products)


@pytest.mark.parametrize("net", [net.__name__ for net in NETS])
@pytest.mark.parametrize("choose", [lambda layers: (), lambda layers: layers[::2], lambda layers: layers[-1:], lambda layers: layers])
def test_what_is_kept_runs_in_float_and_nothing_else(
    net: str,
    choose: Callable[[list[str]], Collection[str]],
    runtime: Backend,
    exported: dict[str, Path],
    calibration: Floats,
    tmp_path: Path,
) -> None:
    layers = sorted(with_weights(exported[net]))
    keep = choose(layers)
    # ONNX Runtime has no integer kernel for a transposed convolution.
    floats = {*keep, *(("t1", "t2") if net == "Decoder" and runtime.NAME == "onnxruntime" else ())}
    artifact = runtime.quantize(exported[net], tmp_path / "int8", calibration, ignored_layers=keep)
    with runtime.build(artifact, threads=1) as session:
        ran = runtime.inspect(session)
        assert products_in_float(runtime, session, tmp_path) == len(floats)
    assert {layer: ran.get(layer) for layer in layers} == {layer: "f32" if layer in floats else "int8" for layer in layers}
    assert all(ran)
    assert set(runtime.time_layers(artifact, calibration[:1], threads=1, seconds=0, min_rounds=2)) == set(ran)


def test_every_layer_has_a_name_of_its_own_and_a_float_one_hides_behind_none(
    exported: dict[str, Path], calibration: Floats, tmp_path: Path
) -> None:
    """Hardswish becomes a HardSigmoid in float and an integer product, neither of which the runtime gives a name."""
    runtime = pytest.importorskip("optimize.backends.targets.onnxruntime")
    pytest.importorskip("onnxruntime")
    artifact = runtime.quantize(exported["Gates"], tmp_path, calibration)
    (hardswish,) = [node.name for node in onnx.load(exported["Gates"]).graph.node if node.op_type == "HardSwish"]
    with runtime.build(artifact, threads=1) as session:
        ran = runtime.inspect(session)
    assert (ran[hardswish], ran[f"{hardswish}/HardSigmoid"]) == ("int8", "f32")
    names = [node.name for node in onnx.load(artifact.main).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_an_activation_without_a_kernel_stays_in_float_as_a_whole(exported: dict[str, Path], calibration: Floats, tmp_path: Path) -> None:
    runtime = pytest.importorskip("optimize.backends.targets.onnxruntime")
    pytest.importorskip("onnxruntime")
    (hardswish,) = [node.name for node in onnx.load(exported["Gates"]).graph.node if node.op_type == "HardSwish"]
    artifact = runtime.quantize(exported["Gates"], tmp_path, calibration, ignored_layers=[hardswish])
    with runtime.build(artifact, threads=1) as session:
        ran = runtime.inspect(session)
    assert {precision for layer, precision in ran.items() if layer.startswith(hardswish)} == {"f32"}


def test_a_layer_that_is_not_there_is_named(runtime: Backend, exported: dict[str, Path], calibration: Floats, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`ignored_layers` \(='t3'\) is no layer of the model: name nodes of the ONNX file"):
        runtime.quantize(exported["Decoder"], tmp_path, calibration, ignored_layers=["t3"])


def test_exported_nodes_have_names_of_their_own(exported: dict[str, Path]) -> None:
    for path in exported.values():
        names = [node.name for node in onnx.load(path).graph.node]
        assert all(names)
        assert len(set(names)) == len(names), path
    assert with_weights(exported["Tokens"]) == {"patches", "twice", "twice#2", "free", "head"}
    computed = with_weights(exported["Computed"])
    assert {"node_relu", "head"} < computed
    assert len(computed) == 4
    (module,) = [node for node in onnx.load(exported["Computed"]).graph.node if node.name == "node_relu"]
    assert module.op_type == "Conv"


def test_a_kept_use_of_shared_weights_is_not_rounded(
    runtime: Backend, exported: dict[str, Path], calibration: Floats, tmp_path: Path
) -> None:
    """Of a layer used twice one use stays in float: somewhere in the file the weights still stand bit by bit."""
    artifact = runtime.quantize(exported["Tokens"], tmp_path, calibration, ignored_layers=["twice#2"])
    torch.manual_seed(0)
    weights = Tokens().twice.weight.detach().numpy()
    stored = b"".join((artifact.folder / file.name).read_bytes() for file in artifact.files)
    assert weights.tobytes() in stored or np.ascontiguousarray(weights.T).tobytes() in stored


@pytest.mark.parametrize("name", ["a/b", "a,b", "a%2Fb", "cls_token_1_proj", "Convolution_1", "a@b", "été"])
def test_any_name_of_a_layer_comes_back(
    name: str, runtime: Backend, exported: dict[str, Path], calibration: Floats, tmp_path: Path
) -> None:
    model = onnx.load(exported["Decoder"])
    for node in model.graph.node:
        if node.name == "t1":
            node.name = name
    onnx.save(model, tmp_path / "named.onnx")
    artifact = runtime.quantize(tmp_path / "named.onnx", tmp_path / "int8", calibration, ignored_layers=[name])
    with runtime.build(artifact, threads=1) as session:
        assert runtime.inspect(session)[name] == "f32"
