"""Whether equalizing channels before quantization helps int8, in both runtimes: of trained networks, and of what repairs left of them.

    python -m benchmarks.studies.equalization [--shared DIR] [--work DIR]

A channel between two layers may be scaled in the first and scaled back in the second where all that lies between them is positively
homogeneous (a ReLU, a pooling). Two choices of the scale are compared, both with the geometric mean as their aim: by weights (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, equation 11), and by the range that the channel has on
the calibration inputs against the weights that read it (Xiao et al., "SmoothQuant", ICML 2023, equation 4, with alpha 1/2).

Figures are as in the study of bias correction, which ONNX Runtime's int8 has in all rows, as the command quantizes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import write
from benchmarks.studies.bias import grounds, told
from benchmarks.studies.peers.cases import Ground
from optimize.backends import backend
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Floats, Reference
from optimize.progress import note, shown
from optimize.steps.prune import Prune

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten")
SWEEPS = 20
"""Over all pairs: a layer is the second of one pair and the first of the next."""
BUDGET = 0.002
"""Error budget of the repaired network."""
KINDS = ("as it is", "by weights", "by ranges")
COLUMNS = ("network", "runtime", "channels scaled", *(f"{figure}, {kind}" for figure in ("error", "agreement") for kind in KINDS))
TITLE = "Equalizing channels before int8, on the guard split"


@dataclass(frozen=True)
class Pair:
    """A layer, the one that alone reads it, and the tensor that one reads."""

    first: Any
    second: Any
    between: str


def pairs(model: Any) -> Iterator[Pair]:
    """Pairs of a Conv or Gemm and the only one that reads it, through nothing but what is positively homogeneous."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for first in model.graph.node:
        if not _plain(first):
            continue
        tensor = first.output[0]
        while len(found := readers.get(tensor, [])) == 1 and found[0].op_type in HOMOGENEOUS:
            tensor = found[0].output[0]
        if len(found) == 1 and _plain(found[0]) and found[0].input[0] == tensor:
            yield Pair(first, found[0], tensor)


def _plain(node: Any) -> bool:
    attributes = {each.name: each for each in node.attribute}
    grouped = "group" in attributes and attributes["group"].i != 1
    return (node.op_type == "Conv" and not grouped) or (node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i == 1)


def equalized(model: Any, ranges: Mapping[str, Floats] | None) -> tuple[Any, int]:
    """The same function with its channels scaled, and how many were.

    Args:
        model: in ONNX.
        ranges: a pair's tensor -> largest of each channel; without them it goes by weights.
    """
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    found = list(pairs(made))
    scaled = {name for pair in found for name in (*pair.first.input[1:], pair.second.input[1])}
    held = {each.name: each for each in made.graph.initializer if each.name in scaled}
    values = {name: numpy_helper.to_array(each).astype(np.float64) for name, each in held.items()}
    for _ in range(SWEEPS if ranges is None else 1):
        for pair in found:
            first, second = values[pair.first.input[1]], values[pair.second.input[1]]
            reading = second.reshape(len(second), len(first), -1)  # after a Flatten a channel has many columns
            one = np.abs(first).reshape(len(first), -1).max(1) if ranges is None else ranges[pair.between]
            scale = np.sqrt(one / np.abs(reading).max((0, 2)))
            scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
            values[pair.first.input[1]] = first / scale.reshape(-1, *[1] * (first.ndim - 1))
            if len(pair.first.input) > 2:
                values[pair.first.input[2]] = values[pair.first.input[2]] / scale
            values[pair.second.input[1]] = (reading * scale[None, :, None]).reshape(second.shape)
    for name, each in held.items():
        each.CopyFrom(numpy_helper.from_array(values[name].astype(np.float32), name))
    return made, sum(len(values[pair.first.input[1]]) for pair in found)


def channel_ranges(model: Any, inputs: Floats) -> dict[str, Floats]:
    """Largest magnitude of each channel of what lies between the layers of each pair, over the inputs."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    found = list(pairs(watched))
    sizes = {each.name: each.dims[0] for each in watched.graph.initializer if each.dims}
    watched.graph.output.extend(onnx.ValueInfoProto(name=pair.between) for pair in found)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    largest: dict[str, Floats] = {}
    for each in inputs:
        given = session.run([pair.between for pair in found], {watched.graph.input[0].name: each[None]})
        for pair, values in zip(found, given, strict=True):
            own = np.abs(values).reshape(sizes[pair.first.input[1]], -1).max(1)
            largest[pair.between] = np.maximum(largest.get(pair.between, own), own)
    return largest


def study(name: str, ground: Ground, candidate: Candidate, work: Path) -> list[dict[str, Any]]:
    """One network in both runtimes, as it is and equalized either way."""
    import onnx

    inputs = ground.data.guard.inputs()
    export_onnx(candidate, work / "model.onnx")
    plain = onnx.load(work / "model.onnx")
    exact = candidate.predict(inputs)
    by_weights, channels = equalized(plain, None)
    by_ranges, _ = equalized(plain, channel_ranges(plain, ground.calibration))
    rows = []
    for target in ("openvino", "onnxruntime"):
        found = {}
        for kind, model in zip(KINDS, (plain, by_weights, by_ranges), strict=True):
            file = work / f"{kind}.onnx"
            onnx.save(model, file)
            runtime = backend(target)
            _same(runtime, file, work / f"{target} {kind} f32", exact, inputs)
            found[kind] = told(ground, runtime.quantize(file, work / f"{target} {kind}", ground.calibration), exact)
        rows.append({"network": name, "runtime": target, "channels": channels, **found})
        note(json.dumps(rows[-1]))
    return rows


def _same(runtime: Any, onnx_file: Path, folder: Path, exact: Floats, inputs: Floats) -> None:
    """Equalized or not, the float network must give the same answers."""
    with runtime.build(runtime.convert(onnx_file, folder, "f32")) as session:
        difference = float(np.abs(session.predict(inputs) - exact).max() / exact.std())
    if difference > 1e-3:
        raise AssertionError(f"{onnx_file.name}: equalized, the float network's answers moved by {difference:.2g} of their spread")


def row(found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    errors = [f"{found[kind]['error']:.4f}" for kind in KINDS]
    agreements = [f"{100 * found[kind]['agreement']:.2f} %" for kind in KINDS]
    return [found["network"], found["runtime"], str(found["channels"]), *errors, *agreements]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    rows = []
    with shown():
        for ground in grounds(arguments, __doc__):
            repaired = Prune(BUDGET)(ground.original, Reference(ground.original, ground.calibration))
            off = 1 - repaired.parameters / ground.original.parameters
            for name, candidate in ((ground.case.title, ground.original), (f"the same, {off:.0%} of parameters off", repaired)):
                with tempfile.TemporaryDirectory() as scratch:
                    rows += study(name, ground, candidate, Path(scratch))
    write("equalization", TITLE, list(COLUMNS), [row(each) for each in rows], {"rows": rows}, [])
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
