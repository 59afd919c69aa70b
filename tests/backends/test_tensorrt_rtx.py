"""Engines that TensorRT for RTX really compiles, without a GPU; nothing here runs one."""

from __future__ import annotations

import gc
import importlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper

from optimize.backends import backend, require_runnable
from optimize.backends.artifact import Artifact
from optimize.backends.targets.tensorrt_rtx import ENGINES, for_capabilities
from optimize.backends.tensorrt_common import ENGINE, ONNX, Engines, compiler
from optimize.backends.tensorrt_common.compiler import compile_engine
from optimize.backends.tensorrt_common.runner import Runner
from optimize.backends.tensorrt_common.typed import cast
from optimize.candidate import Floats
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.hardware.gpu import Gpu, gpu
from tests.backends.test_tensorrt_typed import run
from tests.conftest import require

NOWHERE = "no NVIDIA GPU or driver found"
TITLE = "TensorRT for RTX"


@pytest.fixture(scope="module")
def trt() -> Any:
    require("tensorrt-rtx")
    return importlib.import_module("tensorrt_rtx")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("optimize.backends.tensorrt_common", "optimize.backends.tensorrt_common.binding"):
        monkeypatch.setattr(f"{place}.gpu", lambda: Gpu((), NOWHERE))


def linear(name: str = "y", weight: tuple[int, int] = (5, 3)) -> Any:
    """x (N, 3) -> Gemm -> y, in f32."""
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in (("x", ("n", 3)), (name, None))]
    weights = [numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    made = helper.make_graph([helper.make_node("Gemm", ["x", "w"], [name], "f", transB=1)], "g", ends[:1], ends[1:], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_it_compiles_where_nothing_can_run(trt: Any) -> None:
    runtime = backend("tensorrt-rtx")
    runtime.preflight()
    assert ENGINES.unavailable_reason() == NOWHERE
    assert (runtime.version(), runtime.precisions()) == (trt.__version__, ("f32", "f16", "bf16"))


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16", "int8", "int8+f16", "int8+bf16"])
def test_an_artifact_of_each_precision(precision: str, trt: Any, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    """Residual sum, transposed convolution, linear layer; the engine's bytes are TensorRT's, the ONNX beside it is ours."""
    runtime = backend("tensorrt-rtx", ("8.9",))
    if precision.startswith("int8"):
        made = runtime.quantize(onnx_file, tmp_path / "a", inputs[:8], float_precision=precision.partition("+")[2] or "f32")
    else:
        made = runtime.convert(onnx_file, tmp_path / "a", precision)
    assert (made.target, made.precision, made.runtime, made.input_shape) == ("tensorrt-rtx", precision, trt.__version__, (3, 8, 8))
    assert [file.name for file in made.files] == [ENGINE, ONNX]
    assert made.main.read_bytes()[:4] == b"vtrt"
    built = {"flavour": "tensorrt-rtx", "version": trt.__version__, "compute_capabilities": "8.9", "driver": "none", "gpu": "none"}
    assert Artifact.read(tmp_path / "a").built == built
    if "bf16" not in precision:  # ONNX Runtime's CPU has no convolution in bf16
        expected = run(load(onnx_file), inputs[:8])
        assert np.abs(run(load(made.folder / ONNX), inputs[:8]) - expected).max() <= 8e-2 * np.abs(expected).max()


def test_f32_is_the_exported_graph_itself(trt: Any, onnx_file: Path, tmp_path: Path) -> None:
    made = for_capabilities(("8.9",)).convert(onnx_file, tmp_path, "f32")
    assert (made.folder / ONNX).read_bytes() == onnx_file.read_bytes()


def test_by_default_all_usual_gpus_in_one_engine(trt: Any, onnx_file: Path, tmp_path: Path) -> None:
    made = backend("tensorrt-rtx").convert(onnx_file, tmp_path, "f16")
    assert made.built["compute_capabilities"] == "8.0, 8.6, 8.9, 12.0"


def test_by_default_only_what_the_model_compiles_for(trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """7.5 has no f32 matrix product."""
    monkeypatch.setattr("optimize.backends.tensorrt_common.DEFAULT", ("7.5", "8.6", "8.9"))
    (tmp_path / "m.onnx").write_bytes(linear().SerializeToString())
    made = ENGINES.convert(tmp_path / "m.onnx", tmp_path / "a", "f32")
    assert made.built["compute_capabilities"] == "8.6, 8.9"
    monkeypatch.setattr("optimize.backends.tensorrt_common.DEFAULT", ("7.5",))
    with pytest.raises(InputError, match=r"cannot be compiled by TensorRT for RTX for compute capability 7\.5 \("):
        ENGINES.convert(tmp_path / "m.onnx", tmp_path / "a", "f32")


def test_what_does_not_compile_is_named_in_one_line(trt: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(linear().SerializeToString())
    with pytest.raises(InputError, match=r"for compute capability 7\.5 \(.*FP32 GEMM is not supported.*\): leave that out") as raised:
        for_capabilities(("7.5",)).convert(tmp_path / "m.onnx", tmp_path / "a", "f32")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "a").exists()


def test_what_does_not_parse_is_named_in_one_line(trt: Any) -> None:
    model = linear()
    model.graph.node[0].op_type = "Unheard"
    with pytest.raises(InputError, match=r"^`model` cannot be read by TensorRT for RTX \(.*Unheard.*\): export it without") as raised:
        compile_engine(trt, TITLE, model.SerializeToString(), ("8.9",))
    assert "\n" not in str(raised.value)


def test_one_engine_takes_every_batch_of_a_session(trt: Any, onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile as TensorRT itself has it after it was set."""
    kept: list[Any] = []
    make = compiler._profile
    monkeypatch.setattr(compiler, "_profile", lambda *arguments: kept.append(make(*arguments)) or kept[-1])
    plan = compile_engine(trt, TITLE, onnx_file.read_bytes(), ("8.9",)).plan
    assert [tuple(shape) for shape in kept[0].get_shape("input")] == [(1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8)]
    assert len(plan) > 1000


def test_nothing_is_collected_while_the_compiler_may_call_its_logger(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection in that call frees builders in circles of references, which waits forever for the lock that the caller holds."""
    states: list[bool] = []
    real = compiler.logger

    def logger(module: Any) -> Any:
        states.append(gc.isenabled())
        return real(module)

    monkeypatch.setattr(compiler, "logger", logger)
    compile_engine(trt, TITLE, linear().SerializeToString(), ("8.9",))
    assert (states, gc.isenabled()) == ([False], True)


def test_a_batch_that_is_fixed_stays_fixed(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    kept: list[Any] = []
    make = compiler._profile
    monkeypatch.setattr(compiler, "_profile", lambda *arguments: kept.append(make(*arguments)) or kept[-1])
    compile_engine(trt, TITLE, model.SerializeToString(), ("8.9",))
    assert {tuple(shape) for shape in kept[0].get_shape("x")} == {(4, 3)}


def test_a_size_that_is_free_is_refused(trt: Any) -> None:
    model = linear()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"
    with pytest.raises(InputError, match=r"must have one input whose batch alone is free"):
        compile_engine(trt, TITLE, model.SerializeToString(), ("8.9",))


def test_the_onnx_is_the_same_each_time_the_engine_is_not_promised_to_be(trt: Any, onnx_file: Path, tmp_path: Path) -> None:
    """What TensorRT writes differs from one compilation to the next, in most of its bytes; nothing here can change that."""
    runtime = for_capabilities(("8.9",))
    made = [runtime.convert(onnx_file, tmp_path / name, "bf16") for name in ("a", "b")]
    assert made[0].files[1] == made[1].files[1]
    assert abs(made[0].files[0].size_bytes - made[1].files[0].size_bytes) < 0.01 * made[0].files[0].size_bytes


def test_bf16_only_where_every_gpu_has_it(trt: Any, onnx_file: Path, tmp_path: Path) -> None:
    old = for_capabilities(("7.5", "8.6"))
    assert old.precisions() == ("f32", "f16")
    with pytest.raises(InputError, match=r"`precision` \(='bf16'\) must be one that tensorrt-rtx runs natively on this machine: f32, f16"):
        old.convert(onnx_file, tmp_path, "bf16")


def test_this_machines_gpu_cannot_be_compiled_for_where_there_is_none(trt: Any) -> None:
    if gpu().devices:
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"for compute capability current \("):
        compile_engine(trt, TITLE, linear().SerializeToString(), ("current",))


def test_capabilities_are_handed_in_and_checked() -> None:
    assert for_capabilities(("12.0", "8.6")) == replace(ENGINES, capabilities=("8.6", "12.0"))
    chosen = backend("tensorrt-rtx", ("8.9",))
    assert isinstance(chosen, Engines)
    assert (chosen.NAME, chosen.capabilities) == ("tensorrt-rtx", ("8.9",))
    with pytest.raises(InputError, match=r"`compute_capability` \(='9\.0'\) must be some of 7\.5"):
        for_capabilities(("9.0",))


@pytest.mark.parametrize("target", ["openvino", "onnxruntime", "tensorrt"])
def test_other_targets_have_nothing_to_choose(target: str) -> None:
    with pytest.raises(InputError, match=rf"`--compute-capability` \(='8.6,8.9'\) is for target tensorrt-rtx: .* {target}\."):
        backend(target, ("8.6", "8.9"))


def test_an_artifact_does_not_open_without_a_gpu(trt: Any, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    made = for_capabilities(("8.6", "8.9")).convert(onnx_file, tmp_path / "a", "f16")
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = Artifact.read(tmp_path / "b")
    what = rf"the engine in .*b, version {made.runtime} for compute capability 8\.6, 8\.9,"
    line = rf"^target 'tensorrt-rtx': {what} cannot run here: {NOWHERE}\.$"
    for call in (lambda: backend("tensorrt-rtx").build(moved), lambda: backend("tensorrt-rtx").time_layers(moved, inputs)):
        with pytest.raises(TargetUnavailable, match=line):
            call()


def test_opening_it_all_the_same_tells_what_tensorrt_said(trt: Any) -> None:
    """TensorRT's own runtime, which opens nothing without a driver."""
    if gpu().devices:
        pytest.skip("there is a GPU")
    plan = compile_engine(trt, TITLE, linear().SerializeToString(), ("8.9",)).plan
    with pytest.raises(OptimizeError, match=r"^the engine cannot be opened: .*(?i:cuda).*\.$"):
        Runner(trt, plan)


def test_int8_without_onnxruntime_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Path, inputs: Floats, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(TargetUnavailable, match=r"onnxruntime, which .* is not installed; pip install 'optimize\[tensorrt-rtx\]'"):
        ENGINES.quantize(onnx_file, tmp_path, inputs)


def test_preflight_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TargetUnavailable, match=r"tensorrt_rtx is not installed; pip install 'optimize\[tensorrt-rtx\]'"):
        backend("tensorrt-rtx").preflight()
    assert ENGINES.unavailable_reason() == "the package tensorrt_rtx is not installed"


def test_timings_are_handed_to_the_compiler_and_back(trt: Any) -> None:
    """The calls that full TensorRT keeps its timings by; this variant has them still, with nothing inside, and warns of it."""
    compiled = partial(compile_engine, trt, TITLE, linear().SerializeToString(), ("8.9",))
    with pytest.warns(DeprecationWarning, match="no-ops"):
        first = compiled(b"")
    with pytest.warns(DeprecationWarning, match="no-ops"):
        again = compiled(first.timings)
    assert first.timings
    assert again.timings == first.timings
    assert not compiled().timings


def test_compiling_is_silent(trt: Any, onnx_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compile_engine(trt, TITLE, cast(load(onnx_file), "f16").SerializeToString(), ("8.9",))
    assert capfd.readouterr() == ("", "")


def test_what_only_compiles_is_not_runnable(trt: Any) -> None:
    with pytest.raises(TargetUnavailable, match=rf"^target 'tensorrt-rtx' compiles here, but does not run: {NOWHERE}\.$"):
        require_runnable(backend("tensorrt-rtx"))
