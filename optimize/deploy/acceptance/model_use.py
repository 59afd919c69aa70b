"""How an artifact is used, as the section "use" of its manifest says (docs/artifact.md): its inputs, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from optimize.backends.artifact import MANIFEST, Artifact
from optimize.candidate import Floats, Meaning
from optimize.data.arrays import Integers
from optimize.data.output_meaning import MEANINGS, meaning_of, stated_threshold
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError
from optimize.guard.classification_score import answers

TASKS = ("classification", "segmentation", "multilabel", "ordinal", "regression", "embedding")


@dataclass(frozen=True)
class ModelUse:
    """What the site's cases must be like, and how a decision follows from an output.

    Args:
        task: one of `TASKS`.
        classes: names of the classes, in the order of the outputs; the background is not among them.
        meaning: whether outputs are "logits" or "probabilities".
        overlapping: whether each output is a yes or no of its own, cut at a threshold; false where the largest output decides.
        preprocessing: preprocessing that turns stored images into the network's input.
        bytes_stored: whether stored images are uint8; false for floats.
        input_shape: (C, *spatial).
        output_shape: (K,) or (K, *spatial).
        input_range: smallest and largest input of the run's calibration images.
        threshold: probability from which an output is a yes, where outputs are cut.
    """

    task: str
    classes: tuple[str, ...]
    meaning: Meaning
    overlapping: bool
    preprocessing: Preprocessing
    bytes_stored: bool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_range: tuple[float, float]
    threshold: float = 0.5

    def decided(self, outputs: Floats) -> Integers:
        """Return the number of the class of each case, (N,), of outputs (N, K) of a classification."""
        scores = answers(outputs, np.zeros(len(outputs), np.int64), self.classes, meaning=self.meaning, threshold=self.threshold)
        return scores.predicted

    @classmethod
    def of(cls, artifact: Artifact) -> ModelUse:
        """Return what the manifest of an artifact says.

        Raises:
            InputError: when the manifest has no such section, as one of an earlier version has not, or it is damaged.
        """
        try:
            return cls._of(artifact.use["input"], artifact.use["output"], artifact.input_shape)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
            if isinstance(problem, InputError):
                raise
            said = f"{type(problem).__name__}: {problem}"
            raise InputError(
                f"`{artifact.folder / MANIFEST}` does not say how the model is used ({said}): make the bundle again with this version."
            ) from None

    @classmethod
    def _of(cls, taken: Mapping[str, Any], given: Mapping[str, Any], input_shape: tuple[int, ...]) -> ModelUse:
        steps = taken["preprocessing"]
        standardize = None if steps["standardize"] is None else str(steps["standardize"]["of"])
        preprocessing = Preprocessing(tuple(steps["mean"]), tuple(steps["std"]), int(steps["pad"]), standardize)
        low, high = map(float, taken["range"])
        classes, output_shape = tuple(map(str, given["classes"])), tuple(map(int, given["shape"][1:]))
        overlapping = given["threshold"] is not None
        # with a background there is one output more than there are classes
        background = given["task"] == "segmentation" and not overlapping
        expected = 1 if given["task"] == "classification" and overlapping else len(classes) + background
        if (
            given["task"] not in TASKS
            or given["meaning"] not in (*MEANINGS, "values")
            or (output_shape[0] != expected and given["task"] != "embedding")
        ):
            raise ValueError("task, meaning, shape and classes of the output do not fit each other")
        # an embedding has no classes; its figures stand in one row
        classes = ("all identities",) if given["task"] == "embedding" else classes
        return cls(
            task=given["task"],
            classes=classes,
            meaning=meaning_of(given["task"], cast(Meaning, given["meaning"])),
            overlapping=overlapping,
            preprocessing=preprocessing,
            bytes_stored=str(steps["stored"]).startswith("uint8"),
            input_shape=input_shape,
            output_shape=output_shape,
            input_range=(low, high),
            threshold=stated_threshold(given["threshold"], cast(Meaning, given["meaning"])),
        )
