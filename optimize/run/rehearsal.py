"""Export and compile the original before the search, for every runtime of the target, and compare it with torch there.

A runtime that cannot open the network, or that computes something else (OpenVINO ignores the antialiasing of a bicubic resize), is found in
seconds and not after a search of hours. Where the target leaves a choice, such a runtime is left out; otherwise the run ends.

Example: `--target cpu` stands for ONNX Runtime and OpenVINO. If OpenVINO's outputs differ by 4 % of the largest one, ONNX Runtime is left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optimize.backends import Backend
from optimize.backends.error_reasons import runtime_reason
from optimize.backends.export import TOLERANCE, steady_cases
from optimize.backends.export_template import Exporter
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError, OptimizeError
from optimize.progress import note, stage


def rehearse(
    original: Candidate, runtimes: Sequence[Backend], inputs: Floats, threads: int | None, exporter: Exporter | None = None
) -> tuple[tuple[Backend, ...], tuple[str, ...]]:
    """Return the runtimes that compute what the original computes, and a note on each one that does not.

    Args:
        original: the original network; it is not changed.
        runtimes: runtimes of the target.
        inputs: images of the data, (N, C, *spatial) float32.
        threads: number of threads of the runtimes; None for their own choice.
        exporter: exporter that keeps the file of the original for the rest of the run; None where nothing follows.

    Raises:
        InputError: when the network cannot be exported, or no runtime is left.
    """
    able: list[Backend] = []
    reasons: list[str] = []
    with stage("export and compile the original"), tempfile.TemporaryDirectory() as scratch:
        onnx = Path(scratch) / "original.onnx"
        # one export for all runtimes: each of them reads the same file
        (exporter or Exporter()).export(original, onnx, inputs)
        expected = original.predict(inputs)
        for runtime in runtimes:
            reason = _reason_against(runtime, onnx, Path(scratch) / runtime.NAME, original, inputs, expected, threads)
            if reason is None:
                able.append(runtime)
            else:
                reasons.append(f"{runtime.NAME} cannot run this network: {reason}")
    if not able:
        raise InputError(f"`model`: {'; '.join(reasons)}: take another --target, or write that part of forward with other operators.")
    notes = tuple(f"{reason}; it was left out" for reason in reasons)
    for line in notes:
        note(line)
    return tuple(able), notes


def _reason_against(
    runtime: Backend, onnx: Path, folder: Path, original: Candidate, inputs: Floats, expected: Floats, threads: int | None
) -> str | None:
    """Return why a runtime does not compute what torch computes; None where it does, or where it cannot run on this machine."""
    try:
        # the first precision is the exact one: a lower one may differ from torch for good reasons
        artifact = runtime.convert(onnx, folder, runtime.precisions()[0])
        # a target that only compiles here, such as an engine without a GPU: that it compiles is all that can be known
        if runtime.unavailable_reason() is not None:
            return None
        with runtime.build(artifact, threads=threads) as session:
            outputs = session.predict(inputs)
    except OptimizeError:
        raise
    except Exception as problem:  # whatever a runtime raises about a network that it cannot take
        return runtime_reason(problem)
    if outputs.shape != expected.shape:
        return f"it gives outputs of shape {outputs.shape}, and torch gives {expected.shape}"
    # relative to the largest output of all cases: near 0 a relative difference would be large for no reason
    apart = np.abs(outputs - expected).reshape(len(outputs), -1).max(1) / max(float(np.abs(expected).max()), 1e-6)
    # `not … <=` is true for NaN on either side. Cases on which torch itself is not stable, where a rounding error changes the output much,
    # are then left out: no runtime could agree on them.
    if not apart.max() <= TOLERANCE and (steady := steady_cases(original, inputs)).any():
        apart = apart[steady]
    difference = float(apart.max())
    if not np.isfinite(difference):
        return "its outputs are not all finite where torch's are"
    if difference > TOLERANCE:
        return f"its outputs differ from torch's by {100 * difference:.2g} % of the largest, more than {100 * TOLERANCE:g} %"
    return None
