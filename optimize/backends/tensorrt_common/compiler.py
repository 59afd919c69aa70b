"""ONNX -> the bytes of an engine. The Python interfaces of both variants of TensorRT are the same as far as they are used here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from optimize.backends.session import CHUNK, gc_paused
from optimize.errors import InputError
from optimize.hardware.compute_capability import CURRENT

PROFILE = (1, 8, CHUNK)
"""Batch sizes that an engine takes at least, is tuned for, and takes at most: a session never hands it more."""

_LINE = 300


@dataclass(frozen=True)
class Engine:
    """Result of a compilation.

    Args:
        plan: the engine, serialized. Two compilations of the same model differ in their bytes.
        timings: timings of kernels on this GPU, for the next compilation; empty where the variant times none.
    """

    plan: bytes
    timings: bytes = b""


def logger(trt: ModuleType) -> Any:
    """Return a logger that keeps errors in its list `errors` instead of printing them; what it was given to must not outlive it."""
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    def start(self: Any) -> None:
        trt.ILogger.__init__(self)
        self.errors = []

    def log(self: Any, severity: Any, message: str) -> None:
        if severity in severe:
            self.errors.append(" ".join(message.split())[:_LINE])

    # Made here because its base class is known only once the runtime is imported.
    return type("Logger", (trt.ILogger,), {"__init__": start, "log": log})()


# TensorRT holds a lock while it calls the logger. A collection in that call may free an older builder, which waits for it forever.
@gc_paused()
def compile_engine(trt: ModuleType, title: str, model: bytes, capabilities: Sequence[str] = (), timings: bytes | None = None) -> Engine:
    """Compile an ONNX model whose batch is free, or fixed.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        title: the compiler's name, for errors.
        model: the ONNX file; its element types are the precisions that layers run in.
        capabilities: GPUs to compile for, in one engine; empty where the variant compiles for this machine's GPU alone.
        timings: timings of an earlier compilation, or b""; None where the variant keeps none.

    Raises:
        InputError: when the compiler cannot read the model, or cannot compile it for these GPUs.
    """
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        said = "; ".join(_parser_error(parser.get_error(k)) for k in range(parser.num_errors))
        raise InputError(f"`model` cannot be read by {title} ({said[:_LINE]}): export it without that operation, or use another target.")
    settings = builder.create_builder_config()
    settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else an engine does not tell what its layers run in
    settings.clear_flag(trt.BuilderFlag.TF32)  # f32 is to be f32: the baseline that the other precisions are judged by
    settings.add_optimization_profile(_profile(builder, network, title))
    if capabilities:
        settings.num_compute_capabilities = len(capabilities)
        for position, capability in enumerate(capabilities):
            settings.set_compute_capability(_member(trt, capability), position)
    if timings is not None:
        _recall(settings, timings)
    plan = builder.build_serialized_network(network, settings)
    if plan is None:
        where = f" for compute capability {', '.join(capabilities)}" if capabilities else ""
        said = log.errors[-1] if log.errors else "no reason given"
        raise InputError(f"`model` cannot be compiled by {title}{where} ({said}): leave that out, or use another precision or target.")
    return Engine(bytes(plan), b"" if timings is None else bytes(settings.get_timing_cache().serialize()))


def _parser_error(error: Any) -> str:
    """Return a parser's error on one line, with the node that it is about."""
    return f"{error.node_operator()} {error.node_name()!r}: {' '.join(error.desc().split())}"


def _strongly_typed(trt: ModuleType) -> int:
    """Return the flag under which layers run in the precision of the file; without it TensorRT would choose by itself."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    # newer versions know strongly typed networks only, and have no flag for it
    return 0 if flag is None else 1 << int(flag)


def _profile(builder: Any, network: Any, title: str) -> Any:
    profile = builder.create_optimization_profile()
    tensor = network.get_input(0)
    batch, *shape = tuple(tensor.shape)
    if network.num_inputs != 1 or any(size < 1 for size in shape):
        raise InputError(
            f"`model` (first input {tensor.name!r} of shape {(batch, *shape)}) must have one input whose batch alone is free"
            f" to be compiled by {title}: export it with fixed sizes."
        )
    # -1 is a free batch; one written into the model is its least, its usual and its largest size
    sizes = PROFILE if batch == -1 else (batch,) * 3
    profile.set_shape(tensor.name, *((size, *shape) for size in sizes))
    return profile


def _member(trt: ModuleType, capability: str) -> Any:
    name = "CURRENT" if capability == CURRENT else f"SM{capability.replace('.', '')}"
    member = getattr(trt.ComputeCapability, name, None)
    if member is None:
        raise InputError(f"`compute_capability` (={capability!r}) is not known to the installed version ({trt.__version__}): leave it out.")
    return member


def _recall(settings: Any, timings: bytes) -> None:
    """Start from earlier timings; those of another version or GPU are refused by TensorRT, which then starts afresh."""
    if not settings.set_timing_cache(settings.create_timing_cache(timings), False):
        settings.set_timing_cache(settings.create_timing_cache(b""), False)
