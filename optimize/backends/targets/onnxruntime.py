"""ONNX Runtime on the CPU: ONNX files, f32, and int8 as a QDQ graph.

int8 is U8S8: activations uint8 with a free zero point, weights int8 with one scale for each output channel. With int8 activations and
zero point 0 after a ReLU the runtime silently keeps the convolution in float; and S8S8 kernels are slower on x86. Where 8-bit products
overflow 16 bits, weights keep to 7 bits. Biases are corrected for what rounding shifts (`backends/bias_correction.py`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.backends import int8_name, require_precision
from optimize.backends.activation_ranges import ranges_file
from optimize.backends.artifact import Artifact
from optimize.backends.bias_correction import correct_biases
from optimize.backends.float_layers import hold_in_float
from optimize.backends.onnxruntime_layers import MOVERS, GraphNode, executed, plain_name, renamed
from optimize.backends.quiet import quiet
from optimize.backends.session import Session, gc_paused, require_inputs, require_own
from optimize.backends.target_description import Description
from optimize.errors import InputError
from optimize.hardware.cpu_level import saturates
from optimize.hardware.installed_packages import Requirement

if TYPE_CHECKING:
    from optimize.candidate import Floats

NAME = "onnxruntime"
DESCRIPTION = Description(
    "ONNX Runtime",
    on_cpu=True,
    packages=(Requirement("onnxruntime", "runtime of target onnxruntime"),),
    extra="onnxruntime",
    file_ending=".onnx",
    aliases=("ort", "onnx", "onnx-runtime", "onnx_runtime"),
    position=2,
    names_every_layer=True,
)

# Of the nodes that move numbers, those that leave every number where it is.
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_CALIBRATION_BATCH = 8
_WARMUP = 2
_LEAST_US = 0.1
_QUIET = 3  # errors only


def preflight() -> None:
    """Check that ONNX Runtime is installed.

    Raises:
        TargetUnavailable: naming what is missing and how to get it.
    """
    DESCRIPTION.require_packages(NAME)


def unavailable_reason() -> str | None:
    """Return None: what is compiled here runs here."""
    return None


def version() -> str:
    """Import ONNX Runtime and return its version."""
    import onnxruntime

    return str(onnxruntime.__version__)


def precisions() -> tuple[str, ...]:
    """Return ("f32",): the CPU kernels know no other float."""
    return ("f32",)


def convert(onnx: Path, folder: Path, precision: str) -> Artifact:
    """Copy the ONNX file, which is what this runtime reads.

    Raises:
        InputError: when `precision` is not "f32".
    """
    require_precision(precision, precisions(), NAME)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(onnx, folder / "model.onnx")
    return _save(folder, precision)


def quantize(
    onnx: Path,
    folder: Path,
    calibration: Floats,
    *,
    ignored_layers: Collection[str] = (),
    float_precision: str = "f32",
    cpu_level: str | None = None,
) -> Artifact:
    """Write a QDQ graph; the ranges of activations are the extremes over `calibration`, (N, C, *spatial), all of it.

    Args:
        onnx: file of the float model.
        folder: folder to write into; it is made where it is missing.
        calibration: inputs, (N, C, *spatial).
        ignored_layers: layers that stay in float, by their names in the ONNX file.
        float_precision: "f32", the only float precision of this runtime.
        cpu_level: level of the machine that will run the artifact, one of `hardware.cpu_level.LEVELS`; that of this machine when None.

    Raises:
        InputError: when `calibration` does not have the model's input shape, or `ignored_layers` names a layer that is not there.
    """
    require_precision(float_precision, precisions(), NAME)
    import onnx as onnx_format
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx_format.load(onnx)
    require_inputs(calibration, _input_shape(model))
    if unknown := set(ignored_layers) - {node.name for node in model.graph.node}:
        raise InputError(f"`ignored_layers` (={min(unknown)!r}) is no layer of the model: name nodes of the ONNX file.")
    batches = _batches(model.graph.input[0].name, calibration)
    # Made here because its base class is known only once the runtime is imported.
    reader = type("Reader", (CalibrationDataReader,), {"get_next": lambda _: next(batches, None)})()
    # There is no integer kernel for a transposed convolution: quantized, its weights would be turned back into floats at each call.
    transposed = {node.name for node in model.graph.node if node.op_type == "ConvTranspose"}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, quiet(""):
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
        floats = _renamed(model.graph, prepared, {*ignored_layers, *transposed})
        with ranges_file(onnx, calibration, Path(scratch)) as ranges:
            quantize_static(
                prepared,
                Path(scratch) / "quantized.onnx",
                reader,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=saturates(cpu_level),
                nodes_to_exclude=sorted(floats),
                calibration_cache_path=ranges,
            )
        quantized = onnx_format.load(Path(scratch) / "quantized.onnx")
    # In this order: layers are first made to stay in float, since correction runs the graph in this runtime, which would quantize them.
    hold_in_float(quantized, floats)
    correct_biases(model, quantized, calibration)
    _float_answers(quantized)
    onnx_format.save(quantized, folder / "model.onnx")
    return _save(folder, int8_name(ignored_layers, float_precision))


def _renamed(graph: Any, prepared: Path, layers: Collection[str]) -> set[str]:
    """Name every node of the file after the layer it was made of; returns the names there of some layers.

    Preparing fuses nodes under new names, and puts nameless parts in the place of an operation that the runtime has no kernel for.

    Args:
        graph: the graph as it was before preparing.
        prepared: file, which is written again.
        layers: names of nodes of `graph`.
    """
    import onnx as onnx_format

    model = onnx_format.load(prepared)
    # one layer may have become several nodes of the prepared file: all of them stay in float
    names = {node.name for node, layer in renamed(model.graph, graph) if layer in layers}
    _own_weights(model.graph, names)
    onnx_format.save(model, prepared)
    return names


def _own_weights(graph: Any, layers: Collection[str]) -> None:
    """Give layers that stay in float weights of their own where others read the same: those are rounded for all who read them."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, set[bool]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name in layers)
    for node in graph.node:
        for place, name in enumerate(node.input):
            # weights that only float layers read, or only int8 ones, can stay shared
            if node.name not in layers or name not in stored or len(readers[name]) == 1:
                continue
            node.input[place] = f"{name} in float"
            if node.input[place] not in stored:
                stored[node.input[place]] = graph.initializer.add()
                stored[node.input[place]].CopyFrom(stored[name])
                stored[node.input[place]].name = node.input[place]


def _float_answers(model: Any) -> None:
    """Take the last Q/DQ pair off where a Gemm or MatMul gives the answers: its kernel can give floats, and answers in 256 steps tie."""
    makers = {output: node for node in model.graph.node for output in node.output}
    for answer in model.graph.output:
        # backwards from the output: DequantizeLinear <- QuantizeLinear <- Gemm or MatMul, and nothing else is touched
        dequantize = makers.get(answer.name)
        quantize = None if dequantize is None else makers.get(dequantize.input[0])
        layer = None if quantize is None else makers.get(quantize.input[0])
        operations = tuple(node.op_type if node is not None else "" for node in (dequantize, quantize))
        if layer is None or operations != ("DequantizeLinear", "QuantizeLinear") or layer.op_type not in ("Gemm", "MatMul"):
            continue
        model.graph.node.remove(quantize)
        model.graph.node.remove(dequantize)
        layer.output[0] = answer.name
    # of what nothing reads any more, the runtime warns whoever opens the file
    read = {name for node in model.graph.node for name in node.input} | {answer.name for answer in model.graph.output}
    stored = model.graph.initializer
    for place in reversed(range(len(stored))):
        if stored[place].name not in read:
            del stored[place]


def build(artifact: Artifact, *, threads: int | None = None) -> Session:
    """Open for the lowest latency of one caller: operators in sequence, `threads` threads (all cores when None) inside each."""
    session = _open(artifact, threads)
    name = session.get_inputs()[0].name
    require_own(artifact, session.get_inputs()[0].shape[1:])

    def run(inputs: Floats) -> Floats:
        return np.asarray(session.run(None, {name: inputs})[0], dtype=np.float32)

    return Session(artifact.input_shape, run, artifact)


def inspect(session: Session) -> dict[str, str]:
    """Return layer -> "f32" or "int8", from the graph as the runtime optimized it for this CPU; nodes that move numbers are left out."""
    return {node.layer: node.precision for node in _optimized(session.handle) if node.layer}


def _optimized(artifact: Artifact) -> list[GraphNode]:
    import onnx as onnx_format

    with tempfile.TemporaryDirectory() as scratch:
        optimized = Path(scratch) / "optimized.onnx"
        _open(artifact, 1, optimized=optimized)
        return executed(onnx_format.load(optimized).graph, onnx_format.load(artifact.main).graph)


def time_layers(
    artifact: Artifact, inputs: Floats, *, threads: int | None = None, seconds: float = 1.0, min_rounds: int = 16
) -> dict[str, float]:
    """Return layer -> milliseconds inside one run, by the runtime's own profiler: the mean of the faster half of the runs.

    The profiler charges some of its own work, a few microseconds, to every node. A node that only gives a buffer another shape has nothing
    else to do, so what such nodes take is taken off; where there are none, the figures keep it.

    Raises:
        InputError: when `inputs` does not have the model's input shape.
    """
    require_inputs(inputs, artifact.input_shape)
    nodes, known = _profiled(artifact, inputs, threads, seconds, min_rounds), _optimized(artifact)
    if [kind for kind, *_ in nodes] != [node.kind for node in known]:  # nodes without a name are known by their place alone
        by_name = {node.layer: node for node in known}
        known = [by_name.get(name, GraphNode(kind, name, "")) for kind, name, _ in nodes]
    # nodes that only give a buffer another shape do no work: what the profiler says they take is its own
    overhead_us = float(np.median([taken for kind, _, taken in nodes if kind in _VIEWS] or [0.0]))
    layers: dict[str, float] = {}
    for (kind, _, taken_us), node in zip(nodes, known, strict=True):
        if node.layer and kind not in MOVERS:
            layers[node.layer] = layers.get(node.layer, 0.0) + max(taken_us - overhead_us, _LEAST_US) / 1e3
    return layers


def _profiled(artifact: Artifact, inputs: Floats, threads: int | None, seconds: float, min_rounds: int) -> list[tuple[str, str, float]]:
    """Return the kind, name and microseconds of every node, in the order they ran."""
    with tempfile.TemporaryDirectory() as scratch, gc_paused():
        session = _open(artifact, threads, profile=Path(scratch) / "profile")
        feed = {session.get_inputs()[0].name: np.ascontiguousarray(inputs, dtype=np.float32)}
        rounds, end = 0, time.perf_counter() + seconds
        while rounds < _WARMUP + min_rounds or time.perf_counter() < end:
            session.run(None, feed)
            rounds += 1
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    # Nodes that the optimizer put in may share a name; their index is their own.
    nodes: dict[str, tuple[str, str, list[int]]] = {}
    for event in events:
        name, is_kernel, _ = event["name"].rpartition("_kernel_time")
        if is_kernel:
            nodes.setdefault(event["args"]["node_index"], (event["args"]["op_name"], plain_name(name), []))[2].append(event["dur"])
    return [(kind, name, _faster_half(taken[_WARMUP:])) for kind, name, taken in nodes.values()]


def _faster_half(samples: Sequence[float]) -> float:
    """Return the mean of the faster half: a disturbance only slows a run down, and a mean of whole microseconds is finer than each."""
    return float(np.mean(np.sort(samples)[: (len(samples) + 1) // 2]))


def _open(artifact: Artifact, threads: int | None, *, optimized: Path | None = None, profile: Path | None = None) -> Any:
    import onnxruntime

    # What these change is speed: default options give the same numbers.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Else its threads go on spinning after a call and slow down whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(artifact.main, options, providers=["CPUExecutionProvider"])


def predict_plainly(artifact: Artifact, inputs: Floats) -> Floats:
    """Return what the model gives to whoever opens it with default options."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    session = onnxruntime.InferenceSession(artifact.main, options, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(session.run(None, {session.get_inputs()[0].name: item[None]})[0]) for item in inputs])


def _input_shape(model: Any) -> tuple[int, ...]:
    return tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:])


def _save(folder: Path, precision: str) -> Artifact:
    import onnx as onnx_format

    shape = _input_shape(onnx_format.load(folder / "model.onnx"))
    return Artifact.save(folder, target=NAME, precision=precision, input_shape=shape, runtime=version(), files=("model.onnx",))


def _batches(name: str, calibration: Floats) -> Iterator[dict[str, Floats]]:
    for start in range(0, len(calibration), _CALIBRATION_BATCH):
        yield {name: np.ascontiguousarray(calibration[start : start + _CALIBRATION_BATCH], dtype=np.float32)}
