"""Peak memory of a fresh process that opens one model and predicts one batch: what a user's process would hold.

`python -m optimize.measure.memory` is that process: it reads a request as JSON from standard input and answers as JSON on standard output.
It imports only what the model's runtime needs; for an artifact that is never torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.artifact import Artifact
from optimize.backends import backend
from optimize.errors import OptimizeError

if TYPE_CHECKING:
    from optimize.backends.session import Session


@dataclass(frozen=True)
class Memory:
    """Resident memory of the measuring process.

    Args:
        peak_bytes: the highest it ever was: interpreter, runtime, model and one batch.
        imports_bytes: once the runtime was imported, before the model was opened. The difference is what the model costs.
    """

    peak_bytes: int
    imports_bytes: int


def peak_memory(model: Artifact | Mapping[str, object], *, batch: int = 8, threads: int | None = None) -> Memory:
    """Measure in a fresh process.

    Args:
        model: an artifact; or, for a torch original, the arguments of `optimize.load.load_model` by name, `path` among them.
        batch: inputs in the one batch that is predicted.
        threads: as in `build`; each has buffers of its own.

    Raises:
        OptimizeError: when the process fails; its last words are in the text.
    """
    source: dict[str, object] = {"artifact": str(model.folder)} if isinstance(model, Artifact) else {"torch": dict(model)}
    request = json.dumps({**source, "batch": batch, "threads": threads}, default=str)
    child = subprocess.run([sys.executable, "-m", "optimize.measure.memory"], input=request, capture_output=True, text=True, check=False)
    if child.returncode:
        words = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise OptimizeError(f"memory could not be measured: the measuring process failed ({words}).")
    return Memory(**json.loads(child.stdout.splitlines()[-1]))


def measure(request: Mapping[str, Any]) -> Memory:
    """Answer a request in this process: `artifact` (a folder) or `torch` (arguments of `load_model`), `batch` and `threads`."""
    import numpy as np

    session, imports_bytes = _open_torch(request) if "torch" in request else _open_artifact(request)
    with session:
        session.predict(np.zeros((request["batch"], *session.input_shape), dtype=np.float32))
        return Memory(_peak_bytes(), imports_bytes)


def _open_artifact(request: Mapping[str, Any]) -> tuple[Session, int]:
    artifact = Artifact.read(request["artifact"])
    runtime = backend(artifact.target)
    runtime.version()
    imports_bytes = _peak_bytes()
    return runtime.build(artifact, threads=request["threads"]), imports_bytes


def _open_torch(request: Mapping[str, Any]) -> tuple[Session, int]:
    from optimize.backends.torch import build
    from optimize.load import load_model

    imports_bytes = _peak_bytes()
    # JSON knows no tuples.
    arguments: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in request["torch"].items()}
    return build(load_model(**arguments), threads=request["threads"]), imports_bytes


def _peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: after fork and exec its peak starts from that of the parent.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, the one system left


if __name__ == "__main__":
    print(json.dumps(asdict(measure(json.load(sys.stdin)))))
