from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.errors import OptimizeError, TargetUnavailable
from optimize.measure.memory import answering, last_words, peak_memory

MIB = 2**20
FACTORY = """
from torch import nn
def build(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 2))
"""


def wide(width: int) -> nn.Module:
    """(N, 3, 4, 4) -> (N, 2), with 51 * width + 2 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 2))


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    runtime = backend(request.param)
    try:
        runtime.preflight()
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    export_onnx(Candidate(wide(8).eval(), torch.zeros(1, 3, 4, 4)), folder / "m.onnx")
    return runtime.convert(folder / "m.onnx", folder / "artifact", "f32")


def test_a_large_parent_is_not_counted(artifact: Artifact) -> None:
    ballast = bytearray(b"x") * (600 * MIB)
    measured = peak_memory(artifact, threads=1)
    assert 10 * MIB < measured.imports_bytes < measured.opened_bytes <= measured.peak_bytes < len(ballast) / 2
    assert min(measured.imports_s, measured.open_s, measured.first_s) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit of address space")
def test_a_limit_too_low_ends_the_process(any_target: str, artifact: Artifact) -> None:
    if artifact.target != any_target:
        pytest.skip("one runtime is enough")
    with pytest.raises(OptimizeError, match=r"memory of `model` \(=.*\) could not be measured: its process failed"):
        peak_memory(artifact, threads=1, limit_bytes=30 * MIB)


def test_the_measuring_process_holds_no_torch(artifact: Artifact) -> None:
    script = "import json, sys; from optimize.measure.memory import measure; measure(json.load(sys.stdin)); print('torch' in sys.modules)"
    request = json.dumps({"artifact": str(artifact.folder), "batch": 2, "threads": 1})
    child = subprocess.run([sys.executable, "-c", script], input=request, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"


def test_torch_original_is_loaded_by_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    width = 2**19
    torch.save(wide(width).state_dict(), tmp_path / "m.pt")
    arch = f"{tmp_path / 'net.py'}:build"
    arguments = {"path": tmp_path / "m.pt", "arch": arch, "arch_args": {"width": width}, "input_shape": (3, 4, 4)}
    measured = peak_memory(arguments, batch=2, threads=1)
    assert measured.peak_bytes - measured.imports_bytes > 4 * (51 * width + 2)


def test_last_words_of_a_failing_process(artifact: Artifact) -> None:
    lost = dataclasses.replace(artifact, folder=artifact.folder / "nowhere")
    with pytest.raises(OptimizeError) as failed:
        peak_memory(lost)
    start = f"memory of `model` (={lost.folder}) could not be measured: its process failed (`{lost.folder}` is no artifact: "
    assert str(failed.value).startswith(start)


def test_an_error_of_many_lines_is_kept_whole() -> None:
    """A parent reads the last line."""
    with pytest.raises(SystemExit) as ended, answering():
        raise RuntimeError("Exception from core.cpp:3:\nno such thing\n\n")
    assert ended.value.code == "RuntimeError: Exception from core.cpp:3: no such thing"
    assert last_words(f"a warning\n{ended.value.code}\n", 1) == f"its process failed ({ended.value.code})"
    assert last_words("", -9) == "its process failed (exit code -9)"
