"""The roofline of a compiled artifact, whose layers are read from its own file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from optimize.backends import backend, float_part
from optimize.backends.artifact import Artifact
from optimize.measure.peaks import Peaks
from optimize.measure.roofline import WIDTH_BYTES, LayerRoof, Roofline

_WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}


def roof_ms(artifact: Artifact, peaks: Peaks, batch: int) -> float:
    """The least that the artifact takes for a batch on this machine, milliseconds.

    Raises:
        InputError: when a peak was not measured.
    """
    with backend(artifact.target).build(artifact) as session:
        found = backend(artifact.target).inspect(session)
    return Roofline(tuple(_layers(artifact, peaks, batch, found))).roof_ms


def _layers(artifact: Artifact, peaks: Peaks, batch: int, precisions: Mapping[str, str]) -> Iterator[LayerRoof]:
    usual = "int8" if artifact.precision.startswith("int8") else float_part(artifact.precision)
    for name, weights, taken, given, macs in work(artifact, batch):
        precision = precisions.get(name, usual)
        precision = precision if precision in WIDTH_BYTES else usual
        width, peak = WIDTH_BYTES[precision], peaks.rate(artifact.target, precision)
        yield LayerRoof(name, 1, macs, width * weights, width * (taken + given), precision, peak, peaks.bandwidth)


def work(artifact: Artifact, batch: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Name, weights, numbers read, numbers written and MACs of every convolution and matrix product, for a whole batch.

    A transposed convolution may have a name that OpenVINO made up.
    """
    backend("openvino").version()  # keeps it from reporting home
    import openvino

    model: Any = openvino.Core().read_model(artifact.main)
    model.reshape([batch, *artifact.input_shape])
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in _WEIGHTED:
            continue
        taken, weights, given = (tuple(each.get_shape()) for each in (node.input(0), node.input(1), node.output(0)))
        # A product gives each number written one multiplication per number of its row, transposed convolutions each number read.
        if kind == "MatMul":
            macs = prod(given) * taken[-1]
        elif kind.endswith("BackpropData"):
            macs = prod(taken) * prod(weights[2 if kind.startswith("Group") else 1 :])
        else:
            macs = prod(given) * prod(weights[2 if kind.startswith("Group") else 1 :])
        yield node.get_friendly_name().split("/")[0], prod(weights), prod(taken), prod(given), macs
