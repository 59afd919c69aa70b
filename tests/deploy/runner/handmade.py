"""A bundle made by hand in a moment, without the builder: a tiny ONNX network, its self-test, and a manifest of what lies there."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

import optimize.deploy.runner
from optimize.deploy.runner.machine import cpu_level
from optimize.deploy.runner.self_test import cases

RUNNER = Path(optimize.deploy.runner.__file__).parent
CLASSES = ("platelet", "basophil", "erythroblast")
STORED = {"stored": "uint8, channels last, 0 to 255", "scale": 1 / 255, "standardize": None, "mean": [0.5], "std": [0.25], "pad": 0}
FLOATS = {**STORED, "stored": "float, channels first", "scale": 1.0, "mean": [], "std": []}
CLASSIFICATION = {"task": "classification", "meaning": "logits", "decision": "argmax of axis 1", "threshold": None}
WITH_BACKGROUND = {"task": "segmentation", "meaning": "logits", "decision": "argmax of axis 1; 0 is the background, then the classes"}
OVERLAPPING = {"task": "segmentation", "meaning": "logits", "decision": "output above threshold: one mask per output"}
OWN = ("manifest.json", "manifest.dsse.json")


def network(shape: tuple[int, ...], outputs: int, *, masks: bool) -> bytes:
    """(N, C, *spatial) -> (N, outputs) by one matrix, or (N, outputs, *spatial) by a convolution of 3 pixels."""
    draw = np.random.default_rng(3)
    if masks:
        weights = draw.normal(size=(outputs, shape[0], *(3 for _ in shape[1:]))).astype(np.float32)
        nodes = [helper.make_node("Conv", ["input", "w"], ["output"], pads=[1] * 2 * (len(shape) - 1))]
        sizes: tuple[int, ...] = (outputs, *shape[1:])
    else:
        weights = draw.normal(size=(int(np.prod(shape)), outputs)).astype(np.float32)
        nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["output"])]
        sizes = (outputs,)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *size]) for name, size in (("input", shape), ("output", sizes))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString())


def bundle(
    folder: Path,
    *,
    shape: tuple[int, ...] = (1, 8, 8),
    output: Mapping[str, Any] = CLASSIFICATION,
    preprocessing: Mapping[str, Any] = STORED,
    runner: bool = False,
    key: Ed25519PrivateKey | None = None,
    **manifest: Any,
) -> Path:
    """A bundle for ONNX Runtime; `manifest` says what in its manifest is another."""
    model = folder / "model"
    model.mkdir(parents=True)
    masks = output["task"] == "segmentation"
    count = len(CLASSES) + (masks and output.get("threshold") is None)
    (model / "model.onnx").write_bytes(network(shape, count, masks=masks))
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(4).normal(size=(cases(shape), *shape)).astype(np.float32)
    outputs = session.run(None, {"input": inputs})[0]
    np.savez(model / "golden.npz", inputs=inputs, outputs=outputs)
    use = {
        "options": {},
        "threads": 1,
        "input": {"name": "input", "shape": ["N", *shape], "range": [-2.0, 2.0], "preprocessing": dict(preprocessing)},
        "output": {"name": "output", "shape": ["N", *outputs.shape[1:]], "classes": list(CLASSES), "threshold": None, **output},
    }
    said = {
        "format": 1,
        "target": "onnxruntime",
        "precision": "f32",
        "input_shape": list(shape),
        "runtime": onnxruntime.__version__,
        "files": [entry(model / "model.onnx")],
        "built": {"isa": cpu_level("onnxruntime")},
        "golden": entry(model / "golden.npz"),
        "use": use,
    }
    write(model / "artifact.json", said)
    report = {"accepted": True, "verdict": "pass", "target": "onnxruntime", "artifact": {"files": [entry(model / "model.onnx")]}}
    write(folder / "report.json", report)
    (folder / "README.md").write_text("How to use it.\n")
    if runner:
        with_runner(folder)
    seal(folder, key, **manifest)
    return folder


def with_runner(folder: Path) -> None:
    """Copy the runner as the builder does, with a file where Python would put compiled code."""
    shutil.copytree(RUNNER, folder / "bundle", ignore=shutil.ignore_patterns("__pycache__"))
    for place in (folder / "bundle", *(path for path in (folder / "bundle").rglob("*") if path.is_dir())):
        (place / "__pycache__").write_text("no compiled code here\n")


def entry(path: Path) -> dict[str, Any]:
    """How artifact.json and report.json list a file."""
    content = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write(path: Path, content: Any) -> None:
    """A file of JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def artifact_sha256(folder: Path) -> str:
    """The hash of the model, as the artifact's own class computes it."""
    files = json.loads((folder / "model" / "artifact.json").read_text())["files"]
    return hashlib.sha256("".join(f"{file['sha256']}  {file['name']}\n" for file in files).encode()).hexdigest()


def manifest_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """A manifest that is true of a folder."""
    said = json.loads((folder / "model" / "artifact.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name not in OWN)
    files = [{"path": path, **{name: value for name, value in entry(folder / path).items() if name != "name"}} for path in paths]
    return {
        "format": 1,
        "kind": "optimize-bundle",
        "name": "cells.pt",
        "created": "2026-11-30T17:00:00+00:00",
        "target": said["target"],
        "precision": said["precision"],
        "accepted": report["accepted"],
        "verdict": report.get("verdict"),
        "warning": None if report["accepted"] else "This model was rejected.",
        "artifact": {"folder": "model", "sha256": artifact_sha256(folder)},
        "report": {"path": "report.json", "sha256": entry(folder / "report.json")["sha256"], "artifact_sha256": artifact_sha256(folder)},
        "machine": {
            "isa": said["built"].get("isa"),
            "made_for": said["built"].get("made_for"),
            "compute_capabilities": None,
            "runtime": {"name": said["target"], "version": said["runtime"]},
        },
        "self_test": {"path": "model/golden.npz", "tolerance": {"same": 1e-4, "another": 1e-3}},
        "files": files,
        **changes,
    }


def seal(folder: Path, key: Ed25519PrivateKey | None = None, **changes: Any) -> None:
    """Write the manifest of a folder as it now is, signed where a key is given; `changes` says what in it is another."""
    content = rfc8785.dumps(manifest_of(folder, **changes))
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.dsse.json").unlink(missing_ok=True)
    if key is not None:
        (folder / "manifest.dsse.json").write_bytes(envelope(content, key))


def envelope(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """A signature over a manifest, as DSSE says it."""
    kind = b"application/vnd.optimize.bundle+json"
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(content), content)
    keyid = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
    signature = {"keyid": keyid, "sig": base64.b64encode(key.sign(signed)).decode()}
    return bytes(rfc8785.dumps({"payloadType": kind.decode(), "payload": base64.b64encode(content).decode(), "signatures": [signature]}))


def edit(path: Path, change: Any) -> None:
    """Change the content of a file of JSON by a function of it."""
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def rehash(folder: Path) -> None:
    """Make artifact.json true of the files beside it."""

    def renew(content: dict[str, Any]) -> None:
        content["files"] = [entry(folder / "model" / file["name"]) for file in content["files"]]
        content["golden"] = entry(folder / "model" / "golden.npz")

    edit(folder / "model" / "artifact.json", renew)
    edit(folder / "report.json", lambda report: report.update(artifact={"files": [entry(folder / "model" / "model.onnx")]}))


def base64_of(key: Ed25519PrivateKey) -> str:
    """The public half of a key, as it is pinned."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
