"""One module for each runtime, with the same verbs in each, imported only when asked for.

| verb | what it does |
|---|---|
| `preflight()` | raise `TargetUnavailable` when the target cannot run here, before any work |
| `obstacle()` | why what is compiled for it cannot run here, or None: some targets compile on machines that they do not run on |
| `version()` | version of the runtime; imports it |
| `precisions()` | float precisions that this machine runs natively, the exact one first |
| `convert(onnx, folder, precision)` | ONNX -> Artifact, float |
| `quantize(onnx, folder, calibration, …)` | ONNX -> Artifact, int8, on request with some layers in float |
| `build(artifact, threads=…)` | Artifact -> Session |
| `inspect(session)` | layer -> precision it really runs in, read from the compiled graph |
| `time_layers(artifact, inputs, …)` | layer -> milliseconds inside one run, by the runtime's own profiler |
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from optimize.errors import InputError, TargetUnavailable, did_you_mean

if TYPE_CHECKING:
    from optimize.backends.artifact import Artifact
    from optimize.backends.session import Session
    from optimize.candidate import Floats

TARGETS = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")
CPU = "cpu"
"""As a target: whichever of the runtimes of the CPU is measured to be faster."""
ON_CPU = ("openvino", "onnxruntime")
ALSO = {
    **dict.fromkeys(("ort", "onnx", "onnx-runtime", "onnx_runtime"), "onnxruntime"),
    **dict.fromkeys(("ov", "intel"), "openvino"),
    **dict.fromkeys(("trt", "gpu", "cuda", "nvidia"), "tensorrt"),
    **dict.fromkeys(("rtx", "trt-rtx", "tensorrt_rtx"), "tensorrt-rtx"),
}
"""What people call the targets; they are suggested and not taken, so that a recipe has one name for each."""


class Backend(Protocol):
    """What each module of this package offers; a type to check against, not to inherit from."""

    NAME: str

    def preflight(self) -> None:
        """Raise `TargetUnavailable` when the target cannot run here."""

    def unavailable_reason(self) -> str | None:
        """Why what is compiled for the target cannot run on this machine; None where it can."""
        ...

    def version(self) -> str:
        """Import the runtime and return its version."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """Float precisions this machine runs natively, the exact one first."""
        ...

    def convert(self, onnx: Path, folder: Path, precision: str) -> Artifact:
        """Write the float artifact of an ONNX file into `folder`."""
        ...

    def quantize(
        self,
        onnx: Path,
        folder: Path,
        calibration: Floats,
        *,
        ignored_layers: Collection[str] = (),
        float_precision: str = "f32",
        cpu_level: str | None = None,
    ) -> Artifact:
        """Write the int8 artifact of an ONNX file into `folder`.

        Args:
            onnx: the float model.
            folder: is made.
            calibration: (N, C, *spatial), all of it gives the ranges of activations.
            ignored_layers: layers, by the names of the ONNX file's nodes, that stay in float.
            float_precision: precision of what is not quantized.
            cpu_level: instruction set of the machine that will run it, of `hardware.cpu_level.LEVELS`; this machine's when None.
        """
        ...

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        """Compile the artifact for this machine."""
        ...

    def inspect(self, session: Session) -> dict[str, str]:
        """Layer name -> the precision it really runs in."""
        ...

    def time_layers(
        self, artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
    ) -> dict[str, float]:
        """Layer name -> milliseconds inside a run on `inputs`; nodes that only move or convert numbers are left out.

        Runs until both `seconds` and `min_rounds` are reached.
        """
        ...


def backend(name: str, compute_capability: Sequence[str] = ()) -> Backend:
    """The backend of a target, imported now.

    Args:
        name: of the target.
        compute_capability: of the GPUs to compile for, where the target lets one choose; empty leaves it to the backend.

    Raises:
        InputError: when there is no such target, it lets one choose no GPU, or it has nothing for one that was chosen.

    Example:
        >>> backend("onnxruntime").NAME
        'onnxruntime'
    """
    if name not in TARGETS:
        meant = f" (did you mean {also!r}?)" if (also := ALSO.get(name.strip().lower())) else did_you_mean(name, (*TARGETS, CPU))
        raise InputError(f"`target` (={name!r}) must be one of {', '.join((*TARGETS, CPU))}{meant}.")
    module = importlib.import_module(f"optimize.backends.{name.replace('-', '_')}")
    if not compute_capability:
        return cast(Backend, module)
    if not hasattr(module, "for_capabilities"):
        given = ",".join(compute_capability)
        raise InputError(f"`--compute-capability` (={given!r}) is for target tensorrt-rtx: leave it out with target {name}.")
    return cast(Backend, module.for_capabilities(compute_capability))


def require_runnable(runtime: Backend) -> None:
    """Raise `TargetUnavailable` unless what is compiled for the target also runs on this machine."""
    runtime.preflight()
    obstacle = runtime.unavailable_reason()
    if obstacle is not None:
        raise TargetUnavailable(f"target {runtime.NAME!r} compiles here, but does not run: {obstacle}.")


def runtimes(target: str, compute_capability: Sequence[str] = ()) -> tuple[Backend, ...]:
    """The backends among which a target leaves the choice: its own, or for "cpu" those of the CPU that are installed.

    Args:
        target: its name, or "cpu".
        compute_capability: as for `backend`.

    Raises:
        InputError: as `backend` does.
        TargetUnavailable: when nothing can be compiled for it here.
    """
    if target != CPU:
        only = backend(target, compute_capability)
        only.preflight()
        return (only,)
    found, missing = [], []
    for name in ON_CPU:
        try:
            backend(name).preflight()
        except TargetUnavailable as reason:
            missing.append(str(reason))
        else:
            found.append(backend(name, compute_capability))
    if not found:
        raise TargetUnavailable(" ".join(missing))
    return tuple(found)


def require_precision(precision: str, allowed: tuple[str, ...], target: str) -> None:
    """Raise `InputError` unless `precision` is one that `target` runs natively on this machine."""
    if precision not in allowed:
        raise InputError(f"`precision` (={precision!r}) must be one that {target} runs natively on this machine: {', '.join(allowed)}.")


def int8_name(ignored_layers: Collection[str], float_precision: str) -> str:
    """How an artifact names its precision: "int8", or "int8+bf16" where layers were kept in float on purpose."""
    return f"int8+{float_precision}" if ignored_layers or float_precision != "f32" else "int8"


def float_part(precision: str) -> str:
    """The float precision in an artifact's: "bf16" of "int8+bf16", "f32" of "int8"."""
    return precision.rpartition("+")[2] if "+" in precision else {"int8": "f32"}.get(precision, precision)
