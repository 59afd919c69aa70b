"""A model repository for NVIDIA Triton Inference Server, with the bundle beside it.

    models/NAME/config.pbtxt     what Triton must know, in protobuf's text form
    models/NAME/labels.txt       names of the classes, one a line; only where the outputs are classes
    models/NAME/1/model.onnx     the model's files under the names that Triton looks for: model.onnx, model.xml with model.bin, model.plan
    bundle/                      the bundle as it is: Triton checks neither hashes nor golden outputs, the runner does

Triton takes every folder of a repository for a model. For this reason the bundle lies beside `models/`, not in it. Fields of config.pbtxt
are those of Triton's `model_config.proto`, message `ModelConfig`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.backends.artifact import Artifact
from optimize.deploy.runner.served_name import served_name
from optimize.errors import InputError

NAME = "triton"
MARK = "bundle/manifest.json"
"""Path that shows a folder to be an earlier repository of this kind."""
MAX_BATCH = 8
"""Largest batch that Triton puts together; within the profile of an engine (`backends/tensorrt_common/compiler.py`)."""
PREFERRED = (4, 8)
"""Batch sizes that run at once when so many requests wait."""
MAX_DELAY_US = 500
"""Longest time, in microseconds, that a request waits for others to share its batch."""


@dataclass(frozen=True)
class Backend:
    """What Triton calls a runtime, and how it is set up.

    Args:
        name: field `backend`.
        platform: field `platform`; "" where the backend has none.
        kind: kind of an instance: where the model runs.
        files: the artifact's file endings -> the file names that the backend looks for.
        threads: parameter for the number of threads; "" where there is none.
    """

    name: str
    platform: str
    kind: str
    files: Mapping[str, str]
    threads: str = ""


BACKENDS = {
    "onnxruntime": Backend("onnxruntime", "onnxruntime_onnx", "KIND_CPU", {".onnx": "model.onnx"}, "intra_op_thread_count"),
    "openvino": Backend("openvino", "", "KIND_CPU", {".xml": "model.xml", ".bin": "model.bin"}, "INFERENCE_NUM_THREADS"),
    "tensorrt": Backend("tensorrt", "tensorrt_plan", "KIND_GPU", {".engine": "model.plan"}),
}


def write(bundle: Path, out: Path) -> None:
    """Make the repository and copy the bundle.

    Args:
        bundle: folder of the complete bundle.
        out: folder to make.

    Raises:
        InputError: when Triton has no backend for the artifact's target, or the artifact does not say how it is used.
    """
    artifact = Artifact.read(bundle / "model")
    backend = BACKENDS.get(artifact.target)
    if backend is None:
        raise InputError(
            f"`--format triton`: Triton has no backend for target {artifact.target!r}: it has for {', '.join(map(repr, BACKENDS))}."
        )
    if not artifact.use:
        raise InputError(f"`--format triton`: `{bundle / 'model'}` does not say its inputs and outputs: compress the model again.")
    name = served_name(json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["name"])
    folder = out / "models" / name
    version = folder / "1"
    version.mkdir(parents=True)
    for file in artifact.files:
        # an engine's folder also holds what it was compiled from, which Triton has no use for
        if stored := backend.files.get(Path(file.name).suffix):
            shutil.copyfile(artifact.folder / file.name, version / stored)
    labels = _labels(artifact.use["output"])
    if labels:
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8", newline="\n")
    text = config(artifact, name, "labels.txt" if labels else None)
    (folder / "config.pbtxt").write_text(text, encoding="utf-8", newline="\n")
    shutil.copytree(bundle, out / "bundle")


def config(artifact: Artifact, name: str, labels: str | None = None) -> str:
    """Return config.pbtxt for an artifact.

    Args:
        artifact: the compiled model, with its section "use".
        name: name of the model's folder in the repository.
        labels: name of the file with the names of the classes; None where there is none.
    """
    backend, use = BACKENDS[artifact.target], artifact.use
    given, made = use["input"], use["output"]
    lines = [*_remarks(artifact), f"name: {_quoted(name)}", f"backend: {_quoted(backend.name)}"]
    if backend.platform:
        lines.append(f"platform: {_quoted(backend.platform)}")
    lines += [
        f"max_batch_size: {MAX_BATCH}",
        f"input [ {{ name: {_quoted(given['name'])} data_type: TYPE_FP32 dims: {_sizes(given)} }} ]",
        f"output [ {{ name: {_quoted(made['name'])} data_type: TYPE_FP32 dims: {_sizes(made)}"
        + (f" label_filename: {_quoted(labels)}" if labels else "")
        + " } ]",
        f"dynamic_batching {{ preferred_batch_size: {list(PREFERRED)} max_queue_delay_microseconds: {MAX_DELAY_US} }}",
        f"instance_group [ {{ count: 1 kind: {backend.kind} }} ]",
        # without it the first request of a batch size pays for what the runtime prepares
        *(_warmup(size, given) for size in (1, MAX_BATCH)),
        *(_parameter(key, value) for key, value in _parameters(artifact).items()),
    ]
    return "".join(f"{line}\n" for line in lines)


def _remarks(artifact: Artifact) -> list[str]:
    """Return comments for the administrator: what of the verified artifact Triton does not check or cannot keep."""
    said = [f"{artifact.target} {artifact.runtime}, {artifact.precision}. Triton compares no golden outputs: run `python -m bundle check`."]
    if artifact.target == "openvino":
        said.append("The backend compiles the model for one batch size; smaller batches are padded to it.")
        if "bf16" not in artifact.precision and artifact.use.get("defaults_suffice") is not True:
            said.append(
                "The backend cannot be told to compute in f32. On a CPU with AMX or AVX512-BF16 some layers may run in bf16, unlike the"
                " verified model: compare outputs with bundle/model/golden.npz there."
            )
    if artifact.target == "tensorrt":
        said.append("An engine runs on the GPU and the version of TensorRT it was built with only: take the Triton release that has it.")
    return [f"# {line}" for line in said]


def _parameters(artifact: Artifact) -> dict[str, str]:
    """Return the backend's parameters that keep the numbers and the threads as they were verified."""
    backend, use = BACKENDS[artifact.target], artifact.use
    found: dict[str, str] = {}
    if artifact.target == "openvino":
        # The model has a free batch. The backend sets it to max_batch_size and answers any other size with an error unless it may pad.
        found["ENABLE_BATCH_PADDING"] = "YES"
        found |= {key: str(value) for key, value in use["options"].items()}
        # the backend's own name of the hint; it knows this one value
        if use["options"].get("INFERENCE_PRECISION_HINT") == "bf16":
            found["HINT_BF16"] = "YES"
    if backend.threads and use["threads"] is not None:
        found[backend.threads] = str(use["threads"])
    return found


def _labels(output: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes where each output is one class; empty for masks, whose outputs are images."""
    return [" ".join(str(name).split()) for name in output["classes"]] if _one_each(output) else []


def _one_each(output: Mapping[str, Any]) -> bool:
    # a single output is the score of the second of two classes, so a label of it would be wrong
    return output["task"] == "classification" and output["threshold"] is None


def _warmup(size: int, given: Mapping[str, Any]) -> str:
    value = f"{{ data_type: TYPE_FP32 dims: {_sizes(given)} zero_data: true }}"
    return f'model_warmup [ {{ name: "batch {size}" batch_size: {size} inputs {{ key: {_quoted(given["name"])} value: {value} }} }} ]'


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}"


def _sizes(tensor: Mapping[str, Any]) -> list[int]:
    """Return the sizes of a tensor without its batch: Triton adds that itself."""
    return [int(size) for size in tensor["shape"][1:]]


def _quoted(text: str) -> str:
    """Return a string of protobuf's text form, whose escapes are those of JSON as far as they occur here."""
    return json.dumps(text, ensure_ascii=False)
