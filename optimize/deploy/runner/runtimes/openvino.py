"""OpenVINO on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import processor
from ..artifact import Artifact
from ..errors import Refused
from ..self_test import Floats

PACKAGE = "openvino"
_OPTIONS = {"INFERENCE_PRECISION_HINT"}
"""Options that an artifact may state. Others could name files, such as a cache of compiled code."""

differences = processor.differences


def version() -> str:
    """Import OpenVINO and return its version."""
    import openvino

    return str(openvino.get_version())


def open_model(artifact: Artifact, threads: int | None) -> Callable[[Floats], Floats]:
    """Return a function that runs one batch; calls from several threads wait for each other.

    Args:
        artifact: the artifact, with the bytes of its model: the graph, then the weights.
        threads: number of threads of one call; None for as many as there are cores.

    Raises:
        Refused: when the runtime does not open the model, or it takes other inputs than the artifact says.
    """
    import openvino

    # without the hint OpenVINO would compute in bf16 wherever the processor can
    if set(artifact.options) != _OPTIONS:
        raise Refused(f"artifact.json states options {sorted(artifact.options)}, required is {sorted(_OPTIONS)}: get the bundle again.")
    config: dict[str, Any] = {**artifact.options, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    graph, weights = artifact.files.values()
    core = openvino.Core()
    # from the bytes that were hashed, not from the files: they may have been replaced since
    compiled = core.compile_model(core.read_model(graph, weights), "CPU", config)
    sizes = list(compiled.input(0).partial_shape)[1:]
    processor.require_shape(artifact, [size.get_length() if size.is_static else str(size) for size in sizes])
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(inputs: Floats) -> Floats:
        with lock:
            request.infer({0: inputs}, share_inputs=True)
            return np.array(request.get_output_tensor().data, dtype=np.float32)

    return run
