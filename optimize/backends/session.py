"""A compiled model behind `predict`: the same for every runtime, which hands in the function that runs one batch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

    from optimize.backends.artifact import Artifact
    from optimize.candidate import Floats

CHUNK = 32
"""Largest batch that a runtime sees. Activations grow with the batch: a whole test split at once would not fit into memory."""


def require_inputs(inputs: Floats, shape: tuple[int, ...]) -> None:
    """Check that `inputs` are floats of shape (N, *shape) with N >= 1.

    Raises:
        InputError: naming both shapes, or the dtype.
    """
    if inputs.ndim != len(shape) + 1 or inputs.shape[1:] != shape or not len(inputs):
        expected = ", ".join(("N", *map(str, shape)))
        raise InputError(f"`inputs` (shape {tuple(inputs.shape)}) must have shape ({expected}) with N >= 1, as the model was exported.")
    if inputs.dtype.kind != "f":
        raise InputError(f"`inputs` (dtype {inputs.dtype}) must be floats, preprocessed as the network expects them.")


def require_own(artifact: Artifact, sizes: Sequence[object]) -> None:
    """Check that a model takes the inputs that its artifact says.

    Args:
        artifact: the artifact, as read.
        sizes: (C, *spatial) as the opened model has it; what is no number is open.

    Raises:
        InputError: naming both shapes.
    """
    said = artifact.input_shape
    if len(sizes) != len(said) or any(isinstance(size, int) and size != asked for size, asked in zip(sizes, said, strict=True)):
        own = ", ".join(map(str, sizes))
        raise InputError(
            f"artifact `{artifact.folder}` says that inputs are ({', '.join(map(str, said))}), its model takes ({own}): make it again."
        )


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep garbage collection out of a block, where its time would be charged to whatever is timed; nested blocks do nothing."""
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Session:
    """A model ready to run; a context manager that lets go of it at the end.

    Args:
        input_shape: (C, *spatial).
        run: one batch (N, C, *spatial) -> (N, K, ...), N at most 32.
        handle: the object that the backend's `inspect` reads.
        on_close: called once by `close`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        run: Callable[[Floats], Floats],
        handle: Any,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.input_shape = input_shape
        self.handle = handle
        self._run: Callable[[Floats], Floats] | None = run
        self._on_close = on_close

    def predict(self, inputs: Floats) -> Floats:
        """Run the model, (N, C, *spatial) -> (N, K) or (N, K, *spatial), float32, for any N.

        Raises:
            InputError: when the shape is not the model's (both are named) or the session is closed.
        """
        if self._run is None:
            raise InputError("this session is closed: build a new one.")
        require_inputs(inputs, self.input_shape)
        # no copy where the array is already contiguous float32, which the measured calls are
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if len(inputs) <= CHUNK:
            return self._run(inputs)
        return np.concatenate([self._run(inputs[start : start + CHUNK]) for start in range(0, len(inputs), CHUNK)])

    def close(self) -> None:
        """Free the compiled model; closing twice does no harm."""
        # taken out first: a second close, or one that is called from within, finds nothing to do
        on_close, self._on_close = self._on_close, None
        # both references go, so that the runtime's memory is free even while somebody still holds the session
        self._run = self.handle = None
        if on_close is not None:
            on_close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
