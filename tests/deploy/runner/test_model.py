"""`Model.predict` gives the bits that the run's own path gives, for both runtimes, with any number of images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.data.preprocessing import Preprocessing
from optimize.deploy.runner.errors import Refused, WrongInput
from optimize.deploy.runner.model import Model
from tests.deploy.runner import handmade
from tests.deploy.runner.handmade import OVERLAPPING, STORED, WITH_BACKGROUND, artifact_sha256, edit, entry, seal

PADDED = {**STORED, "pad": 2}


def as_openvino(folder: Path, precision: str = "f32") -> Path:
    """The same bundle for OpenVINO."""
    model = folder / "model"
    network = openvino.Core().read_model(model / "model.onnx")
    (model / "model.onnx").unlink()
    openvino.save_model(network, model / "model.xml", compress_to_fp16=False)
    version = openvino.get_version()

    def change(said: dict[str, Any]) -> None:
        said.update(target="openvino", precision=precision, runtime=version)
        said["files"] = [entry(model / "model.xml"), entry(model / "model.bin")]
        said["use"]["options"] = {"INFERENCE_PRECISION_HINT": precision}

    edit(model / "artifact.json", change)
    with backend("openvino").build(Artifact.read(model), threads=1) as session, np.load(model / "golden.npz") as file:
        inputs = file["inputs"]
        np.savez(model / "golden.npz", inputs=inputs, outputs=session.predict(inputs))
    edit(model / "artifact.json", lambda said: said.update(golden=entry(model / "golden.npz")))
    edit(folder / "report.json", lambda report: report.update(target="openvino", artifact={"files": [entry(model / "model.xml")]}))
    seal(folder)
    return folder


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "output", [handmade.CLASSIFICATION, WITH_BACKGROUND, {**OVERLAPPING, "threshold": 0.0}], ids=lambda said: said["task"]
)
def test_predictions_are_those_of_the_run(target: str, output: dict[str, Any], tmp_path: Path) -> None:
    shape = (3, 12, 12)
    folder = handmade.bundle(tmp_path / "cells", shape=shape, output=output, preprocessing=PADDED)
    folder = as_openvino(folder) if target == "openvino" else folder
    images = np.random.default_rng(5).integers(0, 256, (71, 8, 8, 3), dtype=np.uint8)
    of_the_run = Preprocessing((0.5,), (0.25,), pad=2)
    with backend(target).build(Artifact.read(folder / "model"), threads=1) as session, Model(folder) as model:
        assert model.input_shape == shape
        assert model.stored_shape == (8, 8, 3)
        for count in (1, 31, 32, 33, 71):
            outputs = model.predict(images[:count])
            expected = of_the_run.inner(session.predict(of_the_run(images[:count])))
            assert outputs.dtype == np.float32
            assert outputs.shape == expected.shape
            assert outputs.tobytes() == expected.tobytes()
        # and of inputs that are preprocessed already
        assert model.run(of_the_run(images)).tobytes() == session.predict(of_the_run(images)).tobytes()
        decided = model.decide(outputs)
        assert len(decided) == 71
        assert model.probabilities(outputs).shape == outputs.shape


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_threads_get_their_own_answers(target: str, tmp_path: Path) -> None:
    folder = handmade.bundle(tmp_path / "cells")
    folder = as_openvino(folder) if target == "openvino" else folder
    images = np.random.default_rng(5).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    with Model(folder) as model, ThreadPoolExecutor(8) as pool:
        expected = [model.predict(images[place : place + 1]) for place in range(64)]
        for _ in range(5):
            found = list(pool.map(lambda place: model.predict(images[place : place + 1]), range(64)))
            assert all(one.tobytes() == other.tobytes() for one, other in zip(found, expected, strict=True))


def test_the_runtime_gets_the_options_and_threads_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    real = onnxruntime.InferenceSession

    def watch(model: Any, options: Any, providers: list[str]) -> Any:
        seen.append((type(model), options.intra_op_num_threads, options.inter_op_num_threads, options.execution_mode, tuple(providers)))
        return real(model, options, providers=providers)

    folder = handmade.bundle(tmp_path / "cells")
    monkeypatch.setattr(onnxruntime, "InferenceSession", watch)
    Model(folder).close()
    Model(folder, threads=3).close()
    sequential = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert seen == [(bytes, threads, 1, sequential, ("CPUExecutionProvider",)) for threads in (1, 3)]


def test_openvino_takes_the_hint_of_the_artifact_and_no_other_option(tmp_path: Path) -> None:
    folder = as_openvino(handmade.bundle(tmp_path / "cells"))
    Model(folder, threads=2).close()
    for options in ({}, {"INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": "/tmp/x"}):
        edit(folder / "model" / "artifact.json", lambda said, options=options: said["use"].update(options=options))
        seal(folder)
        with pytest.raises(Refused, match="states options"):
            Model(folder)


def test_a_closed_model_and_wrong_calls_say_so(sealed: Path) -> None:
    model = Model(sealed)
    for inputs, words in (
        (np.zeros((1, 1, 8, 7), np.float32), "required is (N, 1, 8, 8)"),
        (np.zeros((1, 1, 8, 8), np.int64), "required are floats"),
        (np.full((1, 1, 8, 8), np.nan, np.float32), "not finite"),
        ([[1.0], [1.0, 2.0]], "cannot be made an array"),
        (None, "required is (N, 1, 8, 8)"),
    ):
        with pytest.raises(WrongInput) as problem:
            model.run(inputs)  # type: ignore[arg-type]
        assert words in str(problem.value)
    with pytest.raises(WrongInput, match="of type float64"):
        model.predict(np.zeros((1, 8, 8)))
    model.close()
    model.close()
    with pytest.raises(WrongInput, match="is closed"):
        model.predict(np.zeros((1, 8, 8), np.uint8))
    for threads in (0, -1, True, "2"):
        with pytest.raises(WrongInput, match="`threads`"):
            Model(sealed, threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "outputs", "words"),
    [
        (handmade.CLASSIFICATION, np.zeros((3, 9), np.float32), "outputs have shape (3, 9), required is (N, 3)"),
        (handmade.CLASSIFICATION, np.zeros(3, np.float32), "required is (N, 3)"),
        (handmade.CLASSIFICATION, np.zeros((2, 3), np.int64), "of type int64, required are floats"),
        (handmade.CLASSIFICATION, [["a", "b", "c"]], "required are floats"),
        (handmade.CLASSIFICATION, "cells", "outputs have shape ()"),
        (handmade.CLASSIFICATION, np.array([[0, np.nan, 1]], np.float32), "not finite"),
        (WITH_BACKGROUND, np.zeros((2, 3, 8, 8), np.float32), "required is (N, 4, *spatial)"),
        (WITH_BACKGROUND, np.zeros((2, 4), np.float32), "required is (N, 4, *spatial)"),
    ],
)
def test_outputs_that_are_none_of_the_model_are_refused(output: dict[str, Any], outputs: Any, words: str, tmp_path: Path) -> None:
    with Model(handmade.bundle(tmp_path / "cells", output=output)) as model:
        for call in (model.decide, model.probabilities):
            with pytest.raises(WrongInput) as problem:
                call(outputs)
            assert words in str(problem.value)
            assert "\n" not in str(problem.value)


def test_a_model_whose_inputs_are_others_is_refused(copied: Path) -> None:
    network = onnx.load(copied / "model" / "model.onnx")
    network.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 4
    network.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 16
    onnx.save(network, copied / "model" / "model.onnx")
    handmade.rehash(copied)
    seal(copied)
    with pytest.raises(Refused, match="the model takes"):
        Model(copied)
    assert artifact_sha256(copied)


def test_the_package_offers_its_names_and_imports_nothing_for_them() -> None:
    import optimize.deploy.runner as runner

    assert (runner.Model, runner.Refused, runner.WrongInput) == (Model, Refused, WrongInput)
    with pytest.raises(AttributeError, match="no attribute 'Session'"):
        _ = runner.Session
