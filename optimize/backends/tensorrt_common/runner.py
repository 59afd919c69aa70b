"""An opened engine: its memory on the GPU is torch's, its work runs on a stream of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.backends.session import gc_paused
from optimize.backends.tensorrt_common.compiler import logger
from optimize.backends.tensorrt_common.layers import EngineLayer, layers
from optimize.errors import OptimizeError

if TYPE_CHECKING:
    from optimize.candidate import Floats

_WARMUP = 2


class Runner:
    """An engine on the GPU, ready to run one batch after the other.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        plan: the engine, serialized.
        device: device of torch, where inputs and outputs live.

    Raises:
        OptimizeError: when the engine cannot be opened here.
    """

    @gc_paused()  # as in `compile_engine`
    def __init__(self, trt: ModuleType, plan: bytes, device: str = "cuda") -> None:
        import torch

        self._trt, self._log, self._device = trt, logger(trt), device
        self._runtime = trt.Runtime(self._log)
        # A plan may carry host code; one of ours never does, and none is run.
        self._runtime.engine_host_code_allowed = False
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        context = None if self._engine is None else self._engine.create_execution_context()
        if context is None:
            raise OptimizeError(f"the engine cannot be opened: {self._reason()}.")
        self._context: Any = context
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        is_input = [self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names]
        self._input, self._output = names[is_input.index(True)], names[is_input.index(False)]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(self, inputs: Floats) -> Floats:
        """Run one batch, (N, C, *spatial) -> (N, K, ...), with N within the engine's profile.

        Raises:
            OptimizeError: when TensorRT refuses the shape, or fails.
        """
        import torch

        with torch.cuda.stream(self._stream):
            on_device = torch.tensor(inputs, device=self._device)  # a copy in any case: the caller's array may be read-only
            if not self._context.set_input_shape(self._input, tuple(inputs.shape)):
                raise OptimizeError(f"the engine does not take inputs of shape {inputs.shape}: {self._reason()}.")
            shape = tuple(self._context.get_tensor_shape(self._output))
            answer = torch.empty(shape, dtype=torch.float32, device=self._device)
            self._context.set_tensor_address(self._input, on_device.data_ptr())
            self._context.set_tensor_address(self._output, answer.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise OptimizeError(f"the engine failed: {self._reason()}.")
            copied = answer.to("cpu")
        # Before `on_device` is freed and `copied` is read.
        self._stream.synchronize()
        return np.asarray(copied.numpy(), dtype=np.float32)

    def layers(self) -> dict[str, EngineLayer]:
        """Return the engine's name of each layer -> what it computes, as the inspector tells."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return layers(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def time_layers(self, inputs: Floats, seconds: float, min_rounds: int) -> dict[str, float]:
        """Return layer -> milliseconds inside one run on `inputs`: the mean of the faster half of the runs."""
        computing, taken = self.layers(), dict[str, list[float]]()
        self._context.profiler = self._profiler(lambda name, ms: taken.setdefault(name, []).append(ms))
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        with gc_paused():
            rounds, end = 0, time.perf_counter() + seconds
            while rounds < _WARMUP + min_rounds or time.perf_counter() < end:
                self.run(inputs)
                rounds += 1
        layer_ms: dict[str, float] = {}
        for name, layer in computing.items():
            # a disturbance only ever slows a run down, so the faster half is what the layer takes
            samples = np.sort(taken.get(name, [])[_WARMUP:])
            if len(samples):
                layer_ms[layer.name] = layer_ms.get(layer.name, 0.0) + float(samples[: (len(samples) + 1) // 2].mean())
        return layer_ms

    def close(self) -> None:
        """Free the engine: the context before the engine, the engine before the runtime."""
        self._context = self._engine = self._runtime = None

    def _profiler(self, report: Callable[[str, float], None]) -> Any:
        trt = self._trt
        methods = {"__init__": lambda own: trt.IProfiler.__init__(own), "report_layer_time": lambda _, name, ms: report(name, ms)}
        return type("Profiler", (trt.IProfiler,), methods)()

    def _reason(self) -> str:
        return self._log.errors[-1].rstrip(".") if self._log.errors else "no reason given"
