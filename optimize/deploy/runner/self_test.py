"""The self-test: recorded inputs run here, and the outputs are compared with those of the machine that verified the model.

A machine with other instructions computes with other kernels. Most differ by rounding alone; those that do not raise no error. Only a
comparison of numbers shows it.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .artifact import Artifact
from .errors import Refused

Floats: TypeAlias = npt.NDArray[np.float32]

CASES = 16
LARGEST_BYTES = 16 << 20
"""Largest size of all inputs together: of volumes there are fewer inputs, at least two."""
_HEADER = 1 << 12


def require_same(artifact: Artifact, run: Callable[[Floats], Floats], allowed: float) -> str:
    """Run the self-test and return its finding in one line.

    Args:
        artifact: the artifact, with the bytes of its self-test.
        run: function that runs the model, (N, C, *spatial) -> (N, K) or (N, K, *spatial).
        allowed: largest difference of an output that passes, as a share of the range of the recorded outputs.

    Raises:
        Refused: when outputs differ by more, a decision changed by more than a near tie, or the file is no self-test of this model.
    """
    inputs, expected = _read(artifact)
    outputs = run(inputs)
    if outputs.shape != expected.shape:
        raise _no_self_test(f"the model gives {outputs.shape}, the file holds {expected.shape}")
    spread = float(expected.max() - expected.min()) or 1.0
    difference = float(np.abs(outputs - expected).max()) / spread
    changed = _changed(expected, outputs, allowed * spread, _threshold(artifact.output))
    moved = f"outputs differ by {100 * difference:.3g} % of their range ({100 * allowed:g} % allowed)"
    line = f"{len(inputs)} inputs, {changed} decisions changed, {moved}"
    # written so that a difference that is no number is refused too
    if not difference <= allowed or changed:
        raise Refused(f"self-test failed ({line}), so this machine computes something else: use a machine like that in manifest.json.")
    if not ((inputs != inputs[0]).any() and (expected != expected[0]).any()):
        raise _no_self_test("all its inputs, or all its outputs, are the same, so it can show no fault")
    return line


def cases(input_shape: tuple[int, ...]) -> int:
    """Return how many inputs of shape (C, *spatial) a self-test has."""
    return int(np.clip(LARGEST_BYTES // (math.prod(input_shape) * 4), 2, CASES))


def _read(artifact: Artifact) -> tuple[Floats, Floats]:
    content = artifact.golden
    assert content is not None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        # a few packed bytes can hold gigabytes of zeros; a self-test is not packed
        if sum(sizes.values()) > len(content):
            raise ValueError(f"its arrays take {sum(sizes.values())} bytes, the file has {len(content)}")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            names, inputs, expected = sorted(file.files), file["inputs"], file["outputs"]
    except Exception as problem:  # whatever numpy and zipfile raise about a file that comes from outside
        raise _no_self_test(" ".join(str(problem).split())[:200]) from None
    if names != ["inputs", "outputs"] or inputs.shape[1:] != artifact.input_shape or expected.ndim < 2 or len(inputs) != len(expected):
        raise _no_self_test(f"inputs {inputs.shape}, outputs {expected.shape}")
    if len(inputs) != cases(artifact.input_shape):
        raise _no_self_test(f"it has {len(inputs)} inputs, and a whole one has {cases(artifact.input_shape)}")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in (inputs, expected)):
        raise _no_self_test("its numbers are not all finite numbers of 32 bits")
    return inputs, expected


def _no_self_test(why: str) -> Refused:
    return Refused(f"the self-test is none of this model ({why}): get the bundle again.")


def _threshold(output: Any) -> float:
    """Return the number above which a single output says yes."""
    stated = output.get("threshold")
    return float(stated) if isinstance(stated, int | float) else 0.0


def _changed(expected: Floats, outputs: Floats, tie: float, threshold: float) -> int:
    """Return the number of decisions, one for each input or each of its positions, that changed by more than a near tie.

    Worked example: recorded outputs 2.00 and 1.99, outputs here 1.99 and 2.00, and a tie of 0.05. The decision is another one, but what is
    chosen now was only 0.01 below the best: no change. Recorded 3 and 1, here 1 and 3: what is chosen now was 2 below, so it is a change.
    """
    if expected.shape[1] == 1:
        return int((((expected > threshold) != (outputs > threshold)) & (np.abs(expected - threshold) > tie)).sum())
    now = outputs.argmax(1, keepdims=True)
    lost = expected.max(1, keepdims=True) - np.take_along_axis(expected, now, 1)
    return int((lost > tie).sum())
