from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.artifact import Artifact
from optimize.backends import backend
from optimize.backends.session import Session
from optimize.errors import TargetUnavailable

FLOATS = np.zeros((1, 1), np.float32)
CALLS: dict[str, tuple[Any, ...]] = {
    "preflight": (),
    "version": (),
    "precisions": (),
    "convert": (Path("m.onnx"), Path("folder"), "f32"),
    "quantize": (Path("m.onnx"), Path("folder"), FLOATS),
    "build": (Artifact(Path("folder"), "tensorrt", "f32", (1,), "0", ()),),
    "inspect": (Session((1,), lambda inputs: inputs, None),),
    "time_layers": (Artifact(Path("folder"), "tensorrt", "f32", (1,), "0", ()), FLOATS),
}


@pytest.mark.parametrize("verb", CALLS)
def test_every_verb_refuses(verb: str) -> None:
    with pytest.raises(TargetUnavailable, match=r"^target 'tensorrt' cannot run here: .+; use target openvino or onnxruntime\.$"):
        getattr(backend("tensorrt"), verb)(*CALLS[verb])


@pytest.mark.parametrize(
    ("gpu", "package", "reason"),
    [
        (False, False, "here: no NVIDIA GPU was found and the package tensorrt is not installed;"),
        (True, False, "here: the package tensorrt is not installed;"),
        (False, True, "here: no NVIDIA GPU was found;"),
        (True, True, "here: this version does not build TensorRT engines yet;"),
    ],
)
def test_refusal_names_the_reason(gpu: bool, package: bool, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/bin/nvidia-smi" if gpu else None)
    monkeypatch.setattr("pathlib.Path.exists", lambda _: gpu)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if package else None)
    with pytest.raises(TargetUnavailable, match=reason):
        backend("tensorrt").preflight()
