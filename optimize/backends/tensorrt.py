"""TensorRT on an NVIDIA GPU: refused, with the reason, by every verb until engines can be built and checked."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from optimize.errors import TargetUnavailable

if TYPE_CHECKING:
    from optimize.artifact import Artifact
    from optimize.backends.session import Session
    from optimize.candidate import Floats

NAME = "tensorrt"


def preflight() -> NoReturn:
    """Say why the target cannot run here.

    Raises:
        TargetUnavailable: always.
    """
    reasons = []
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia/version").exists():
        reasons.append("no NVIDIA GPU was found")
    if importlib.util.find_spec("tensorrt") is None:
        reasons.append("the package tensorrt is not installed")
    reason = " and ".join(reasons) or "this version does not build TensorRT engines yet"
    raise TargetUnavailable(f"target 'tensorrt' cannot run here: {reason}; use target openvino or onnxruntime.")


def version() -> str:
    """Raise `TargetUnavailable`."""
    preflight()


def precisions() -> tuple[str, ...]:
    """Raise `TargetUnavailable`."""
    preflight()


def convert(onnx: Path, folder: Path, precision: str) -> Artifact:
    """Raise `TargetUnavailable`."""
    preflight()


def quantize(
    onnx: Path, folder: Path, calibration: Floats, *, keep: Collection[str] = (), rest: str = "f32", isa: str | None = None
) -> Artifact:
    """Raise `TargetUnavailable`."""
    preflight()


def build(artifact: Artifact, *, threads: int | None = None) -> Session:
    """Raise `TargetUnavailable`."""
    preflight()


def inspect(session: Session) -> dict[str, str]:
    """Raise `TargetUnavailable`."""
    preflight()


def time_layers(
    artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
) -> dict[str, float]:
    """Raise `TargetUnavailable`."""
    preflight()
