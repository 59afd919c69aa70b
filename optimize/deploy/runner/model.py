"""The model of a bundle, behind `predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import decisions, preprocess
from .checks import CHUNK, check
from .errors import WrongInput
from .preprocess import Array
from .self_test import Floats

if TYPE_CHECKING:
    from types import TracebackType


class Model:
    """A bundle that passed its checks, ready to answer; a context manager. Several threads may call it at once.

    What the bundle has to say at every start, such as that it was not accepted, is printed to stderr.

    Args:
        folder: folder of the bundle.
        public_key: key that must have signed it, a file in PEM or the key in base64; None: that of the environment variable
            `BUNDLE_PUBLIC_KEY`, or none.
        threads: number of threads of one call; None for as many as in the run.

    Attributes:
        input_shape: (C, *spatial) of the network's input.
        stored_shape: shape of one stored image: (*spatial, C) of uint8, or (C, *spatial) of floats.
        task: "classification" or "segmentation".
        classes: names of the classes; the background is not among them.
        manifest: content of manifest.json.
        notes: sentences that were printed.
        checked: what the checks found: `fingerprint` of the pinned key, `finding` of the self-test, and the artifact.

    Raises:
        Refused: when a check fails; its text is one line.
        WrongInput: when the call is wrong.
    """

    def __init__(self, folder: str | Path, public_key: str | Path | None = None, threads: int | None = None) -> None:
        if threads is not None and (type(threads) is not int or threads < 1):
            raise WrongInput(f"`threads` (={threads!r}) must be a whole number from 1: leave it out for as many as in the run.")
        self.checked = check(Path(folder), public_key, threads)
        artifact = self.checked.artifact
        self.preprocessing = preprocess.read(artifact.preprocessing, artifact.input_shape)
        self.decisions = decisions.read(artifact.output)
        self.input_shape, self.stored_shape = artifact.input_shape, self.preprocessing.stored_shape
        self.task, self.classes = self.decisions.task, self.decisions.classes
        self.manifest, self.notes = self.checked.manifest.content, self.checked.notes
        self._run = self.checked.run
        self._closed = False
        for note in self.notes:
            print(f"bundle: {note}", file=sys.stderr)

    def predict(self, images: Array) -> Floats:
        """Return the model's outputs, float32 (N, K) or (N, K, *spatial) with the pad cut off.

        Args:
            images: images as the run stored them, uint8 (N, *spatial, C) or (N, H, W), or floats (N, C, *spatial), for any N from 1.

        Raises:
            WrongInput: when they are of another type or shape, naming both; nothing is resized.
        """
        images = _array("images", images)
        self.preprocessing.require(images)
        # preprocessed in the same pieces as the runtime sees, so that memory stays bounded for any N
        pieces = [self.compute(self.preprocessing(images[start : start + CHUNK])) for start in range(0, len(images), CHUNK)]
        outputs = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return np.ascontiguousarray(self.preprocessing.inner(outputs))

    def run(self, inputs: Floats) -> Floats:
        """Return the outputs for inputs that are preprocessed already, (N, C, *spatial) floats; a pad of masks is not cut off.

        Raises:
            WrongInput: when the shape or the type is another one, numbers are not finite, or the model is closed.
        """
        inputs = _array("inputs", inputs)
        if self._closed:
            raise WrongInput("this model is closed: open the bundle again.")
        if inputs.ndim != len(self.input_shape) + 1 or inputs.shape[1:] != self.input_shape or not len(inputs):
            required = ", ".join(("N", *map(str, self.input_shape)))
            found = f"inputs have shape {tuple(inputs.shape)}"
            raise WrongInput(f"{found}, required is ({required}), N >= 1: preprocess them as in preprocess.json.")
        if inputs.dtype.kind != "f":
            raise WrongInput(f"inputs are of type {inputs.dtype}, required are floats: preprocess them as in preprocess.json.")
        if not np.isfinite(inputs).all():
            raise WrongInput("inputs hold numbers that are not finite: preprocess them as in preprocess.json.")
        return self.compute(inputs)

    def compute(self, inputs: Floats) -> Floats:
        """Return what `run` returns, without a check: for inputs of `preprocessing`, where one bad image must not stop the others.

        Raises:
            WrongInput: when the model is closed.
        """
        return self._run(inputs)

    def decide(self, outputs: Floats) -> list[str] | Array:
        """Return class names, N of them; or masks: class numbers (N, *spatial) with 0 for the background, or bool (N, K, *spatial).

        Args:
            outputs: what `predict` returned.

        Raises:
            WrongInput: when they are of another shape or type, or not finite.
        """
        return self.decisions(self._required(outputs))

    def probabilities(self, outputs: Floats) -> Array:
        """Return outputs of `predict` as probabilities, float64 of the same shape.

        Raises:
            WrongInput: when they are of another shape or type, or not finite.
        """
        return self.decisions.probabilities(self._required(outputs))

    def _required(self, outputs: Floats) -> Floats:
        """Return outputs, after a check that `predict` may have returned them."""
        outputs = _array("outputs", outputs)
        masks = self.task == "segmentation"
        # a pad is cut off masks, so their size is not that of the inputs
        if outputs.ndim != (len(self.input_shape) + 1 if masks else 2) or outputs.shape[1] != self.decisions.outputs:
            required = f"(N, {self.decisions.outputs}{', *spatial' if masks else ''})"
            raise WrongInput(f"outputs have shape {outputs.shape}, required is {required}: give what `predict` returned.")
        if outputs.dtype.kind != "f":
            raise WrongInput(f"outputs are of type {outputs.dtype}, required are floats: give what `predict` returned.")
        if not np.isfinite(outputs).all():
            raise WrongInput("outputs hold numbers that are not finite: check the images that they are of.")
        return outputs

    def close(self) -> None:
        """Let go of the model; closing twice does no harm."""
        self._closed = True
        self._run = _gone

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _array(name: str, values: Array) -> Array:
    try:
        return np.asarray(values)
    except (ValueError, TypeError):  # such as lists of unequal lengths
        raise WrongInput(f"`{name}` cannot be made an array: give an array of numpy.") from None


def _gone(inputs: Floats) -> Floats:
    raise WrongInput("this model is closed: open the bundle again.")
