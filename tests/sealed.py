"""A run's folder as an accepted run leaves it, made by hand in a moment: a tiny ONNX model, its self-test, and a report of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tampering import told_anew
from optimize.backends import backend, self_test
from optimize.backends.artifact import Artifact
from optimize.candidate import Floats
from optimize.report.page import as_json
from optimize.report.render import render, signed
from tests.report.sample import passing

SHAPE = (1, 4, 4)
LOCK = """[model]
path = "/there/model.pt"
arch = "/there/net.py:make"
trust_pickle = false

[limits]
max_drop = 0.02
max_class_drop = 0.06
"""


def model(path: Path, weights: Floats) -> None:
    """(N, 1, 4, 4) -> (N, 3): one matrix."""
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes]) for name, sizes in (("x", SHAPE), ("y", (3,)))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def artifact(folder: Path, seed: int = 0) -> Artifact:
    """The model, compiled and with its self-test."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    model(folder / "model.onnx", draw.normal(size=(16, 3)).astype(np.float32))
    runtime = backend("onnxruntime")
    made = Artifact.save(folder, target="onnxruntime", precision="f32", input_shape=SHAPE, runtime=runtime.version(), files=("model.onnx",))
    inputs = self_test.make(draw.normal(size=(8, *SHAPE)).astype(np.float32), seed)
    with runtime.build(made, threads=1) as session:
        return self_test.attach(made, session.predict, inputs)


def run(folder: Path, key: Path | None = None, *, seed: int = 0, **report: Any) -> Path:
    """An accepted run, signed where a key is given; `report` says what in its report is another."""
    made = artifact(folder / "model", seed)
    (folder / "recipe.lock.toml").write_text(LOCK)
    (folder / "ledger.jsonl").write_text('{"run": {}}\n{"step": "Prune"}\n{"step": "Repair"}\n')
    (folder / "flips.csv").write_text(f"id,kind\n17,regressed\n{seed},fixed\n")
    assert made.golden is not None
    names = [made.files[0].name, made.golden.name, "artifact.json"]
    whole = passing() | {"target": "onnxruntime", "precision": "f32", "files": [], "seed": seed}
    told(folder, {**whole, "artifact": {"files": [{"name": name} for name in names]}, **report}, key)
    return folder


def told(folder: Path, report: dict[str, Any], key: Path | None = None) -> None:
    """Write a report that is true of the folder's files, and its page."""
    report = {**told_anew(folder, report), "signature": None}
    write(folder, signed(report, key) if key is not None else report)


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write a report as it is, and its page."""
    (folder / "report.json").write_text(as_json(report), encoding="utf-8")
    (folder / "report.html").write_text(render(report), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The report in a folder."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found
