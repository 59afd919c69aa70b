"""OpenVINO on the CPU: IR files, f32 and bf16 by an explicit hint, int8 by NNCF.

Left alone, OpenVINO computes in bf16 wherever the CPU can: every build here names its precision, so that an f32 baseline is one.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from optimize.artifact import Artifact
from optimize.backends import require_precision
from optimize.backends.session import Session, require_inputs
from optimize.errors import TargetUnavailable
from optimize.quiet import quiet

if TYPE_CHECKING:
    from types import ModuleType

    from optimize.candidate import Floats

NAME = "openvino"

# The compiled graph's nodes that hold or move numbers instead of computing them.
_MOVERS = {"Const", "Input", "Output", "Reorder", "Reshape", "Transpose", "FakeQuantize", "ShapeOf"}
# A name OpenVINO makes up: the operation, and a counter that runs on through the life of the process.
_MADE_UP = re.compile(r"[A-Z][A-Za-z]+_\d+")


def preflight() -> None:
    """Check that OpenVINO and NNCF are installed.

    Raises:
        TargetUnavailable: naming what is missing and how to get it.
    """
    missing = [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise TargetUnavailable(f"target 'openvino' cannot run here: {names} not installed; pip install 'optimize[openvino]'.")


def version() -> str:
    """Import OpenVINO and return its version."""
    return str(_openvino().get_version())


def precisions() -> tuple[str, ...]:
    """("f32", "bf16") where the CPU has bf16 arithmetic, else ("f32",)."""
    native = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in native else ("f32",)


def convert(onnx: Path, folder: Path, precision: str) -> Artifact:
    """Write the IR of an ONNX file; bf16 keeps its weights in 16 bits, f32 keeps every bit.

    Raises:
        InputError: when this machine does not run `precision` natively.
    """
    require_precision(precision, precisions(), NAME)
    return _save(_read(onnx), folder, precision)


def quantize(onnx: Path, folder: Path, calibration: Floats) -> Artifact:
    """Write an int8 IR; the ranges of activations come from `calibration`, (N, C, *spatial), all of it.

    Raises:
        InputError: when `calibration` does not have the model's input shape.
    """
    model = _read(onnx)
    require_inputs(calibration, _input_shape(model))
    # Before the import, since it is the lookup of the telemetry package in `_openvino` that keeps NNCF from reporting too.
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF's default takes the mean over images of each image's extremes. Activations that only a rare class excites then lie outside the
    # range and are clipped: of eight kinds of blood cells, two lost 3 and 6 points of recall, and none with the plain extremes.
    ranges = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
    items = [np.ascontiguousarray(item[None], dtype=np.float32) for item in calibration]
    with quiet("nncf"):
        quantized = nncf.quantize(model, nncf.Dataset(items), subset_size=len(items), advanced_parameters=ranges)
    return _save(quantized, folder, "int8")


def build(artifact: Artifact, *, threads: int | None = None) -> Session:
    """Compile for the lowest latency of one caller: one stream, `threads` threads (all cores when None)."""
    hint = "f32" if artifact.precision == "int8" else artifact.precision
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    compiled = _openvino().Core().compile_model(artifact.main, "CPU", config)
    request = compiled.create_infer_request()

    def run(inputs: Floats) -> Floats:
        return np.asarray(request.infer({0: inputs}, share_inputs=True)[0], dtype=np.float32)

    return Session(artifact.input_shape, run, compiled)


def inspect(session: Session) -> dict[str, str]:
    """Layer -> "f32", "bf16", "int8"…, as the CPU plugin executes it; nodes that only move or convert numbers are left out."""
    layers: dict[str, str] = {}
    for node in session.handle.get_runtime_model().get_ordered_ops():
        info = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")}
        if info["layerType"] not in _MOVERS:
            precision = {"u8": "int8", "i8": "int8"}.get(info["runtimePrecision"], info["runtimePrecision"])
            layers[_layer_name(info["originalLayersNames"], node.get_friendly_name())] = precision
    return layers


def _openvino() -> ModuleType:
    # Importing OpenVINO sends an event to its maker unless its telemetry package cannot be imported; NNCF looks there too.
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
    import openvino

    return cast("ModuleType", openvino)


def _read(onnx: Path) -> Any:
    model = _openvino().Core().read_model(onnx)
    # Before NNCF derives further names from them.
    _number_made_up_names(model)
    return model


def _input_shape(model: Any) -> tuple[int, ...]:
    return tuple(size.get_length() for size in list(model.input(0).partial_shape)[1:])


def _save(model: Any, folder: Path, precision: str) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    _number_made_up_names(model)
    _openvino().save_model(model, folder / "model.xml", compress_to_fp16=precision == "bf16")
    return Artifact.save(
        folder, target=NAME, precision=precision, input_shape=_input_shape(model), runtime=version(), files=("model.xml", "model.bin")
    )


def _number_made_up_names(model: Any) -> None:
    """Replace names taken from a process-wide counter, so that the same model gives the same bytes."""
    for position, node in enumerate(model.get_ordered_ops()):
        if _MADE_UP.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}:{position}")


def _layer_name(originals: str, fallback: str) -> str:
    """The model's own name for a fused node: the first of the layers fused into it that has one."""
    names = [name.split("/")[0] for name in originals.split(",") if name]
    return next((name for name in names if ":" not in name and not _MADE_UP.fullmatch(name)), fallback)
