"""One module for each target in `backends/targets/`, with the same verbs in each; a runtime is imported only when it is used.

| verb | what it does |
|---|---|
| `DESCRIPTION` | what is known without the runtime: its name for people, where it runs, the packages it needs |
| `preflight()` | raise `TargetUnavailable` when the target cannot run here, before any work |
| `unavailable_reason()` | why what is compiled for it cannot run here, or None: some targets compile on machines that they do not run on |
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
import pkgutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from optimize.backends import targets
from optimize.errors import InputError, TargetUnavailable, did_you_mean
from optimize.hardware.installed_packages import DECIDING, installed

if TYPE_CHECKING:
    from optimize.backends.artifact import Artifact
    from optimize.backends.session import Session
    from optimize.backends.target_description import Description
    from optimize.candidate import Floats

CPU = "cpu"
"""A target that stands for the fastest, as measured, of those that run on the processor."""
EAGER = "torch"
"""Name of what runs the original, uncompiled, on the processor; it is no target (`backends/torch.py`)."""


class Backend(Protocol):
    """The verbs that each module of `targets` offers; a type to check against, not to inherit from."""

    NAME: str

    @property
    def DESCRIPTION(self) -> Description:
        """Facts about the target that are known without its runtime."""
        ...

    def preflight(self) -> None:
        """Raise `TargetUnavailable` when the target cannot run here."""

    def unavailable_reason(self) -> str | None:
        """Return why what is compiled for the target cannot run on this machine; None where it can."""
        ...

    def version(self) -> str:
        """Import the runtime and return its version."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """Return the float precisions this machine runs natively, the exact one first."""
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
            onnx: file of the float model.
            folder: folder to write into; it is made where it is missing.
            calibration: inputs, (N, C, *spatial); all of them give the ranges of activations.
            ignored_layers: layers that stay in float, by the names of their nodes in the ONNX file.
            float_precision: precision of what is not quantized.
            cpu_level: instruction set of the machine that will run the artifact, one of `hardware.cpu_level.LEVELS`; that of this
                machine when None.
        """
        ...

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        """Compile the artifact for this machine."""
        ...

    def inspect(self, session: Session) -> dict[str, str]:
        """Return layer name -> the precision it really runs in."""
        ...

    def time_layers(
        self, artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
    ) -> dict[str, float]:
        """Return layer name -> milliseconds inside a run on `inputs`; nodes that only move or convert numbers are left out.

        Runs until both `seconds` and `min_rounds` are reached.
        """
        ...


def target_names() -> tuple[str, ...]:
    """Return the names of all targets, found by the files in `optimize/backends/targets/`; no runtime and no torch is imported.

    Examples:
        >>> target_names()
        ('openvino', 'onnxruntime', 'tensorrt', 'tensorrt-rtx')
    """
    return tuple(sorted(_files(), key=lambda name: (_module(name).DESCRIPTION.position, name)))


def cpu_target_names() -> tuple[str, ...]:
    """Return the names of the targets that run on the processor."""
    return tuple(name for name in target_names() if description(name).on_cpu)


def onnx_target_names() -> tuple[str, ...]:
    """Return the names of the targets that run on the processor, those first whose runtime opens an ONNX file as it is.

    An ONNX file, the original's or one that a user names, is opened by these: a conversion may already change what it computes.
    """
    # sorted is stable and False comes before True: targets that open .onnx first, the rest in their usual order
    return tuple(sorted(cpu_target_names(), key=lambda name: description(name).file_ending != ".onnx"))


def description(name: str) -> Description:
    """Return what is known about a target without its runtime.

    Args:
        name: name of a target. Of one that this version does not have, as an artifact from elsewhere may name, nothing is promised.
    """
    if name in _files():
        return _module(name).DESCRIPTION
    from optimize.backends.target_description import Description

    return Description(name, on_cpu=False, packages=())


def title(name: str) -> str:
    """Return the name of a target's runtime as its maker writes it; the target's own name where this version does not have it.

    Examples:
        >>> title("onnxruntime")
        'ONNX Runtime'
    """
    return description(name).title


def runs_on_cpu(runtime: str) -> bool:
    """Return whether models of a target, or of "torch", run on the processor here; they then hold no memory of a GPU."""
    return runtime == EAGER or description(runtime).on_cpu


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide what a run gives, from their metadata: none is imported."""
    names = (*DECIDING, *(package.name for name in target_names() for package in description(name).packages))
    return {name: version for name in names if (version := installed(name)) is not None}


def backend(name: str, compute_capability: Sequence[str] = ()) -> Backend:
    """Return the backend of a target, imported now.

    Args:
        name: name of the target, one of `target_names()`.
        compute_capability: compute capabilities of the GPUs to compile for, where the target lets one choose; empty leaves the choice
            to the backend.

    Raises:
        InputError: when there is no such target, it lets one choose no GPU, or it has nothing for one that was chosen.

    Example:
        >>> backend("onnxruntime").NAME
        'onnxruntime'
    """
    if name not in _files():
        choices = (*target_names(), CPU)
        raise InputError(f"`target` (={name!r}) must be one of {', '.join(choices)}{_suggestion(name, choices)}.")
    module = _module(name)
    if not compute_capability:
        return module
    # only a module that offers the choice has this function; no list says which
    if not hasattr(module, "for_capabilities"):
        asked, able = ",".join(compute_capability), [target for target in target_names() if hasattr(_module(target), "for_capabilities")]
        raise InputError(f"`--compute-capability` (={asked!r}) is for target {' or '.join(able)}: leave it out with target {name}.")
    return cast(Backend, module.for_capabilities(compute_capability))


def _files() -> set[str]:
    """Return the names of all targets, in no order; nothing is imported."""
    # file names cannot hold the "-" of a target's name: tensorrt_rtx.py is target "tensorrt-rtx"
    return {module.name.replace("_", "-") for module in pkgutil.iter_modules(targets.__path__)}


def _module(name: str) -> Backend:
    return cast(Backend, importlib.import_module(f"{targets.__name__}.{name.replace('-', '_')}"))


def _suggestion(name: str, choices: Sequence[str]) -> str:
    """Return the target that somebody meant by another name for it, such as "ort"; empty where nothing is close.

    Other names are suggested and not taken, so that a recipe has one name for each target.
    """
    said = str(name).strip().lower()
    meant = next((target for target in target_names() if said in description(target).aliases), None)
    return did_you_mean(name, choices) if meant is None else f" (did you mean {meant!r}?)"


def require_runnable(runtime: Backend) -> None:
    """Raise `TargetUnavailable` unless what is compiled for the target also runs on this machine."""
    runtime.preflight()
    reason = runtime.unavailable_reason()
    if reason is not None:
        raise TargetUnavailable(f"target {runtime.NAME!r} compiles here, but does not run: {reason}.")


def runtimes(target: str, compute_capability: Sequence[str] = ()) -> tuple[Backend, ...]:
    """Return the backends among which a target leaves the choice: its own, or for "cpu" those of the CPU that are installed.

    Args:
        target: name of a target, or "cpu".
        compute_capability: compute capabilities of the GPUs to compile for, as for `backend`.

    Raises:
        InputError: when `backend` raises it.
        TargetUnavailable: when nothing can be compiled for it here.
    """
    if target != CPU:
        only = backend(target, compute_capability)
        # a named target must run, or the error says why; "cpu" takes whatever is installed
        only.preflight()
        return (only,)
    available, missing = [], []
    for name in cpu_target_names():
        try:
            backend(name).preflight()
        except TargetUnavailable as reason:
            # all reasons are collected: where no runtime is installed, the error tells how to get each of them
            missing.append(str(reason))
        else:
            available.append(backend(name, compute_capability))
    if not available:
        raise TargetUnavailable(" ".join(missing))
    return tuple(available)


def require_precision(precision: str, allowed: tuple[str, ...], target: str) -> None:
    """Raise `InputError` unless `precision` is one that `target` runs natively on this machine."""
    if precision not in allowed:
        raise InputError(f"`precision` (={precision!r}) must be one that {target} runs natively on this machine: {', '.join(allowed)}.")


def int8_name(ignored_layers: Collection[str], float_precision: str) -> str:
    """Return how an artifact names its precision: "int8", or "int8+bf16" where layers were kept in float on purpose."""
    return f"int8+{float_precision}" if ignored_layers or float_precision != "f32" else "int8"


def float_part(precision: str) -> str:
    """Return the float precision in an artifact's: "bf16" of "int8+bf16", "f32" of "int8"."""
    return precision.rpartition("+")[2] if "+" in precision else {"int8": "f32"}.get(precision, precision)
