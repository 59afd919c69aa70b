"""OpenVINO on the CPU: IR files, f32 and bf16 by an explicit hint, int8 by NNCF.

Left alone, OpenVINO computes in bf16 wherever the CPU can: every build here names its precision, so that an f32 baseline is one, and the
file of an f32 artifact says it too, for whoever else opens it (`openvino_ir.py`).
"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from optimize.backends import float_part, int8_name, require_precision
from optimize.backends.artifact import Artifact
from optimize.backends.cpu_limit import effective_level
from optimize.backends.openvino_ir import hold_precision, keep_forms
from optimize.backends.openvino_layers import MADE_UP, executed, name_operations, operations_of
from optimize.backends.quiet import quiet
from optimize.backends.session import Session, gc_paused, require_inputs, require_own
from optimize.backends.target_description import Description
from optimize.errors import InputError
from optimize.hardware.cpu_level import saturates
from optimize.hardware.installed_packages import Requirement

if TYPE_CHECKING:
    from types import ModuleType

    from optimize.candidate import Floats

NAME = "openvino"
DESCRIPTION = Description(
    "OpenVINO",
    on_cpu=True,
    packages=(Requirement("openvino", "runtime of target openvino"), Requirement("nncf", "int8 for target openvino")),
    extra="openvino",
    file_ending=".xml",
    aliases=("ov", "intel"),
    position=1,
    names_every_layer=True,
    obeys_cpu_level=True,
)

# Activations whose results lie mostly above zero, and a little below.
_DIPPING = {"PRelu", "Elu", "Selu", "Swish", "Gelu", "HSwish", "Mish"}
_WARMUP = 2
_LEAST_US = 0.1
_COPIED_BYTES = 1 << 16


def preflight() -> None:
    """Check that OpenVINO and NNCF are installed.

    Raises:
        TargetUnavailable: naming what is missing and how to get it.
    """
    DESCRIPTION.require_packages(NAME)


def unavailable_reason() -> str | None:
    """Return None: what is compiled here runs here."""
    return None


def version() -> str:
    """Import OpenVINO and return its version."""
    return str(_openvino().get_version())


def precisions() -> tuple[str, ...]:
    """Return ("f32", "bf16") where the CPU has bf16 arithmetic, else ("f32",)."""
    native = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in native else ("f32",)


def convert(onnx: Path, folder: Path, precision: str) -> Artifact:
    """Write the IR of an ONNX file; bf16 keeps its weights in 16 bits, f32 keeps every bit.

    Raises:
        InputError: when this machine does not run `precision` natively.
    """
    require_precision(precision, precisions(), NAME)
    return _save(_read(onnx), folder, precision)


def quantize(
    onnx: Path,
    folder: Path,
    calibration: Floats,
    *,
    ignored_layers: Collection[str] = (),
    float_precision: str = "f32",
    cpu_level: str | None = None,
) -> Artifact:
    """Write an int8 IR; the ranges of activations come from `calibration`, (N, C, *spatial), all of it.

    Args:
        onnx: file of the float model.
        folder: folder to write into; it is made where it is missing.
        calibration: inputs, (N, C, *spatial).
        ignored_layers: layers that stay in float, by their names in the ONNX file.
        float_precision: precision of what is not quantized, "f32" or "bf16".
        cpu_level: level of the machine that will run the artifact, one of `hardware.cpu_level.LEVELS`; that of this machine when None.

    Raises:
        InputError: when `calibration` does not have the model's input shape, or `ignored_layers` names a layer that is not there.
    """
    require_precision(float_precision, precisions(), NAME)
    model = _read(onnx)
    require_inputs(calibration, _input_shape(model))
    kept = _operations(model, ignored_layers)
    _own_weights(model, kept)
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF's default takes the mean over images of each image's extremes. Activations that only a rare class excites then lie outside the
    # range and are clipped: of eight kinds of blood cells, two lost 3 and 6 points of recall, and none with the plain extremes.
    parameters = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        overflow_fix=nncf.OverflowFix.ENABLE if saturates(cpu_level or effective_level(NAME)) else nncf.OverflowFix.DISABLE,
    )
    items = [np.ascontiguousarray(item[None], dtype=np.float32) for item in calibration]
    with quiet("nncf"):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(items),
            preset=nncf.QuantizationPreset.MIXED if _dips(model) else nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(items),
            advanced_parameters=parameters,
            # Not validated: what only works on shapes is no part of NNCF's graph.
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )
    return _save(quantized, folder, int8_name(ignored_layers, float_precision))


def build(artifact: Artifact, *, threads: int | None = None) -> Session:
    """Compile for the lowest latency of one caller: one stream, `threads` threads (all cores when None)."""
    compiled = _compile(artifact, threads)
    sizes = list(compiled.input(0).partial_shape)[1:]
    require_own(artifact, [size.get_length() if size.is_static else str(size) for size in sizes])
    return Session(artifact.input_shape, _Request(compiled.create_infer_request()), compiled)


class _Request:
    """One request whose input stays bound: handing OpenVINO a new tensor costs as much as a small network takes to run."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._bound: Floats = np.empty(0, dtype=np.float32)

    def __call__(self, inputs: Floats) -> Floats:
        if inputs.nbytes > _COPIED_BYTES:
            self._bound = np.empty(0, dtype=np.float32)  # the request now reads the caller's memory, which is not ours to write to
            # a large input is not copied: that would cost more than binding it
            self._request.infer({0: inputs}, share_inputs=True)
        else:
            if self._bound.shape != inputs.shape:
                self._bound = np.empty_like(inputs)
                self._request.set_input_tensor(_openvino().Tensor(self._bound, shared_memory=True))
            # copying a small input into memory that is already bound is cheaper than binding other memory
            self._bound[...] = inputs
            self._request.infer()
        return np.array(self._request.get_output_tensor().data, dtype=np.float32)


def inspect(session: Session) -> dict[str, str]:
    """Return layer -> "f32", "bf16", "int8"…, as the CPU plugin executes it; nodes that only move or convert numbers are left out."""
    integer = {"u8": "int8", "i8": "int8"}
    nodes = [node for node in executed(session.handle) if not node.rest]
    return {layer: integer.get(node.precision, node.precision) for node in nodes for layer in node.layers}


def time_layers(
    artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
) -> dict[str, float]:
    """Return layer -> milliseconds inside one run, by the runtime's own profiler: the smallest of the means of blocks of runs.

    The profiler gives only the mean over all runs so far, in whole microseconds. So the blocks double in length, 2, 4, 8, … runs: each is
    then long enough beside those before it to be separated from them, and a disturbance spoils only the blocks that it falls into.

    Worked example: after 4 runs the profiler says 10 us on average, after 8 runs 9 us. All runs took 4 * 10 = 40 us, then 8 * 9 = 72 us, so
    the second block of 4 runs took 32 us, 8 us each.

    Raises:
        InputError: when `inputs` does not have the model's input shape.
    """
    require_inputs(inputs, artifact.input_shape)
    compiled = _compile(artifact, threads, PERF_COUNT=True)
    blocks_us = _block_means_us(compiled.create_infer_request(), np.ascontiguousarray(inputs, dtype=np.float32), seconds, min_rounds)
    layers: dict[str, float] = {}
    for node in executed(compiled):
        if node.node in blocks_us:
            taken_ms = max(min(blocks_us[node.node]), _LEAST_US) / 1e3
            for layer in node.layers:
                # a node that several layers were fused into gives no times of its own for them: they share it equally
                layers[layer] = layers.get(layer, 0.0) + taken_ms / len(node.layers)
    return layers


def _block_means_us(request: Any, inputs: Floats, seconds: float, min_rounds: int) -> dict[str, list[float]]:
    """Return node -> mean microseconds of a run, in each block but the first."""
    ends, totals_us = [0], []
    with gc_paused():
        stop = time.perf_counter() + seconds
        while len(ends) < 3 or ends[-1] < min_rounds or time.perf_counter() < stop:
            # as many runs as there were so far: 2, 2, 4, 8, ... each block is half of all runs
            more = max(ends[-1], _WARMUP)
            for _ in range(more):
                request.infer({0: inputs}, share_inputs=True)
            ends.append(ends[-1] + more)
            means_us = {info.node_name: info.real_time.total_seconds() * 1e6 for info in request.get_profiling_info()}
            # Every run was cut to whole microseconds, and so was their mean: half of one is missing each time.
            totals_us.append({node: ends[-1] * (mean + 1) for node, mean in means_us.items()})
    blocks = list(zip(totals_us, totals_us[1:], ends[1:], strict=False))
    return {node: [(end[node] - start[node]) / length for start, end, length in blocks] for node in totals_us[0]}


def options(precision: str) -> dict[str, str]:
    """Return what decides the numbers among the options of `compile_model`, for an artifact of this precision."""
    return {"INFERENCE_PRECISION_HINT": float_part(precision)}


def predict_plainly(artifact: Artifact, inputs: Floats) -> Floats | None:
    """Return what the model gives to whoever opens it with default options; None where that may be another thing on a CPU with bf16."""
    # without bf16 in the processor, default options compute in f32, and there is nothing to compare
    if "bf16" not in precisions():
        return None
    compiled = _openvino().Core().compile_model(artifact.main, "CPU")
    return np.concatenate([np.asarray(compiled(item[None])[0], dtype=np.float32) for item in inputs])


def _compile(artifact: Artifact, threads: int | None, **more: Any) -> Any:
    config: dict[str, Any] = {**options(artifact.precision), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, **more}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return _openvino().Core().compile_model(artifact.main, "CPU", config)


def _openvino() -> ModuleType:
    import openvino

    return cast("ModuleType", openvino)


def _read(onnx: Path) -> Any:
    import onnx as onnx_format

    model = _openvino().Core().read_model(onnx)
    # Before NNCF derives further names from them.
    name_operations(model, onnx_format.load(onnx, load_external_data=False).graph)
    _number_made_up_names(model)
    return model


def _dips(model: Any) -> bool:
    """Return whether activations reach a little below zero: a free zero point then uses the steps of a range better, but costs time."""
    return any(node.get_type_name() in _DIPPING for node in model.get_ordered_ops())


def _operations(model: Any, layers: Collection[str]) -> list[str]:
    """Return the names of the operations that OpenVINO made of these layers of the ONNX file: a convolution and the sum with its bias."""
    operations_by_layer = operations_of(model, layers)
    if unknown := [layer for layer, operations in operations_by_layer.items() if not operations]:
        raise InputError(f"`ignored_layers` (={unknown[0]!r}) is no layer of the model: name nodes of the ONNX file.")
    return [name for operations in operations_by_layer.values() for name in operations]


def _own_weights(model: Any, kept: Collection[str]) -> None:
    """Give operations that stay in float weights of their own where others read the same: those are rounded for all who read them."""
    from openvino import opset1

    for node in model.get_ordered_ops():
        for value in node.inputs() if node.get_friendly_name() in kept else []:
            source = value.get_source_output()
            readers = {target.get_node().get_friendly_name() for target in source.get_target_inputs()}
            # some reader of this constant will be quantized, and would round it for the one that stays in float, too
            if source.get_node().get_type_name() == "Constant" and readers - {*kept}:
                own = opset1.constant(np.array(source.get_node().data))
                own.set_friendly_name(f"{source.get_node().get_friendly_name()} of {node.get_friendly_name()}")
                value.replace_source_output(own.output(0))


def _input_shape(model: Any) -> tuple[int, ...]:
    return tuple(size.get_length() for size in list(model.input(0).partial_shape)[1:])


def _save(model: Any, folder: Path, precision: str) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    if float_part(precision) == "f32":
        keep_forms(model)
    _number_made_up_names(model)
    for name, value in options(precision).items():
        model.set_rt_info(value, ["runtime_options", name])
    _openvino().save_model(model, folder / "model.xml", compress_to_fp16=precision == "bf16")
    if float_part(precision) == "f32":
        hold_precision(folder / "model.xml")
    return Artifact.save(
        folder, target=NAME, precision=precision, input_shape=_input_shape(model), runtime=version(), files=("model.xml", "model.bin")
    )


def _number_made_up_names(model: Any) -> None:
    """Replace names taken from a process-wide counter, so that the same model gives the same bytes."""
    for position, node in enumerate(model.get_ordered_ops()):
        if MADE_UP.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}:{position}")
