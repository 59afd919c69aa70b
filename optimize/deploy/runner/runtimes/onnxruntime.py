"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import processor
from ..artifact import Artifact
from ..errors import Refused
from ..self_test import Floats

PACKAGE = "onnxruntime"
_QUIET = 3  # errors only

differences = processor.differences


def version() -> str:
    """Import ONNX Runtime and return its version."""
    import onnxruntime

    return str(onnxruntime.__version__)


def open_model(artifact: Artifact, threads: int | None) -> Callable[[Floats], Floats]:
    """Return a function that runs one batch; several threads may call it at once.

    Args:
        artifact: the artifact, with the bytes of its model.
        threads: number of threads of one call; None for as many as there are cores.

    Raises:
        Refused: when the runtime does not open the model, or it takes other inputs than the artifact says.
    """
    import onnxruntime

    if artifact.options:
        raise Refused(f"artifact.json states options {sorted(artifact.options)}, which ONNX Runtime has not: get the bundle again.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # from the bytes that were hashed, not from the file: it may have been replaced since
    session = onnxruntime.InferenceSession(next(iter(artifact.files.values())), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    processor.require_shape(artifact, entry.shape[1:])

    def run(inputs: Floats) -> Floats:
        return np.asarray(session.run(None, {entry.name: inputs})[0], dtype=np.float32)

    return run
