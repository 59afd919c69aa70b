"""The original goes the whole way before the search: exported, compiled for every runtime of the target, and compared with torch there.

A runtime that cannot open the network, or computes something else (OpenVINO ignores the antialiasing of a bicubic resize), is found out in
seconds and not after the search. Where the target leaves a choice, such a runtime is dropped; else the run ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optimize.backends import Backend
from optimize.backends.error_reasons import runtime_reason
from optimize.backends.export import TOLERANCE, export_onnx, steady_cases
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError, OptimizeError
from optimize.progress import note, stage


def rehearse(
    original: Candidate, runtimes: Sequence[Backend], inputs: Floats, threads: int | None
) -> tuple[tuple[Backend, ...], tuple[str, ...]]:
    """The runtimes that compute what the original computes, and a note about each one that does not.

    Args:
        original: the network; it is not changed.
        runtimes: of the target.
        inputs: (N, C, *spatial), images of the data.
        threads: of the runtimes.

    Raises:
        InputError: when the network cannot be exported, or no runtime is left.
    """
    able: list[Backend] = []
    obstacles: list[str] = []
    with stage("export and compile the original"), tempfile.TemporaryDirectory() as scratch:
        onnx = Path(scratch) / "original.onnx"
        export_onnx(original, onnx, inputs)
        expected = original.predict(inputs)
        for runtime in runtimes:
            reason = _reason_against(runtime, onnx, Path(scratch) / runtime.NAME, original, inputs, expected, threads)
            if reason is None:
                able.append(runtime)
            else:
                obstacles.append(f"{runtime.NAME} cannot run this network: {reason}")
    if not able:
        raise InputError(f"`model`: {'; '.join(obstacles)}: take another --target, or write that part of forward with other operators.")
    notes = tuple(f"{obstacle}; it was left out" for obstacle in obstacles)
    for line in notes:
        note(line)
    return tuple(able), notes


def _reason_against(
    runtime: Backend, onnx: Path, folder: Path, original: Candidate, inputs: Floats, expected: Floats, threads: int | None
) -> str | None:
    """Why a runtime does not do what torch does; None where it does, as far as this machine can tell."""
    try:
        artifact = runtime.convert(onnx, folder, runtime.precisions()[0])
        if runtime.unavailable_reason() is not None:
            return None
        with runtime.build(artifact, threads=threads) as session:
            found = session.predict(inputs)
    except OptimizeError:
        raise
    except Exception as problem:  # whatever a runtime raises about a network that it cannot take
        return runtime_reason(problem)
    if found.shape != expected.shape:
        return f"it gives outputs of shape {found.shape}, and torch gives {expected.shape}"
    apart = np.abs(found - expected).reshape(len(found), -1).max(1) / max(float(np.abs(expected).max()), 1e-6)
    # written so that a NaN on either side fails
    if not apart.max() <= TOLERANCE and (steady := steady_cases(original, inputs)).any():
        apart = apart[steady]
    difference = float(apart.max())
    if not np.isfinite(difference):
        return "its outputs are not all finite where torch's are"
    if difference > TOLERANCE:
        return f"its outputs differ from torch's by {100 * difference:.2g} % of the largest, more than {100 * TOLERANCE:g} %"
    return None
