"""Measure the peak memory of a fresh process that opens one model and predicts one batch, and the time that both take.

`python -m optimize.measure.memory` is that process: it reads a request as JSON from standard input and answers as JSON on standard output.
It imports only what the model's runtime needs; for an artifact that is never torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.backends import EAGER, backend, runs_on_cpu
from optimize.backends.artifact import Artifact
from optimize.errors import OptimizeError
from optimize.hardware.nvml import device_bytes
from optimize.loading.factory import describe

if TYPE_CHECKING:
    from optimize.backends.session import Session


@dataclass(frozen=True)
class Memory:
    """Resident memory of the measuring process, and how long it took to get there.

    Args:
        peak_bytes: the highest it ever was: interpreter, runtime, model and one batch.
        imports_bytes: once the runtime was imported, before the model was opened. The difference is what the model costs.
        opened_bytes: the highest until the model was open, before the batch.
        imports_s: seconds to import the runtime.
        open_s: seconds to open the model: read, check, compile.
        first_s: seconds of the first predict.
        device_bytes: bytes of GPU memory that it held after the batch, CUDA context included; None where that is not known.
        device_note: why not; empty where it is.
    """

    peak_bytes: int
    imports_bytes: int
    opened_bytes: int = 0
    imports_s: float = 0.0
    open_s: float = 0.0
    first_s: float = 0.0
    device_bytes: int | None = None
    device_note: str = ""


def peak_memory(
    model: Artifact | Mapping[str, object], *, batch: int = 8, threads: int | None = None, limit_bytes: int | None = None
) -> Memory:
    """Measure in a fresh process.

    Args:
        model: an artifact; or, for a torch original, the arguments of `optimize.loading.load.load_model` by name, `path` among them.
        batch: inputs in the one batch that is predicted.
        threads: number of threads, as in `build`; each has buffers of its own.
        limit_bytes: address space that the process may use (RLIMIT_AS, which Linux enforces); None for no limit.

    Raises:
        OptimizeError: when the process fails; its last words are in the text.
    """
    request = json.dumps({**source(model), "batch": batch, "threads": threads, "limit_bytes": limit_bytes}, default=str)
    child = subprocess.run([sys.executable, "-m", "optimize.measure.memory"], input=request, capture_output=True, text=True, check=False)
    if child.returncode:
        raise OptimizeError(f"memory of {model_in_words(model)} could not be measured: {last_words(child.stderr, child.returncode)}.")
    # the last line: a runtime may print something of its own before
    return Memory(**json.loads(child.stdout.splitlines()[-1]))


def source(model: Artifact | Mapping[str, object]) -> dict[str, object]:
    """Return the part of a request that says which model to open."""
    return {"artifact": str(model.folder), "target": model.target} if isinstance(model, Artifact) else {"torch": dict(model)}


def model_in_words(model: Artifact | Mapping[str, object]) -> str:
    """Return the model in an error."""
    return f"`model` (={model.folder if isinstance(model, Artifact) else model['path']})"


def last_words(stderr: str, exit_code: int) -> str:
    """Return why a process of `answering` failed: the line it ended with, or, where it was killed, its exit code."""
    return f"its process failed ({(stderr.strip().splitlines() or [f'exit code {exit_code}'])[-1].rstrip('.')})"


@contextmanager
def answering() -> Iterator[None]:
    """End this process with one line on standard error for whatever is raised: of a longer text its parent would keep the last line."""
    try:
        yield
    except OptimizeError as problem:
        sys.exit(str(problem))
    except Exception as problem:
        sys.exit(describe(problem))


def measure(request: Mapping[str, Any]) -> Memory:
    """Answer a request in this process: `artifact` (a folder) or `torch` (arguments of `load_model`), `batch`, `threads`, `limit_bytes`."""
    if request.get("limit_bytes") is not None:
        import resource

        # before the imports: the limit is on the whole process, as a small machine would set it
        resource.setrlimit(resource.RLIMIT_AS, (request["limit_bytes"],) * 2)
    import numpy as np

    started = time.perf_counter()
    opener = importer(request)
    imports_bytes, imported = peak_resident_bytes(), time.perf_counter()
    with opener() as session:
        opened_bytes, opened = peak_resident_bytes(), time.perf_counter()
        # zeros will do: memory and time of a first call do not depend on the values
        inputs = np.zeros((request["batch"], *session.input_shape), dtype=np.float32)
        first = time.perf_counter()
        session.predict(inputs)
        first_s = time.perf_counter() - first
        peak_bytes = peak_resident_bytes()
        seconds = imported - started, opened - imported, first_s
        return Memory(peak_bytes, imports_bytes, opened_bytes, *seconds, *_device_bytes(runtime_name(request)))


def importer(request: Mapping[str, Any]) -> Callable[[], Session]:
    """Import the runtime of a request, and return the function that opens its model."""
    if "torch" in request:
        from optimize.backends.torch import build
        from optimize.loading.load import load_model

        # JSON knows no tuples.
        arguments: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in request["torch"].items()}
        return lambda: build(load_model(**arguments, probe=False), threads=request["threads"])
    runtime = backend(runtime_name(request))
    runtime.version()
    return lambda: runtime.build(Artifact.read(request["artifact"]), threads=request["threads"])


def runtime_name(request: Mapping[str, Any]) -> str:
    """Return what runs the model of a request: "torch", or a target."""
    return EAGER if "torch" in request else request.get("target") or Artifact.read(request["artifact"]).target


def _device_bytes(runtime: str) -> tuple[int | None, str]:
    """Return the memory of GPUs that this process holds, in bytes; or None and why it is not known."""
    return (None, f"{runtime} runs on the processor") if runs_on_cpu(runtime) else device_bytes()


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process so far."""
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
    with answering():
        print(json.dumps(asdict(measure(json.load(sys.stdin)))))
