"""The part that both variants of TensorRT share: full TensorRT compiles for this machine's GPU, TensorRT for RTX also for others.

An artifact holds the engine, the ONNX file it was compiled from, and, of full TensorRT, the timings of kernels. Precision is in the ONNX
file, since both compile it strongly typed: half precision is cast (`typed.py`), int8 is a Q/DQ graph (`symmetric.py`). An engine is bound
to a version, to GPUs and to a driver (`binding.py`): where one does not fit, the engine is compiled again from the ONNX file beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from optimize.backends import int8_name, require_precision
from optimize.backends.artifact import Artifact
from optimize.backends.session import Session, require_inputs
from optimize.backends.tensorrt_common import binding, timings
from optimize.backends.tensorrt_common.compiler import Engine, compile_engine
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.hardware.compute_capability import CURRENT, DEFAULT, SUPPORTED, has_bf16
from optimize.hardware.gpu import gpu
from optimize.progress import note

if TYPE_CHECKING:
    from optimize.backends.tensorrt_common.runner import Runner
    from optimize.candidate import Floats

ENGINE, ONNX, TIMINGS = "model.engine", "model.onnx", "timings.cache"


@dataclass(frozen=True)
class TensorRTVariant:
    """TensorRT, or TensorRT for RTX.

    Args:
        name: name of the target.
        package: Python module to import.
        title: name as its maker writes it.
        elsewhere: whether it compiles for named GPUs, without having one.
        instead: end of the error for somebody who cannot compile with it here: what to do instead.
    """

    name: str
    package: str
    title: str
    elsewhere: bool
    instead: str


@dataclass(frozen=True)
class Engines:
    """The verbs of a backend.

    Args:
        variant: full TensorRT, or TensorRT for RTX.
        capabilities: compute capabilities to compile for, as `compute_capability.ordered` gives them. Empty: this machine's GPU; without
            one, those of `compute_capability.DEFAULT` that the model compiles for.
    """

    variant: TensorRTVariant
    capabilities: tuple[str, ...] = ()

    @property
    def NAME(self) -> str:
        """Name of the target."""
        return self.variant.name

    def preflight(self) -> None:
        """Check that the package is installed and, unless it compiles for GPUs elsewhere, that there is a GPU.

        Raises:
            TargetUnavailable: naming what is missing and what to use instead.
        """
        reasons = []
        if not self.variant.elsewhere and not gpu().devices:
            reasons.append(gpu().note)
        if not self._installed():
            reasons.append(f"the package {self.variant.package} is not installed")
        if reasons:
            raise TargetUnavailable(f"target {self.NAME!r} cannot run here: {' and '.join(reasons)}; {self.variant.instead}.")

    def unavailable_reason(self) -> str | None:
        """Return why an artifact of this target cannot run on this machine; None where it can."""
        if not self._installed():
            return f"the package {self.variant.package} is not installed"
        here = binding.device()
        if here is None:
            return gpu().note
        if self.variant.elsewhere and here.capability not in SUPPORTED:
            return f"{self.variant.title} has no kernels for compute capability {here.capability} ({here.name})"
        import torch

        return None if torch.cuda.is_available() else "the installed torch has no CUDA, and the engine's memory is torch's"

    def version(self) -> str:
        """Import TensorRT and return its version."""
        return str(self._trt().__version__)

    def precisions(self) -> tuple[str, ...]:
        """Return ("f32", "f16", "bf16"), without the last where one of the GPUs compiled for does not have it."""
        here = binding.device()
        named = [capability for capability in self.capabilities if capability != CURRENT]
        # what every GPU compiled for can do counts; "current" stands for the GPU that is here
        capabilities = named or ([] if here is None else [here.capability])
        return ("f32", "f16", "bf16") if all(map(has_bf16, capabilities)) else ("f32", "f16")

    def convert(self, onnx: Path, folder: Path, precision: str) -> Artifact:
        """Compile an ONNX file whose layers run in `precision`; its inputs and outputs stay float.

        Raises:
            InputError: when the GPUs compiled for do not have `precision`, or the model does not compile.
        """
        require_precision(precision, self.precisions(), self.NAME)
        import onnx as onnx_format

        from optimize.backends.tensorrt_common.typed import cast

        model = onnx_format.load(onnx)
        return self._save(model if precision == "f32" else cast(model, precision), folder, precision)

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
        """Compile the int8 form of an ONNX file; `cpu_level`, a processor's, is of no concern here.

        Args:
            onnx: file of the float model.
            folder: folder to write into; it is made where it is missing.
            calibration: inputs, (N, C, *spatial); all of them give the ranges of activations.
            ignored_layers: layers that stay in float, by the names of their nodes in the ONNX file.
            float_precision: precision of what is not quantized.
            cpu_level: not used: it is a processor's.

        Raises:
            InputError: when `calibration` does not have the model's input shape, `ignored_layers` names a layer that is not there, or the
                model does not compile.
            TargetUnavailable: when ONNX Runtime, which collects the ranges, is not installed.
        """
        require_precision(float_precision, self.precisions(), self.NAME)
        # said before any work: the import inside would fail only after the model was prepared
        if importlib.util.find_spec("onnxruntime") is None:
            missing = f"int8 for target {self.NAME!r} cannot be made here: onnxruntime, which collects its ranges, is not installed"
            raise TargetUnavailable(f"{missing}; pip install 'optimize[{self.NAME}]'.")
        from optimize.backends.tensorrt_common.symmetric import quantize
        from optimize.backends.tensorrt_common.typed import cast

        model = quantize(onnx, calibration, ignored_layers)
        name = int8_name(ignored_layers, float_precision)
        return self._save(model if float_precision == "f32" else cast(model, float_precision), folder, name)

    def build(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        """Open the engine on this machine's GPU; one that does not fit it is compiled again first. `threads` is of no concern here.

        Raises:
            TargetUnavailable: when it can neither be opened nor compiled again, naming what it was built for and what is here.
        """
        runner = self._open(artifact)
        return Session(artifact.input_shape, runner.run, runner, runner.close)

    def inspect(self, session: Session) -> dict[str, str]:
        """Return layer -> "f32", "f16", "bf16" or "int8", as the engine's inspector tells; layers that only move numbers are left out."""
        precisions: dict[str, str] = {}
        for layer in session.handle.layers().values():
            # an ONNX layer may become several of the engine; the first of them speaks for it
            precisions.setdefault(layer.name, layer.precision)
        return precisions

    def time_layers(
        self, artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
    ) -> dict[str, float]:
        """Return layer -> milliseconds inside one run, by TensorRT's own profiler: the mean of the faster half of the runs.

        Raises:
            InputError: when `inputs` does not have the model's input shape.
            TargetUnavailable: when `build` raises it.
        """
        require_inputs(inputs, artifact.input_shape)
        with self.build(artifact, threads=threads) as session:
            layer_ms: dict[str, float] = session.handle.time_layers(inputs, seconds, min_rounds)
            return layer_ms

    def _installed(self) -> bool:
        return importlib.util.find_spec(self.variant.package) is not None

    def _trt(self) -> ModuleType:
        return importlib.import_module(self.variant.package)

    def _save(self, model: Any, folder: Path, precision: str) -> Artifact:
        here = binding.device()
        written = model.SerializeToString(deterministic=True)
        engine, capabilities = self._compile(written, here)
        folder.mkdir(parents=True, exist_ok=True)
        contents = {ENGINE: engine.plan, ONNX: written, TIMINGS: engine.timings}
        files = [name for name, content in contents.items() if content]
        for name in files:
            (folder / name).write_bytes(contents[name])
        # the manifest names the capability itself: "current" would mean another GPU on the machine that reads it
        if CURRENT in capabilities and here is not None:
            capabilities = (here.capability,)
        return Artifact.save(
            folder,
            target=self.NAME,
            precision=precision,
            input_shape=tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]),
            runtime=self.version(),
            files=files,
            built=binding.built_on(self.NAME, self.version(), capabilities, here),
        )

    def _compile(self, model: bytes, here: binding.Device | None) -> tuple[Engine, tuple[str, ...]]:
        """Return the engine, and what it was compiled for."""
        if not self.variant.elsewhere:
            return self._timed(model, here, b""), (CURRENT,)
        if self.capabilities:
            return compile_engine(self._trt(), self.variant.title, model, self.capabilities), self.capabilities
        if here is not None and here.capability in SUPPORTED:
            return compile_engine(self._trt(), self.variant.title, model, (CURRENT,)), (CURRENT,)
        try:
            # no GPU here and none named: compile for all common ones at once, and where that fails for those that take the model alone
            return compile_engine(self._trt(), self.variant.title, model, DEFAULT), DEFAULT
        except InputError:
            accepted = tuple(capability for capability in DEFAULT if self._compiles(model, capability))
            if not accepted:
                raise
        note(f"{self.variant.title} compiles the model for compute capability {', '.join(accepted)} only")
        return compile_engine(self._trt(), self.variant.title, model, accepted), accepted

    def _compiles(self, model: bytes, capability: str) -> bool:
        try:
            compile_engine(self._trt(), self.variant.title, model, (capability,))
        except InputError:
            return False
        return True

    def _timed(self, model: bytes, here: binding.Device | None, earlier: bytes) -> Engine:
        """Compile for this GPU with the timings of its kernels, from the user's cache or else `earlier`, and keep the new ones."""
        name = f"{self.NAME}-{self.version()}-{binding.NONE if here is None else here.name}"
        engine = compile_engine(self._trt(), self.variant.title, model, timings=timings.recall(name) or earlier)
        timings.keep(name, engine.timings)
        return engine

    def _open(self, artifact: Artifact) -> Runner:
        from optimize.backends.tensorrt_common.runner import Runner

        here, problem = binding.device(), self.unavailable_reason()
        if problem is not None or here is None:
            raise TargetUnavailable(f"{_origin(artifact)} cannot run here: {problem}.")
        trt = self._trt()
        reasons = binding.mismatches(artifact.built, self.version(), here)
        if not reasons:
            try:
                return Runner(trt, artifact.main.read_bytes())
            except OptimizeError as refusal:
                # version, capability and driver fit, and it still does not open: compiling again is tried for that, too
                reasons = (str(refusal).rstrip("."),)
        # an engine cannot be carried over, but the ONNX file beside it holds the same numbers in the same precision
        note(f"the engine in {artifact.folder} does not fit this machine and is compiled again: {'; '.join(reasons)}.")
        try:
            return Runner(trt, self._again(artifact, here).plan)
        except (OptimizeError, OSError) as refusal:
            said = f"{'; '.join(reasons)}; compiling it again for {here.name} ({here.capability}) fails: {refusal}"
            raise TargetUnavailable(f"{_origin(artifact)} cannot run here: {said}") from None

    def _again(self, artifact: Artifact, here: binding.Device) -> Engine:
        """Compile the artifact's ONNX file for the GPU of this machine; only sealed files are read."""
        sealed = {file.name for file in artifact.files}
        if ONNX not in sealed:
            raise OptimizeError(f"the artifact holds no {ONNX}.")
        model = (artifact.folder / ONNX).read_bytes()
        if self.variant.elsewhere:
            return compile_engine(self._trt(), self.variant.title, model, (CURRENT,))
        # the artifact's own timings of kernels let the second compilation choose the kernels of the first, where the GPU is of the same
        # kind
        return self._timed(model, here, (artifact.folder / TIMINGS).read_bytes() if TIMINGS in sealed else b"")


def _origin(artifact: Artifact) -> str:
    built = artifact.built
    for_what = f"compute capability {built.get('compute_capabilities', binding.NONE)}"
    return f"target {artifact.target!r}: the engine in {artifact.folder}, version {built.get('version', binding.NONE)} for {for_what},"
