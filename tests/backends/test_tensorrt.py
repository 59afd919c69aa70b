"""Full TensorRT cannot be installed everywhere, and neither variant runs without a GPU: refusals are tested for real, the run path's
control flow against a small stand-in of TensorRT's interface, which computes with ONNX Runtime what an engine would."""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import load

from optimize.backends import backend
from optimize.backends import tensorrt_common as module
from optimize.backends.artifact import Artifact
from optimize.backends.targets.tensorrt import ENGINES
from optimize.backends.tensorrt_common import ENGINE, ONNX, TIMINGS, Engines
from optimize.backends.tensorrt_common.compiler import Engine
from optimize.backends.tensorrt_common.runner import Runner
from optimize.candidate import Floats
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.hardware.gpu import Gpu
from tests.backends.test_tensorrt_typed import run

ADA = {"name": "NVIDIA RTX 4090", "driver": "580.65", "memory_mib": 24564, "compute_capability": "8.9"}
NOWHERE = "no NVIDIA GPU or driver found"


def seen(monkeypatch: pytest.MonkeyPatch, *devices: dict[str, Any], cuda: bool = True) -> None:
    """A machine with these GPUs; torch sees the first of them."""
    for place in ("optimize.backends.tensorrt_common", "optimize.backends.tensorrt_common.binding"):
        monkeypatch.setattr(f"{place}.gpu", lambda: Gpu(devices, "" if devices else NOWHERE))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(devices) and cuda)
    first = devices[0] if devices else ADA
    major, minor = map(int, first["compute_capability"].split("."))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name=first["name"], major=major, minor=minor))


@pytest.mark.parametrize(
    ("devices", "package", "reason"),
    [
        ((), False, f"{NOWHERE} and the package tensorrt is not installed"),
        ((ADA,), False, "the package tensorrt is not installed"),
        ((), True, NOWHERE),
        ((ADA,), True, None),
    ],
)
def test_preflight_takes_a_gpu_and_the_package(
    devices: tuple[Any, ...], package: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, *devices)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if package else None)
    if reason is None:
        backend("tensorrt").preflight()
        return
    instead = "use target tensorrt-rtx to compile without a GPU, or openvino or onnxruntime"
    with pytest.raises(TargetUnavailable, match=rf"^target 'tensorrt' cannot run here: {reason}; {instead}\.$"):
        backend("tensorrt").preflight()


@pytest.mark.parametrize(
    ("target", "devices", "cuda", "obstacle"),
    [
        ("tensorrt", (), False, NOWHERE),
        ("tensorrt", (ADA,), False, "the installed torch has no CUDA, and the engine's memory is torch's"),
        ("tensorrt", (ADA,), True, None),
        ("tensorrt", (ADA | {"compute_capability": "9.0"},), True, None),
        (
            "tensorrt-rtx",
            (ADA | {"compute_capability": "9.0", "name": "NVIDIA H100"},),
            True,
            "TensorRT for RTX has no kernels for compute capability 9.0 (NVIDIA H100)",
        ),
        ("tensorrt-rtx", (ADA,), True, None),
    ],
)
def test_obstacle(target: str, devices: tuple[Any, ...], cuda: bool, obstacle: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, *devices, cuda=cuda)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    engines: Engines = vars(sys.modules[backend(target).__name__])["ENGINES"]  # type: ignore[attr-defined]
    assert engines.unavailable_reason() == obstacle


def test_precisions_are_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in (("7.5", ("f32", "f16")), ("9.0", ("f32", "f16", "bf16"))):
        seen(monkeypatch, ADA | {"compute_capability": capability})
        assert backend("tensorrt").precisions() == expected


class StandIn:
    """TensorRT's interface as far as the run path uses it: a plan is an ONNX file, and an engine runs it in ONNX Runtime on the CPU.

    Args:
        opens: whether an engine can be opened.
        runs: whether it can be run.
    """

    def __init__(self, opens: bool = True, runs: bool = True) -> None:
        self.opens, self.runs, self.calls = opens, runs, list[Any]()

    def module(self, name: str = "tensorrt_stand_in", version: str = "10.1") -> ModuleType:
        made = ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
        made.__dict__.update(
            __version__=version,
            ILogger=type("ILogger", (), {"Severity": severity}),
            IProfiler=type("IProfiler", (), {}),
            TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
            LayerInformationFormat=SimpleNamespace(JSON="json"),
            Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: self._open(log, plan)),
        )
        return made

    def _open(self, log: Any, plan: bytes) -> Any:
        log.log(1, "made up\nreason.")
        self.calls.append("open")
        if not self.opens or plan == b"damaged":
            return None
        return SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda k: ("output", "input")[k],
            get_tensor_mode=lambda name: "in" if name == "input" else "out",
            create_execution_context=lambda: Context(self, plan),
            create_engine_inspector=lambda: SimpleNamespace(get_engine_information=self._inspect),
        )

    def _inspect(self, form: str) -> str:
        assert form == "json"
        kinds = [("kgen", "Half", "[ONNX Layer: body]"), ("Reformat", "Half", ""), ("gemm", "Float", "[ONNX Layer: head]")]
        rows = [
            {"Name": f"k{k}", "LayerType": kind, "Metadata": nodes, "Inputs": [{"Format/Datatype": text}]}
            for k, (kind, text, nodes) in enumerate([*kinds, kinds[0]])
        ]
        return json.dumps({"Layers": rows})


class Context:
    """Reads and writes memory at the addresses that it was given."""

    def __init__(self, stand_in: StandIn, plan: bytes) -> None:
        self.stand_in, self.plan, self.profiler = stand_in, plan, None
        self.address: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.count = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "input"
        self.stand_in.calls.append(("shape", shape))
        self.shape = shape
        return 1 <= shape[0] <= 32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "output"
        return (self.shape[0], 4)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.address[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self.stand_in.calls.append(("execute", stream))
        given = np.ctypeslib.as_array((ctypes.c_float * int(np.prod(self.shape))).from_address(self.address["input"])).reshape(self.shape)
        answer = run(load_bytes(self.plan), given.copy())
        ctypes.memmove(self.address["output"], np.ascontiguousarray(answer).ctypes.data, answer.nbytes)
        self.count += 1
        if self.profiler is not None:
            for name, ms in (("k0", 1.0), ("k1", 9.0), ("k2", 2.0), ("k3", 0.5)):
                # The first two runs are warm-up, and slow.
                self.profiler.report_layer_time(name, ms if self.count > 2 else 100.0)
        return self.stand_in.runs


def load_bytes(plan: bytes) -> Any:
    from onnx import ModelProto

    return ModelProto.FromString(plan)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A machine with one GPU, whose memory is the CPU's."""
    made = StandIn()
    seen(monkeypatch, ADA)
    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: made.calls.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr("optimize.backends.tensorrt_common.runner.Runner", partial(Runner, device="cpu"))
    monkeypatch.setitem(sys.modules, "tensorrt_stand_in", made.module())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def compiled(trt: ModuleType, title: str, model: bytes, capabilities: Any = (), timings: bytes | None = None) -> Engine:
        made.calls.append(("compile", tuple(capabilities), timings))
        if model == b"damaged":
            raise InputError("`model` cannot be read.")
        return Engine(model, b"" if timings is None else timings + b"+")

    monkeypatch.setattr(module, "compile_engine", compiled)
    return made


FULL = replace(ENGINES, variant=replace(ENGINES.variant, package="tensorrt_stand_in"))


def reversioned(artifact: Artifact, **change: str) -> Artifact:
    """The same artifact, sealed on another machine."""
    return replace(artifact, built=dict(artifact.built) | change)


def test_run_path_control_flow_against_a_stand_in_only(stand_in: StandIn, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    assert [file.name for file in made.files] == [ENGINE, ONNX, TIMINGS]
    assert made.built == {
        "flavour": "tensorrt",
        "version": "10.1",
        "compute_capabilities": "8.9",
        "driver": "580.65",
        "gpu": "NVIDIA RTX 4090",
    }
    stand_in.calls.clear()
    inputs = inputs.copy()
    inputs.flags.writeable = False
    with FULL.build(made, threads=3) as session:
        np.testing.assert_allclose(session.predict(inputs), run(load(onnx_file), inputs), rtol=1e-5, atol=1e-5)
        assert FULL.inspect(session) == {"body": "f16", "head": "f32"}
    # Forty inputs are two batches; each is read only after the stream came to its end.
    batches = [("shape", (32, 3, 8, 8)), ("execute", 7), "synchronize", ("shape", (8, 3, 8, 8)), ("execute", 7), "synchronize"]
    assert stand_in.calls == ["open", *batches]
    with pytest.raises(InputError, match="closed"):
        session.predict(inputs)


def test_time_layers_control_flow_against_a_stand_in_only(stand_in: StandIn, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    """Two kernels of one layer add up, movers and warm-up do not count."""
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    found = FULL.time_layers(made, inputs[:1], seconds=0, min_rounds=3)
    assert found == pytest.approx({"body": 1.5, "head": 2.0})
    assert stand_in.calls.count(("execute", 7)) == 5
    with pytest.raises(InputError, match="must have shape"):
        FULL.time_layers(made, inputs[:, :2])


def test_failures_name_the_reason_against_a_stand_in_only(stand_in: StandIn, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    with FULL.build(FULL.convert(onnx_file, tmp_path / "a", "f32")) as session:
        stand_in.runs = False
        with pytest.raises(OptimizeError, match=r"^the engine failed: made up reason\.$"):
            session.predict(inputs)
        with pytest.raises(OptimizeError, match=r"^the engine does not take inputs of shape \(33, 3, 8, 8\): made up reason\.$"):
            session.handle.run(np.zeros((33, 3, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.0"}, "the engine was built by version 10.0, here is 10.1"),
        ({"compute_capabilities": "8.6"}, "the engine is for compute capability 8.6, here is 8.9 (NVIDIA RTX 4090)"),
        ({"driver": "999.1"}, "the engine was built under driver 999.1, here is the older 580.65"),
    ],
)
def test_what_does_not_fit_is_compiled_again_against_a_stand_in_only(
    change: dict[str, str],
    reason: str,
    stand_in: StandIn,
    onnx_file: Path,
    inputs: Floats,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "note", said.append)
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    stand_in.calls.clear()
    with FULL.build(reversioned(made, **change)) as session:
        np.testing.assert_allclose(session.predict(inputs[:2]), run(load(onnx_file), inputs[:2]), rtol=1e-5, atol=1e-5)
    assert said == [f"the engine in {tmp_path / 'a'} does not fit this machine and is compiled again: {reason}."]
    # From the timings of the user's cache, which the first compilation left there; and nothing of the artifact changed.
    assert stand_in.calls[:2] == [("compile", (), b"+"), "open"]
    Artifact.read(tmp_path / "a")


def test_timings_travel_with_the_artifact_against_a_stand_in_only(
    stand_in: StandIn, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    (tmp_path / "a" / TIMINGS).write_bytes(b"sealed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    FULL.build(reversioned(made, version="9")).close()
    assert ("compile", (), b"sealed") in stand_in.calls
    assert [path.read_bytes() for path in (tmp_path / "empty" / "optimize" / "timings").iterdir()] == [b"sealed+"]


def test_an_engine_that_does_not_open_is_compiled_again_against_a_stand_in_only(
    stand_in: StandIn, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "note", said.append)
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    made.main.write_bytes(b"damaged")
    FULL.build(made).close()
    (line,) = said
    assert line.endswith(" does not fit this machine and is compiled again: the engine cannot be opened: made up reason.")
    assert stand_in.calls.count("open") == 2


def test_only_when_that_fails_too_it_is_refused_against_a_stand_in_only(stand_in: StandIn, onnx_file: Path, tmp_path: Path) -> None:
    made = FULL.convert(onnx_file, tmp_path / "a", "f32")
    other = reversioned(made, version="9.0", compute_capabilities="8.6")
    origin = r"^target 'tensorrt': the engine in .*a, version 9\.0 for compute capability 8\.6, cannot run here: .*"
    stand_in.opens = False
    both = r"here is 10\.1; .*for NVIDIA RTX 4090 \(8\.9\) fails: the engine cannot be opened"
    with pytest.raises(TargetUnavailable, match=rf"{origin}{both}"):
        FULL.build(other)
    (tmp_path / "a" / ONNX).write_bytes(b"damaged")
    with pytest.raises(TargetUnavailable, match=rf"{origin} fails: `model` cannot be read\."):
        FULL.build(other)
    with pytest.raises(TargetUnavailable, match=rf"{origin} fails: the artifact holds no model\.onnx\."):
        FULL.build(replace(other, files=other.files[:1]))


def test_for_rtx_the_gpu_that_is_there_is_compiled_for_against_a_stand_in_only(
    stand_in: StandIn, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One it has no kernels for is not: the usual ones are, and what comes out cannot run here."""
    rtx = Engines(replace(FULL.variant, name="tensorrt-rtx", elsewhere=True))
    made = rtx.convert(onnx_file, tmp_path / "a", "f32")
    assert (stand_in.calls[-1], made.built["compute_capabilities"]) == (("compile", ("current",), None), "8.9")
    assert [file.name for file in made.files] == [ENGINE, ONNX]
    rtx.build(reversioned(made, version="9")).close()
    assert ("compile", ("current",), None) in stand_in.calls[1:]
    seen(monkeypatch, ADA | {"compute_capability": "9.0"})
    made = rtx.convert(onnx_file, tmp_path / "b", "f32")
    assert made.built["compute_capabilities"] == "8.0, 8.6, 8.9, 12.0"
    with pytest.raises(TargetUnavailable, match=r"has no kernels for compute capability 9\.0"):
        rtx.build(made)
