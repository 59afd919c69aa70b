"""Describe how to use an artifact without this package: its input, the meaning of its output, the options of its runtime.

It is written into `artifact.json` under "use" together with the self-test, and described in `docs/artifact.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.self_test import TOLERANCES
from optimize.candidate import Floats
from optimize.data.arrays import spread
from optimize.data.dataset import Dataset, Split
from optimize.data.output_meaning import THRESHOLD, output_threshold, plain
from optimize.data.preprocessing import FLOAT_EPSILON, WHOLE_EPSILON, Preprocessing

INPUT, OUTPUT = "input", "output"
"""What `backends/export.py` calls a model's ends."""
USAGE_CASES = 64
"""Calibration images from which the range of the input and the shape of the outputs are taken."""
_LAYOUTS = {1: "NCL", 2: "NCHW", 3: "NCDHW"}


def usage(
    artifact: Artifact, predict: Callable[[Floats], Floats], data: Dataset, threads: int | None, *, runs_here: bool = True
) -> dict[str, Any]:
    """Return the section of the manifest.

    Args:
        artifact: the compiled model that ships.
        predict: runs it, (N, C, *spatial) -> (N, K) or (N, K, *spatial).
        data: the splits of the run.
        threads: number of threads that it was measured with; None for the runtime's own choice.
        runs_here: whether this machine runs the artifact; where it does not, `predict` is that of the network in torch.
    """
    split = data.calibration
    # calibration images, so that the test split stays unread
    inputs = split.inputs(spread(len(split), USAGE_CASES))
    outputs = predict(inputs)
    return {
        "options": _options(artifact),
        "defaults_suffice": _defaults_suffice(artifact, inputs, outputs) if runs_here else None,
        "threads": threads,
        "input": {
            "name": INPUT,
            "shape": ["N", *artifact.input_shape],
            "dtype": "float32",
            "layout": _LAYOUTS.get(len(artifact.input_shape) - 1, "NC…"),
            "range": [float(inputs.min()), float(inputs.max())],
            "preprocessing": _steps(split),
        },
        "output": {
            "name": OUTPUT,
            "shape": ["N", *outputs.shape[1:]],
            "dtype": "float32",
            **_decision(split, list(data.classes), outputs.shape),
        },
    }


def _options(artifact: Artifact) -> dict[str, str]:
    """Return the runtime's options that change the numbers, by their own names; empty where the defaults are used."""
    # a backend without this function has no option that changes the numbers
    known = getattr(backend(artifact.target), "options", None)
    return dict(known(artifact.precision)) if known is not None else {}


def _defaults_suffice(artifact: Artifact, inputs: Floats, outputs: Floats) -> bool | None:
    """Return whether the runtime's default options give the same outputs; None where this machine cannot tell."""
    plainly = getattr(backend(artifact.target), "predict_plainly", None)
    plain = None if plainly is None else plainly(artifact, inputs)
    if plain is None:
        return None
    # a mixed artifact, "int8+f32", may differ as much as its coarsest part
    allowed = max(TOLERANCES[part][0] for part in artifact.precision.split("+"))
    return bool(np.abs(plain - outputs).max() <= allowed * (float(np.ptp(outputs)) or 1.0))


def _steps(split: Split) -> dict[str, Any]:
    """From a stored image to the network's input, in this order."""
    preprocessing: Preprocessing = split.preprocessing
    # images of bytes are divided by 255 first, unless each image is standardized: that takes the scale off anyway
    whole = split.images.dtype == np.uint8
    spread = WHOLE_EPSILON if whole else FLOAT_EPSILON
    return {
        "stored": "uint8, channels last, 0 to 255" if whole else "float, channels first",
        "scale": 1 / 255 if whole and preprocessing.standardize is None else 1.0,
        "standardize": None if preprocessing.standardize is None else {"of": preprocessing.standardize, "added_to_std": spread},
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "pad": preprocessing.pad,
    }


def _decision(split: Split, classes: list[str], outputs: tuple[int, ...]) -> dict[str, Any]:
    """Return what the outputs are, of shape (N, K) or (N, K, *spatial), and how a decision follows from them."""
    threshold = None
    if split.task == "ordinal":
        decision = "argmax of axis 1; grades in their order"
    elif split.task == "embedding":
        # no output is a class, so there are no names
        decision, classes = "the outputs are an embedding: compare them by cosine", []
    elif split.task == "regression":
        decision = "the output is the number"
    elif split.task == "multilabel":
        decision, threshold = "output above threshold: one label per output", output_threshold(split.threshold, split.outputs)
    elif split.task == "classification" and outputs[1] == 1:
        decision = "output above threshold: the second class, else the first"
        threshold = output_threshold(split.threshold, split.outputs)
    elif split.task == "classification":
        decision = "argmax of axis 1"
    elif split.labels.dtype == np.bool_:
        decision, threshold = "output above threshold: one mask per output", THRESHOLD[split.outputs]
    else:
        decision = "argmax of axis 1; 0 is the background, then the classes"
    return {"task": split.task, "meaning": plain(split.outputs), "decision": decision, "classes": classes, "threshold": threshold}
