"""The model repository has the layout and the fields that Triton asks for; protobuf's parser reads them against Triton's own definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from optimize.backends.artifact import Artifact
from optimize.backends.tensorrt_common.compiler import PROFILE
from optimize.deploy.bundle.formats import bundle_format, triton
from optimize.errors import InputError
from tests.deploy.bundle.formats.bundles import USE, bundle, content
from tests.deploy.bundle.formats.triton_schema import model_config


def written(tmp_path: Path, target: str, **settings: Any) -> tuple[Path, Any]:
    """The repository of a bundle, and its parsed configuration."""
    bundle_format("triton").write(bundle(tmp_path / "bundle", target, **settings), tmp_path / "out")
    (folder,) = (tmp_path / "out" / "models").iterdir()
    return folder, text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config())


@pytest.mark.parametrize(
    ("target", "backend", "platform", "kind", "files"),
    [
        ("onnxruntime", "onnxruntime", "onnxruntime_onnx", 2, ["model.onnx"]),
        ("openvino", "openvino", "", 2, ["model.bin", "model.xml"]),
        ("tensorrt", "tensorrt", "tensorrt_plan", 1, ["model.plan"]),
    ],
)
def test_layout_and_fields(tmp_path: Path, target: str, backend: str, platform: str, kind: int, files: list[str]) -> None:
    folder, config = written(tmp_path, target)
    assert folder.name == config.name == "cells"
    assert sorted(path.name for path in (folder / "1").iterdir()) == files
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
    assert (config.backend, config.platform) == (backend, platform)
    assert [(group.kind, group.count) for group in config.instance_group] == [(kind, 1)]
    (given,), (made,) = config.input, config.output
    fp32 = 11
    assert (given.name, given.data_type, list(given.dims)) == ("input", fp32, [1, 4, 4])
    assert (made.name, made.data_type, list(made.dims), made.label_filename) == ("output", fp32, [3], "labels.txt")
    assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size <= PROFILE[-1]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, config.max_batch_size]
    assert all(list(warmup.inputs["input"].dims) == [1, 4, 4] and warmup.inputs["input"].zero_data for warmup in config.model_warmup)
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == ["benign", "mal ignant", "unklar ä"]


def test_the_bundle_lies_beside_the_repository_and_the_model_is_the_same(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, "tensorrt")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bundle", "models"]
    assert content(tmp_path / "out" / "bundle") == content(tmp_path / "bundle")
    assert (folder / "1" / "model.plan").read_bytes() == b"tensorrt model.engine"


def test_threads_and_precision_are_those_that_were_verified(tmp_path: Path) -> None:
    def parameters(target: str, **settings: Any) -> dict[str, str]:
        config = written(tmp_path / target / str(len(settings)), target, **settings)[1]
        return {key: value.string_value for key, value in config.parameters.items()}

    assert parameters("onnxruntime") == {"intra_op_thread_count": "2"}
    assert parameters("tensorrt") == {}
    hint = {"options": {"INFERENCE_PRECISION_HINT": "bf16"}, "threads": None}
    assert parameters("openvino", precision="bf16", use=hint) == {
        "ENABLE_BATCH_PADDING": "YES",
        "HINT_BF16": "YES",
        "INFERENCE_PRECISION_HINT": "bf16",
    }
    plain = {"options": {"INFERENCE_PRECISION_HINT": "f32"}}
    assert parameters("openvino", use=plain) == {
        "ENABLE_BATCH_PADDING": "YES",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": "2",
    }


@pytest.mark.parametrize(
    ("suffices", "precision", "warns"), [(True, "f32", False), (False, "f32", True), (None, "int8+f32", True), (False, "bf16", False)]
)
def test_openvino_in_f32_is_warned_about_where_defaults_may_not_suffice(
    tmp_path: Path, suffices: bool | None, precision: str, warns: bool
) -> None:
    folder = bundle(tmp_path / "bundle", "openvino", precision=precision, use={"defaults_suffice": suffices})
    assert ("cannot be told to compute in f32" in triton.config(Artifact.read(folder / "model"), "cells")) is warns


def test_masks_have_no_labels(tmp_path: Path) -> None:
    output = {**USE["output"], "task": "segmentation", "shape": ["N", 3, 4, 4]}
    folder, config = written(tmp_path, "onnxruntime", use={"output": output}, name="Leber (v2).pt")
    assert config.name == "Leber_v2"
    assert list(config.output[0].dims) == [3, 4, 4]
    assert config.output[0].label_filename == ""
    assert not (folder / "labels.txt").exists()


def test_same_bundle_same_bytes(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle", "openvino")
    for out in ("a", "b"):
        triton.write(made, tmp_path / out)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_target_without_a_backend_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no backend for target 'tensorrt-rtx'"):
        triton.write(bundle(tmp_path / "bundle", "tensorrt-rtx"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name:", "nom:"),
        ("max_batch_size: 8", 'max_batch_size: "8"'),
        ("TYPE_FP32", "TYPE_FLOAT"),
        ("KIND_CPU", "KIND_NPU"),
        ("{ count: 1", "{ count: 1.5"),
    ],
)
def test_the_schema_refuses_what_triton_would(tmp_path: Path, before: str, after: str) -> None:
    text = triton.config(Artifact.read(bundle(tmp_path / "bundle") / "model"), "cells")
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace(before, after, 1), model_config())
