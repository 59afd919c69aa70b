"""The folder of a finished run as this version leaves it, made by hand in a moment: tiny ONNX files, a self-test, a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optimize.backends import backend, self_test
from optimize.backends.artifact import Artifact
from optimize.candidate import Floats
from tests.report.sample import failing, inconclusive, passing
from tests.sealed import LOCK, told

SHAPE = (1, 4, 4)
CLASSES = ("platelet", "basophil", "erythroblast")
MEAN, STD = 0.5, 0.25
USE = {
    "options": {},
    "defaults_suffice": True,
    "threads": 1,
    "input": {
        "name": "input",
        "shape": ["N", *SHAPE],
        "dtype": "float32",
        "layout": "NCHW",
        "range": [-2.0, 2.0],
        "preprocessing": {
            "stored": "uint8, channels last, 0 to 255",
            "scale": 1 / 255,
            "standardize": None,
            "mean": [MEAN],
            "std": [STD],
            "pad": 0,
        },
    },
    "output": {
        "name": "output",
        "shape": ["N", 3],
        "dtype": "float32",
        "task": "classification",
        "meaning": "logits",
        "decision": "argmax of axis 1",
        "classes": list(CLASSES),
        "threshold": None,
    },
}
REPORTS = {"pass": passing, "fail": failing, "inconclusive": inconclusive, "unverified": inconclusive}
FOLDERS = {"pass": "model", "fail": "not_accepted", "inconclusive": "not_accepted", "unverified": "unverified/onnxruntime/f32"}


def network(path: Path, weights: Floats) -> None:
    """(N, 1, 4, 4) -> (N, 3): one matrix, with the names that `backends/export.py` gives."""
    nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["output"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes]) for name, sizes in (("input", SHAPE), ("output", (3,)))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def artifact(folder: Path, weights: Floats, use: dict[str, Any], *, tested: bool = True) -> Artifact:
    """The network, compiled for ONNX Runtime, with its use, and with its self-test unless it never ran."""
    folder.mkdir(parents=True)
    network(folder / "model.onnx", weights)
    runtime = backend("onnxruntime")
    made = Artifact.save(folder, target="onnxruntime", precision="f32", input_shape=SHAPE, runtime=runtime.version(), files=("model.onnx",))
    made = made.described(use)
    if not tested:
        return made
    inputs = self_test.make(np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32), 0)
    with runtime.build(made, threads=1) as session:
        return self_test.attach(made, session.predict, inputs)


def finished(folder: Path, key: Path | None = None, *, verdict: str = "pass", use: dict[str, Any] | None = None, **report: Any) -> Path:
    """A run with this verdict, or "unverified", its report signed where a key is given; `report` says what in its report is another."""
    draw = np.random.default_rng(1)
    weights = draw.normal(size=(16, 3)).astype(np.float32)
    made = artifact(folder / FOLDERS[verdict], weights, USE if use is None else use, tested=verdict != "unverified")
    onnx_files = folder / ("unverified" if verdict == "unverified" else "onnx")
    onnx_files.mkdir(exist_ok=True)
    network(onnx_files / "model.onnx", weights)
    network(onnx_files / "original.onnx", weights + draw.normal(size=weights.shape).astype(np.float32) / 50)
    (folder / "recipe.lock.toml").write_text(LOCK)
    (folder / "ledger.jsonl").write_text('{"run": {}}\n')
    (folder / "flips.csv").write_text("id,kind\n17,regressed\n")
    names = [made.files[0].name, "golden.npz", "artifact.json"]
    files = {"files": [{"name": name} for name in names]} if verdict == "pass" else None
    whole = REPORTS[verdict]() | {"target": "onnxruntime", "precision": "f32", "files": [], "artifact": files}
    if verdict == "unverified":
        compiled = [{"target": "onnxruntime", "precision": "f32", "why": "", "files": [file.as_dict() for file in made.files]}]
        whole |= {"unverified": {"parameters": 48, "macs": 48, "compiled": compiled}, "compressed": None, "precision": None}
    told(folder, whole | report, key)
    return folder
