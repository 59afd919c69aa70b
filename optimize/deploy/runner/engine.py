"""What both variants of TensorRT share: whether an engine fits this GPU, and how it runs. Their Python interfaces are the same here."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .artifact import Artifact
from .cuda import Gpu
from .errors import Refused
from .manifest import Manifest
from .self_test import Floats

_FLOAT_BYTES = 4


def differences(manifest: Manifest, artifact: Artifact) -> list[str]:
    """Return how this GPU differs from the one that verified the model, in a few words; none where it is of the same kind.

    Raises:
        Refused: when there is no GPU, or the engine was not compiled for its compute capability.
    """
    gpu = Gpu()
    if gpu.capability not in manifest.capabilities:
        made_for = ", ".join(manifest.capabilities) or "none"
        remedy = "use such a GPU, or compress for this one"
        raise Refused(f"the engine is for compute capability {made_for}, here is {gpu.capability} ({gpu.name}): {remedy}.")
    there = artifact.built.get("verified_on", "a GPU that it does not name")
    return [] if there == gpu.name else [f"verified on {there}, here is {gpu.name}"]


def version(package: str) -> str:
    """Import TensorRT and return its version.

    Args:
        package: "tensorrt" or "tensorrt_rtx".
    """
    return str(importlib.import_module(package).__version__)


def open_engine(trt: ModuleType, artifact: Artifact, gpu: Gpu | None = None) -> Callable[[Floats], Floats]:
    """Return a function that runs one batch; calls from several threads wait for each other.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        artifact: the artifact, with the bytes of its engine.
        gpu: the GPU; None for the first one.

    Raises:
        Refused: when the engine cannot be opened here.
    """
    gpu = Gpu() if gpu is None else gpu
    log = _logger(trt)
    runtime = trt.Runtime(log)
    # an engine may carry host code; one of ours never does, and none is run
    runtime.engine_host_code_allowed = False
    engine = runtime.deserialize_cuda_engine(next(iter(artifact.files.values())))
    context = None if engine is None else engine.create_execution_context()
    if context is None:
        raise Refused(f"the engine cannot be opened ({_reason(log)}): install the version of requirements.txt.")
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    is_input = [engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names]
    source, target, lock = names[is_input.index(True)], names[is_input.index(False)], threading.Lock()

    def run(inputs: Floats) -> Floats:
        # the runtime is named here, so that it lives as long as its engine does
        assert runtime is not None
        with lock:
            gpu.enter()
            if not context.set_input_shape(source, tuple(inputs.shape)):
                raise Refused(f"the engine does not take inputs of shape {inputs.shape} ({_reason(log)}): get the bundle again.")
            shape = tuple(context.get_tensor_shape(target))
            addresses = [gpu.allocate(size) for size in (inputs.nbytes, math.prod(shape) * _FLOAT_BYTES)]
            try:
                gpu.upload(addresses[0], inputs)
                for name, address in zip((source, target), addresses, strict=True):
                    context.set_tensor_address(name, address)
                if not context.execute_async_v3(gpu.stream):
                    raise Refused(f"the engine failed ({_reason(log)}): check the GPU with nvidia-smi.")
                return gpu.download(addresses[1], shape)
            finally:
                for address in addresses:
                    gpu.free(address)

    return run


def _logger(trt: ModuleType) -> Any:
    """Return a logger that keeps errors in its list `errors` instead of printing them; what it was given to must not outlive it."""
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    def start(self: Any) -> None:
        trt.ILogger.__init__(self)
        self.errors = []

    def log(self: Any, severity: Any, text: str) -> None:
        if severity in severe:
            self.errors.append(text)

    return type("Logger", (trt.ILogger,), {"__init__": start, "log": log})()


def _reason(log: Any) -> str:
    return " ".join(log.errors[-1].split())[:200].rstrip(".") if log.errors else "no reason given"
