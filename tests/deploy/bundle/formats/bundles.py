"""A bundle by hand, as far as formats look at it: an artifact that says how it is used, manifest.json and a few more files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimize.backends.artifact import Artifact
from tests.sealed import SHAPE, model

USE = {
    "options": {},
    "defaults_suffice": True,
    "threads": 2,
    "input": {
        "name": "input",
        "shape": ["N", *SHAPE],
        "dtype": "float32",
        "layout": "NCHW",
        "range": [0.0, 1.0],
        "preprocessing": {
            "stored": "uint8, channels last, 0 to 255",
            "scale": 1 / 255,
            "standardize": None,
            "mean": [0.5],
            "std": [0.25],
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
        "threshold": None,
        "classes": ["benign", "mal\nignant", "unklar ä"],
    },
}
FILES = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "tensorrt": ("model.engine", "model.onnx", "timings.cache"),
}


def bundle(
    folder: Path, target: str = "onnxruntime", *, precision: str = "f32", use: Mapping[str, Any] | None = None, name: str = "cells.pt"
) -> Path:
    """Write the bundle; files that are not read by a format hold a line of text."""
    import numpy as np

    (folder / "model").mkdir(parents=True)
    files = FILES.get(target, FILES["tensorrt"])
    for file in files:
        (folder / "model" / file).write_bytes(f"{target} {file}".encode())
    if target == "onnxruntime":
        model(folder / "model" / "model.onnx", np.ones((16, 3), np.float32))
    made = Artifact.save(folder / "model", target=target, precision=precision, input_shape=SHAPE, runtime="1.0", files=files)
    made.described({**USE, **(use or {})})
    (folder / "bundle").mkdir()
    (folder / "bundle" / "__init__.py").write_text('"""The runner."""\n')
    (folder / "README.md").write_text("How to use it.\n")
    manifest = {
        "kind": "optimize-bundle",
        "format": 1,
        "name": name,
        "created": "2026-01-02T03:04:05+00:00",
        "target": target,
        "precision": precision,
        "accepted": True,
        "verdict": "pass",
        "warning": None,
        "machine": {"cpu": "any", "isa": "avx2", "python": "3.11.7"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
