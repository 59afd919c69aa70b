"""TensorRT runs on no machine of these tests: the order of calls and the copies are tested against stand-ins of the driver and of TensorRT,
whose memory is this process's own."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimize.deploy.runner import cuda, engine
from optimize.deploy.runner.artifact import Artifact
from optimize.deploy.runner.cuda import Gpu
from optimize.deploy.runner.errors import Refused
from optimize.deploy.runner.manifest import Manifest
from optimize.deploy.runner.runtimes import runtime, tensorrt, tensorrt_rtx


class Driver:
    """The calls of the driver's library, on the memory of this process."""

    def __init__(self, capability: tuple[int, int] = (8, 9), fails: str = "") -> None:
        self.capability, self.fails = capability, fails
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in CALLS:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.fails:
                return 999
            CALLS[name](self, *arguments)
            return 0

        return call


def put(pointer: Any, value: int) -> None:
    pointer._obj.value = value


def allocate(driver: Driver, pointer: Any, size: Any) -> None:
    block = ctypes.create_string_buffer(size.value)
    driver.memory[ctypes.addressof(block)] = block
    put(pointer, ctypes.addressof(block))


def name_of(driver: Driver, buffer: Any, size: int, device: Any) -> None:
    buffer.value = b"NVIDIA RTX 4090"


CALLS: dict[str, Any] = {
    "cuInit": lambda driver, flags: None,
    "cuDeviceGet": lambda driver, pointer, ordinal: put(pointer, 0),
    "cuDeviceGetName": name_of,
    "cuDeviceGetAttribute": lambda driver, pointer, number, device: put(pointer, driver.capability[number - 75]),
    "cuDevicePrimaryCtxRetain": lambda driver, pointer, device: put(pointer, 11),
    "cuCtxSetCurrent": lambda driver, context: None,
    "cuStreamCreate": lambda driver, pointer, flags: put(pointer, 12),
    "cuMemAlloc_v2": allocate,
    "cuMemFree_v2": lambda driver, address: driver.memory.pop(address.value),
    "cuMemcpyHtoDAsync_v2": lambda driver, address, source, size, stream: ctypes.memmove(address.value, source.value, size.value),
    "cuMemcpyDtoHAsync_v2": lambda driver, place, address, size, stream: ctypes.memmove(place.value, address.value, size.value),
    "cuStreamSynchronize": lambda driver, stream: None,
}


class Context:
    """Runs (N, 2) -> (N, 1): the sum of each row."""

    def __init__(self, log: Any, fails: str) -> None:
        self.log, self.fails, self.addresses = log, fails, dict[str, int]()
        self.shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "input" and self.fails != "shape"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 1)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 12
        if self.fails == "run":
            self.log.log("error", "out of\nmemory.")
            return False
        count = self.shape[0]
        inputs = np.ctypeslib.as_array(ctypes.cast(self.addresses["input"], ctypes.POINTER(ctypes.c_float)), (count, 2))
        outputs = np.ctypeslib.as_array(ctypes.cast(self.addresses["output"], ctypes.POINTER(ctypes.c_float)), (count, 1))
        outputs[:] = inputs.sum(1, keepdims=True)
        return True


class TensorRT:
    """What the runner uses of TensorRT's interface."""

    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR="internal", ERROR="error")

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.host_code: list[bool] = []

    def Runtime(self, log: Any) -> Any:
        names = ["input", "output"]

        def deserialize(plan: bytes) -> Any:
            self.host_code.append(runtime.engine_host_code_allowed)
            if plan != b"plan":
                log.log("warning", "not said")
                log.log("error", "wrong magic tag")
                return None
            return SimpleNamespace(
                create_execution_context=lambda: Context(log, self.fails),
                num_io_tensors=2,
                get_tensor_name=names.__getitem__,
                get_tensor_mode={"input": "in", "output": "out"}.__getitem__,
            )

        runtime = SimpleNamespace(deserialize_cuda_engine=deserialize, engine_host_code_allowed=True)
        return runtime


def artifact(plan: bytes = b"plan", **built: str) -> Artifact:
    return Artifact("tensorrt", "f16", (2,), {"model.engine": plan}, None, built, {}, None, {}, {}, (0.0, 1.0))


def manifest(*capabilities: str) -> Manifest:
    return Manifest({}, {}, "tensorrt", "f16", None, "model", "", "10.0", None, None, capabilities, None, (0.0, 0.0))


def opened(trt: TensorRT, driver: Driver, plan: bytes = b"plan") -> Any:
    return engine.open_engine(trt, artifact(plan), Gpu(driver))  # type: ignore[arg-type]


def test_inputs_go_to_the_gpu_and_outputs_come_back() -> None:
    trt, driver = TensorRT(), Driver()
    run = opened(trt, driver)
    for count in (1, 5, 32):
        inputs = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
        np.testing.assert_array_equal(run(inputs), inputs.sum(1, keepdims=True))
    assert driver.memory == {}, "all memory is given back"
    assert trt.host_code == [False], "an engine may carry host code, and none is run"
    assert driver.calls[-4:] == ["cuMemcpyDtoHAsync_v2", "cuStreamSynchronize", "cuMemFree_v2", "cuMemFree_v2"]


@pytest.mark.parametrize(
    ("fails", "words"), [("shape", "does not take inputs of shape (1, 2) (no reason given)"), ("run", "failed (out of memory)")]
)
def test_what_the_engine_refuses_is_said_and_memory_given_back(fails: str, words: str) -> None:
    driver = Driver()
    with pytest.raises(Refused) as problem:
        opened(TensorRT(fails), driver)(np.zeros((1, 2), np.float32))
    assert words in str(problem.value)
    assert driver.memory == {}


def test_an_engine_that_does_not_open_says_why() -> None:
    with pytest.raises(Refused, match=r"cannot be opened \(wrong magic tag\)"):
        opened(TensorRT(), Driver(), b"other")


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuStreamCreate", "cuMemAlloc_v2"])
def test_a_driver_that_fails_names_its_call(call: str) -> None:
    with pytest.raises(Refused, match=rf"\({call}, code 999\)"):
        opened(TensorRT(), Driver(fails=call))(np.zeros((1, 2), np.float32))


def test_a_gpu_of_another_capability_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Gpu", lambda: Gpu(Driver()))
    with pytest.raises(Refused, match=r"is for compute capability 8\.0, 9\.0, here is 8\.9 \(NVIDIA RTX 4090\)"):
        engine.differences(manifest("8.0", "9.0"), artifact())
    assert engine.differences(manifest("8.0", "8.9"), artifact(verified_on="NVIDIA RTX 4090")) == []
    assert engine.differences(manifest("8.9"), artifact(verified_on="NVIDIA L40")) == ["verified on NVIDIA L40, here is NVIDIA RTX 4090"]


def test_a_machine_without_a_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", missing)
    with pytest.raises(Refused, match="needs an NVIDIA GPU, and its driver"):
        Gpu()


def test_targets_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert runtime("tensorrt") is tensorrt
    assert runtime("tensorrt-rtx") is tensorrt_rtx
    with pytest.raises(Refused, match=r"this runner knows onnxruntime, openvino, tensorrt, tensorrt_rtx"):
        runtime("quantum")
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(__version__="10.9"))
    assert (tensorrt.version(), tensorrt_rtx.version()) == ("10.9", "10.9")
