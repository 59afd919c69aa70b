"""ONNX files that are run as they are: against formulas written out, at other batches, exported, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import optimize as opt
from optimize.backends.export import export_onnx
from optimize.errors import InputError
from optimize.graph.macs import macs
from optimize.graph.trace import trace

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def file(path: Path, outputs: tuple[str, ...] = ("y",), batch: Any = 1, kind: str = "Shrink", opset: int = 18, domain: str = "") -> Path:
    """A product with a matrix, and an operator that is not rebuilt behind it; names that an export must get out of the way."""
    nodes = [helper.make_node("MatMul", ["given", "w"], ["input"]), helper.make_node(kind, ["input"], ["y"], domain=domain)]
    graph = helper.make_graph(
        nodes,
        "made by hand",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    versions = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9 if opset > 14 else 6), path)
    return path


def shrunk(inputs: np.ndarray, lambd: float = 0.5) -> np.ndarray:
    made = inputs @ WEIGHT
    return np.where(made > lambd, made, np.where(made < -lambd, made, 0))


def inputs(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)


def test_it_gives_what_the_file_computes_for_any_batch(tmp_path: Path) -> None:
    candidate = opt.load_model(file(tmp_path / "net.onnx"))
    np.testing.assert_allclose(candidate.predict(inputs(5)), shrunk(inputs(5)), atol=1e-6)
    assert (candidate.parameters, macs(candidate)) == (12, 12)
    assert trace(candidate).groups == ()
    assert candidate.notes == (
        "the network of net.onnx is compiled as it is, and nothing can be cut out of it (it has operators that are not rebuilt: Shrink)",
    )


def test_an_export_is_the_file_with_the_usual_names(tmp_path: Path) -> None:
    candidate = opt.load_model(file(tmp_path / "net.onnx"))
    export_onnx(candidate, tmp_path / "out.onnx", inputs(3))
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
    from onnx.reference import ReferenceEvaluator

    (made,) = ReferenceEvaluator(str(tmp_path / "out.onnx")).run(None, {"input": inputs(3)})
    np.testing.assert_allclose(made, shrunk(inputs(3)), atol=1e-6)


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx", outputs=("y", "input"))
    usual, other = opt.load_model(path), opt.load_model(path, output="input_1")
    np.testing.assert_allclose(usual.predict(inputs(2)), shrunk(inputs(2)), atol=1e-6)
    np.testing.assert_allclose(other.predict(inputs(2)), inputs(2) @ WEIGHT, atol=1e-6)
    export_onnx(other, tmp_path / "out.onnx", inputs(2))
    assert [value.name for value in onnx.load(tmp_path / "out.onnx").graph.output] == ["output"]


def test_a_batch_that_is_written_into_the_network_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "to"], ["r"]), helper.make_node("Shrink", ["r"], ["y"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])] for name in "xy"]
    graph = helper.make_graph(nodes, "fixed", *ends, [numpy_helper.from_array(np.int64([1, 4]), "to")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"makes the network fail with .*Reshape"):
        opt.load_model(tmp_path / "net.onnx")


def test_an_operator_that_nobody_knows_is_refused_in_one_line(tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx", domain="my.ops")
    words = r"not rebuilt as layers .*my.ops.Shrink.*ONNX Runtime cannot run it .*pass --arch file.py:factory"
    with pytest.raises(InputError, match=words) as caught:
        opt.load_model(path)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_a_few_bytes_make_huge_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Shrink", ["x"], ["s"]), helper.make_node("Expand", ["s", "to"], ["e"])]
    nodes.append(helper.make_node("ReduceMean", ["e"], ["y"], keepdims=0))
    ends = [[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]]
    graph = helper.make_graph(nodes, "huge", *ends, [numpy_helper.from_array(np.int64([1 << 20, 1 << 12, 4]), "to")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r": e has 17,179,869,184 values"):
        opt.load_model(tmp_path / "net.onnx")


def test_half_precision_that_is_not_rebuilt_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["x", "w32"], ["m"])]
    nodes.append(helper.make_node("Shrink", ["m"], ["y"]))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])] for name in "xy"]
    graph = helper.make_graph(nodes, "half", *ends, [numpy_helper.from_array(np.ones((4, 4), np.float16), "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="is in half precision and not rebuilt as layers"):
        opt.load_model(tmp_path / "net.onnx")


def test_an_old_file_is_brought_to_the_usual_version(tmp_path: Path) -> None:
    candidate = opt.load_model(file(tmp_path / "net.onnx", opset=11))
    np.testing.assert_allclose(candidate.predict(inputs(2)), shrunk(inputs(2)), atol=1e-6)
    assert export_onnx(candidate, tmp_path / "out.onnx", inputs(2)).opset == 18


def test_copies_are_networks_of_their_own(tmp_path: Path) -> None:
    from optimize.graph.surgery import copy_module

    net = opt.load_model(file(tmp_path / "net.onnx")).module
    copied = copy_module(net, share=False)
    torch.testing.assert_close(copied(torch.from_numpy(inputs(2))), net(torch.from_numpy(inputs(2))))
    assert next(copied.parameters()).data_ptr() != next(net.parameters()).data_ptr()
