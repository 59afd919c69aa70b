"""TensorRT, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable

from .. import engine
from ..artifact import Artifact
from ..self_test import Floats

PACKAGE = "tensorrt"

differences = engine.differences


def version() -> str:
    """Import TensorRT and return its version."""
    return engine.version(PACKAGE)


def open_model(artifact: Artifact, threads: int | None) -> Callable[[Floats], Floats]:
    """Return a function that runs one batch; `threads`, a processor's, are of no concern here.

    Raises:
        Refused: when the engine cannot be opened here.
    """
    import tensorrt

    return engine.open_engine(tensorrt, artifact)
