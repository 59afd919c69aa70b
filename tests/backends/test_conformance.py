"""Every backend keeps the same promises; one that cannot run here is skipped in its own words."""

from __future__ import annotations

import gc
import re
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.backends import Backend, backend, require_runnable, runs_on_cpu, target_names
from optimize.backends.artifact import Artifact, ArtifactFile
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError, OptimizeError, TargetUnavailable

# Largest difference from torch, as a share of torch's largest output: float rounding, 8 bits of mantissa, 8 bits of integer.
TOLERANCE = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2, "int8": 8e-2}
# What a vendor's compiler writes, which is not the same twice.
COMPILED = {"model.engine", "timings.cache"}


@pytest.fixture(scope="module", params=target_names())
def runtime(request: pytest.FixtureRequest) -> Backend:
    chosen = backend(request.param)
    try:
        require_runnable(chosen)
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    return chosen


@pytest.fixture(scope="module")
def artifacts(runtime: Backend, onnx_file: Path, inputs: Floats, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """One artifact for each precision."""
    folder = tmp_path_factory.mktemp("artifacts")
    made = {precision: runtime.convert(onnx_file, folder / precision, precision) for precision in runtime.precisions()}
    return made | {"int8": runtime.quantize(onnx_file, folder / "int8", inputs)}


def test_matches_torch_at_every_batch_size(runtime: Backend, artifacts: dict[str, Artifact], candidate: Candidate, inputs: Floats) -> None:
    expected = candidate.predict(inputs)
    for precision, artifact in artifacts.items():
        with runtime.build(artifact, threads=2) as session:
            for batch in (1, 3, 8, 40):
                got = session.predict(inputs[:batch])
                assert got.dtype == np.float32
                assert np.abs(got - expected[:batch]).max() <= TOLERANCE[precision] * np.abs(expected).max(), (precision, batch)


def test_layers_run_in_the_precision_that_was_asked_for(runtime: Backend, artifacts: dict[str, Artifact]) -> None:
    for precision, artifact in artifacts.items():
        with runtime.build(artifact) as session:
            layers = runtime.inspect(session)
        if precision == "int8":
            assert {layers[name] for name in ("stem.0", "body", "tail", "head")} == {"int8"}
        else:
            assert set(layers.values()) == {precision}
            assert len(layers) >= 5


def test_kept_layers_run_in_float_and_no_others(runtime: Backend, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    for rest in runtime.precisions():
        artifact = runtime.quantize(onnx_file, tmp_path / rest, inputs, ignored_layers=["body"], float_precision=rest)
        with runtime.build(artifact) as session:
            layers = runtime.inspect(session)
        assert artifact.precision == f"int8+{rest}"
        assert {name: layers[name] for name in ("stem.0", "body", "tail", "head")} == {
            **dict.fromkeys(("stem.0", "tail", "head"), "int8"),
            "body": rest,
        }


def test_every_layer_is_timed(runtime: Backend, artifacts: dict[str, Artifact], inputs: Floats) -> None:
    for precision, artifact in artifacts.items():
        with runtime.build(artifact, threads=1) as session:
            layers = runtime.inspect(session)
        taken = runtime.time_layers(artifact, inputs[:2], threads=1, seconds=0, min_rounds=4)
        assert set(taken) == set(layers), precision
        assert all(0 < ms < 1000 for ms in taken.values())
    with pytest.raises(InputError, match=re.escape("`inputs` (shape (2, 3, 9, 8)) must have shape (N, 3, 8, 8)")):
        runtime.time_layers(artifacts["f32"], np.zeros((2, 3, 9, 8), np.float32), seconds=0)


def test_wrong_shape_names_both_shapes(runtime: Backend, artifacts: dict[str, Artifact]) -> None:
    with runtime.build(artifacts["f32"]) as session:
        for shape in ((2, 3, 9, 8), (2, 1, 8, 8), (3, 8, 8), (0, 3, 8, 8)):
            with pytest.raises(InputError, match=re.escape(f"`inputs` (shape {shape}) must have shape (N, 3, 8, 8) with N >= 1")):
                session.predict(np.zeros(shape, np.float32))
        with pytest.raises(InputError, match=r"`inputs` \(dtype uint8\) must be floats"):
            session.predict(np.zeros((1, 3, 8, 8), np.uint8))


def test_a_manifest_of_another_model_names_both_shapes(runtime: Backend, artifacts: dict[str, Artifact]) -> None:
    for shape in ((3, 9, 8), (3, 8)):
        wrong = replace(artifacts["f32"], input_shape=shape)
        if runs_on_cpu(runtime.NAME):
            told = re.escape(f"says that inputs are ({', '.join(map(str, shape))}), its model takes (3, 8, 8): make it again.")
            with pytest.raises(InputError, match=told):
                runtime.build(wrong)
        else:
            with runtime.build(wrong) as session, pytest.raises(OptimizeError, match="does not take inputs of shape"):
                session.predict(np.zeros((1, *shape), np.float32))


def test_session_frees_the_model_on_exit(runtime: Backend, artifacts: dict[str, Artifact], inputs: Floats) -> None:
    with runtime.build(artifacts["f32"]) as session:
        model = weakref.ref(session._run)
        session.predict(inputs[:1])
    gc.collect()
    assert model() is None
    with pytest.raises(InputError, match="session is closed"):
        session.predict(inputs[:1])
    session.close()


def test_does_not_hand_out_its_buffers(runtime: Backend, artifacts: dict[str, Artifact], inputs: Floats) -> None:
    with runtime.build(artifacts["f32"]) as session:
        first = session.predict(inputs[:1])
        kept = first.copy()
        session.predict(inputs[1:2])
        np.testing.assert_array_equal(first, kept)


def test_takes_inputs_that_are_not_contiguous(runtime: Backend, artifacts: dict[str, Artifact], inputs: Floats) -> None:
    turned = np.ascontiguousarray(inputs[:2].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    with runtime.build(artifacts["f32"]) as session:
        np.testing.assert_array_equal(session.predict(turned), session.predict(inputs[:2]))
        np.testing.assert_array_equal(session.predict(inputs[:2].astype(np.float64)), session.predict(inputs[:2]))


def test_a_copied_folder_is_all_it_takes(runtime: Backend, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    made = runtime.convert(onnx_file, tmp_path / "made", "f32")
    with runtime.build(made) as session:
        expected = session.predict(inputs)
    shutil.move(tmp_path / "made", tmp_path / "copied")
    artifact = Artifact.read(tmp_path / "copied")
    assert (artifact.target, artifact.precision, artifact.input_shape) == (runtime.NAME, "f32", (3, 8, 8))
    with backend(artifact.target).build(artifact) as session:
        np.testing.assert_array_equal(session.predict(inputs), expected)


def test_same_inputs_give_the_same_bytes(
    runtime: Backend, artifacts: dict[str, Artifact], onnx_file: Path, inputs: Floats, tmp_path: Path
) -> None:
    def ours(artifact: Artifact) -> list[ArtifactFile]:
        return [file for file in artifact.files if file.name not in COMPILED]

    for precision in runtime.precisions():
        assert ours(runtime.convert(onnx_file, tmp_path / precision, precision)) == ours(artifacts[precision])
    assert ours(runtime.quantize(onnx_file, tmp_path / "int8", inputs)) == ours(artifacts["int8"])
    assert ours(artifacts["int8"])


def test_refuses_what_it_cannot_do(runtime: Backend, onnx_file: Path, inputs: Floats, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"`precision` \(='f8'\) must be one that {runtime.NAME} runs natively on this machine: f32"):
        runtime.convert(onnx_file, tmp_path, "f8")
    with pytest.raises(InputError, match=r"`inputs` \(shape \(40, 2, 8, 8\)\) must have shape \(N, 3, 8, 8\)"):
        runtime.quantize(onnx_file, tmp_path, inputs[:, :2])


def test_works_in_silence(runtime: Backend, onnx_file: Path, inputs: Floats, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with runtime.build(runtime.quantize(onnx_file, tmp_path, inputs)) as session:
        runtime.inspect(session)
    assert capfd.readouterr() == ("", "")


def test_unknown_target_is_named() -> None:
    with pytest.raises(InputError, match=r"`target` \(='tflite'\) must be one of openvino, onnxruntime, tensorrt"):
        backend("tflite")
