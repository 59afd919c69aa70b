"""ONNX files as networks: against ONNX Runtime on the same file, at other batches, and cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import optimize as opt
from optimize.backends.export import export_onnx
from optimize.errors import InputError
from optimize.graph.trace import trace
from optimize.loading.file_network import FileNetwork
from optimize.loading.onnx_network import read_onnx
from optimize.loading.onnx_operators import OPERATORS, reshape


class Attends(nn.Module):
    """A class token, attention of two heads and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.attention, self.norm = nn.Linear(8, 24), nn.LayerNorm(8)
        self.hidden, self.out, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)
        parts = self.attention(tokens).reshape(x.shape[0], tokens.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        tokens = tokens + mixed.transpose(1, 2).flatten(2)
        return self.head((tokens + self.out(nn.functional.gelu(self.hidden(self.norm(tokens)))))[:, 0])


class Joined(nn.Module):
    """A concatenation, a residual sum, a resize and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.up = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1), nn.ConvTranspose2d(6, 4, 2, 2)
        self.last = nn.Conv2d(10, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = nn.functional.silu(self.first(x))
        made = first + nn.functional.hardswish(self.second(first))
        large = nn.functional.interpolate(made, scale_factor=2, mode="bilinear")
        return self.last(torch.cat([large, nn.functional.leaky_relu(self.up(made))], 1))


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 4, 6), nn.Sigmoid(), nn.Linear(6, 3))


NETS = {"convolutions": (convolutions, 2), "attention": (Attends, 1), "joined": (Joined, 2)}


def exported(net: nn.Module, path: Path) -> opt.Candidate:
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 2)
    candidate = opt.Candidate(net.eval().requires_grad_(False), torch.randn(1, 3, 12, 12))
    export_onnx(candidate, path, np.random.default_rng(0).standard_normal((2, 3, 12, 12), np.float32))
    return candidate


@pytest.mark.parametrize("name", NETS)
def test_it_computes_what_the_runtime_computes_and_can_be_cut(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    make, groups = NETS[name]
    exported(make(), tmp_path / "net.onnx")
    candidate = opt.load_model(tmp_path / "net.onnx")
    inputs = np.random.default_rng(1).standard_normal((3, 3, 12, 12), np.float32)
    (expected,) = runtime.InferenceSession(tmp_path / "net.onnx").run(None, {candidate_input(tmp_path / "net.onnx"): inputs})
    np.testing.assert_allclose(candidate.predict(inputs), expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    assert len(trace(candidate).groups) == groups
    reference = opt.Reference(candidate, np.random.default_rng(2).standard_normal((64, 3, 12, 12)).astype(np.float32))
    cut = opt.PruneToWidths(tuple((group.name, group.size // 2) for group in trace(candidate).groups))(candidate, reference)
    assert cut.parameters < candidate.parameters
    assert np.isfinite(cut.predict(inputs)).all()


def candidate_input(path: Path) -> str:
    return str(onnx.load(path).graph.input[0].name)


def test_a_reshape_fits_any_batch_and_fewer_channels() -> None:
    assert reshape((2, 8, 4, 4), (2, 128))(torch.zeros(3, 6, 4, 4)).shape == (3, 96)
    assert reshape((2, 50, 192), (2, 50, 3, 64))(torch.zeros(3, 50, 96)).shape == (3, 50, 3, 32)
    assert reshape((2, 8, 4, 4), (2, 2, 4, 4, 4))(torch.zeros(3, 6, 4, 4)).shape == (3, 2, 3, 4, 4)
    assert reshape((10, 4, 7), (5, 2, 4, 7))(torch.zeros(6, 4, 7)).shape == (3, 2, 4, 7), "the batch is in axis 0"


def file_of(
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    path: Path,
    shape: tuple[Any, ...] = ("n", 4),
    out: tuple[Any, ...] = ("n", "k"),
    opset: int = 18,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "made by hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9 if opset > 14 else 6), path)
    return path


def test_a_product_and_a_sum_become_one_linear_layer(tmp_path: Path) -> None:
    weight, bias = np.arange(12, dtype=np.float32).reshape(4, 3), np.float32([1, 2, 3])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    net = read_onnx(file_of(nodes, {"w": weight, "b": bias}, tmp_path / "net.onnx"))
    (layer,) = net.children()
    assert isinstance(layer, nn.Linear)
    inputs = torch.randn(3, 4)
    torch.testing.assert_close(net(inputs), inputs @ torch.from_numpy(weight) + torch.from_numpy(bias))


def test_what_is_computed_from_shapes_is_computed_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.array(0, dtype=np.int64), "axis": np.int64([0]), "rest": np.int64([2, 2])}
    net = read_onnx(file_of(nodes, constants, tmp_path / "net.onnx", out=("n", 2, 2)))
    assert net(torch.zeros(7, 4)).shape == (7, 2, 2)


@pytest.mark.parametrize(
    ("nodes", "shape", "words"),
    [
        ([helper.make_node("QuantizeLinear", ["x", "w"], ["y"])], ("n", 4), r"is quantized already \(QuantizeLinear\)"),
        ([helper.make_node("Relu", ["x"], ["y"])], ("n", "h"), r"`--input` is missing: `model` \(=.*\) takes inputs of \?; pass --input"),
    ],
)
def test_what_cannot_be_taken_is_named(nodes: list[Any], shape: tuple[Any, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_onnx(file_of(nodes, {"w": np.float32(0.1).reshape(())}, tmp_path / "net.onnx", shape, ("a",) * len(shape)))


@pytest.mark.parametrize(
    ("nodes", "shape", "words"),
    [
        ([helper.make_node("Shrink", ["x"], ["y"])], ("n", 4), r"it has operators that are not rebuilt: Shrink"),
        ([helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Celu", ["c"], ["y"])], ("n", 1, 3, 3), "not rebuilt: Celu"),
        (
            [helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64), helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)],
            *(("n", 4), "Cast i is not rebuilt: a conversion to whole numbers"),
        ),
    ],
)
def test_what_is_not_rebuilt_is_run_as_it_is(nodes: list[Any], shape: tuple[Any, ...], words: str, tmp_path: Path) -> None:
    weight = np.float32([[[[0.5, -2]]]])
    path = file_of(nodes, {"w": weight}, tmp_path / "net.onnx", shape, ("a",) * len(shape))
    net = read_onnx(path)
    assert isinstance(net, FileNetwork)
    assert words in net.notes[0]
    assert "nothing can be cut out of it" in net.notes[0]


def test_a_damaged_file_and_a_needless_factory_are_said(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x09\x12nonsense")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        opt.load_model(tmp_path / "net.onnx")
    good = file_of([helper.make_node("Relu", ["x"], ["y"])], {}, tmp_path / "good.onnx", ("n", 4, 4), ("n", 4, 4))
    (tmp_path / "net.py").write_text("def make():\n    return None\n")
    with pytest.raises(InputError, match="holds a whole network: leave --arch out"):
        opt.load_model(good, arch=f"{tmp_path / 'net.py'}:make")


def test_constants_are_computed_by_the_rules_of_the_files_own_version(tmp_path: Path) -> None:
    # until version 12 the axes of Unsqueeze are an attribute
    nodes = [helper.make_node("Unsqueeze", ["w"], ["row"], axes=[0]), helper.make_node("Add", ["x", "row"], ["y"])]
    net = read_onnx(file_of(nodes, {"w": np.float32([1, 2, 3, 4])}, tmp_path / "net.onnx", opset=11))
    torch.testing.assert_close(net(torch.zeros(3, 4)), torch.tensor([[1.0, 2, 3, 4]] * 3))


def test_a_constant_that_a_few_bytes_make_huge_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0)]
    nodes.append(helper.make_node("Add", ["x", "r"], ["y"]))
    path = file_of(nodes, {"s": np.int64([1 << 20, 1 << 20])}, tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"has a ConstantOfShape that gives 1,099,511,627,776 values"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("node", "constants", "shape", "opset", "words"),
    [
        # a resize of version 10 keeps the corner of the first pixel, one of today the middle of all
        (helper.make_node("Resize", ["x", "s"], ["y"], mode="linear"), {"s": np.float32([1, 1, 2, 2])}, ("n", 1, 4, 4), 10, "asymmetric"),
        (helper.make_node("Softmax", ["x"], ["y"]), {}, ("n", 2, 3), 11, "a softmax over several axes at once"),
    ],
)
def test_what_an_old_version_means_otherwise_is_not_rebuilt(
    node: Any, constants: dict[str, np.ndarray], shape: tuple[Any, ...], opset: int, words: str, tmp_path: Path
) -> None:
    net = read_onnx(file_of([node], constants, tmp_path / "net.onnx", shape, ("a",) * len(shape), opset))
    assert isinstance(net, FileNetwork)
    assert words in net.notes[0]


def test_a_network_that_computes_something_else_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "Relu", lambda trial: torch.tanh)
    net = read_onnx(file_of([helper.make_node("Relu", ["x"], ["y"])], {}, tmp_path / "net.onnx"))
    assert isinstance(net, FileNetwork)
    assert "computes something else, its output is off by" in net.notes[0]
    assert net(torch.tensor([[-1.0, 2, -3, 4]])).tolist() == [[0, 2, 0, 4]]


def test_where_the_reference_fails_the_network_is_taken_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx.reference import ReferenceEvaluator

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such form")

    path = file_of([helper.make_node("Relu", ["x"], ["y"])], {}, tmp_path / "net.onnx")
    monkeypatch.setattr(ReferenceEvaluator, "run", fails)
    assert read_onnx(path).notes == ("the network that was rebuilt from net.onnx could not be compared with the file (no such form)",)


def test_half_precision_is_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["x", "w32"], ["y"])]
    net = read_onnx(file_of(nodes, {"w": np.ones((4, 2), np.float16)}, tmp_path / "net.onnx"))
    assert net.notes == ("the weights are stored as float16, and were read as float32",)
    assert net(torch.ones(1, 4)).tolist() == [[4, 4]]


def test_an_axis_of_one_is_taken_away_and_never_the_batch(tmp_path: Path) -> None:
    net = read_onnx(file_of([helper.make_node("Squeeze", ["x"], ["y"])], {}, tmp_path / "net.onnx", ("n", 1, 4), ("n", 4)))
    assert net(torch.zeros(1, 1, 4)).shape == (1, 4)
