"""Score both models of a comparison on the same labelled cases, each with its own preprocessing.

An artifact states its preprocessing, its classes and the meaning of its outputs under `use` (`docs/artifact.md`). A plain ONNX file states
nothing: it is read as the other side is, and where that states nothing either, uint8 images are divided by 255, as `compress` does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.errors import InputError
from optimize.progress import stage

if TYPE_CHECKING:
    from optimize.candidate import Floats, Meaning
    from optimize.data.dataset import Preprocessing
    from optimize.data.split import Split
    from optimize.deploy.gate.stored_baseline import StoredBaseline
    from optimize.guard.score import Score
    from optimize.measure.benchmark import Contender

LARGEST_STORED = 8 << 20
"""Largest size of outputs that a stored baseline holds, in bytes: outputs of classes are far smaller, masks are larger."""


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of both models on the same cases.

    Args:
        baseline: score of the baseline; None where there is none, or `absent` says why.
        candidate: score of the candidate; None where no data were given.
        split: the cases; None where no data were given.
        outputs: outputs of the candidate, (n, K); None where they are masks, or no data were given.
        absent: why accuracy cannot be compared, and what to do; empty where it can.
    """

    baseline: Score | None = None
    candidate: Score | None = None
    split: Split | None = None
    outputs: Floats | None = None
    absent: str = ""

    def record(self) -> dict[str, Any] | None:
        """Return the candidate's outputs as a stored baseline holds them; None where there are none, or too many."""
        if self.split is None or self.outputs is None or self.outputs.nbytes > LARGEST_STORED:
            return None
        outputs = base64.b64encode(self.outputs.astype("<f4").tobytes()).decode()
        return {"split_sha256": self.split.sha256, "shape": list(self.outputs.shape), "outputs_float32": outputs}


def score_models(baseline: Contender | None, candidate: Contender, stored: StoredBaseline | None, data: str) -> Scored:
    """Score both models on the test split of the data.

    Args:
        baseline: the baseline; None where it is stored, or there is none.
        candidate: the candidate.
        stored: the stored baseline; None where there is none.
        data: source of the data; empty for none.

    Raises:
        InputError: when the data do not fit the models.
    """
    if not data:
        return Scored(absent="no data were given: pass --data DATA")
    from optimize.data.dataset import load_data
    from optimize.data.output_meaning import classes_of

    stated = [model_use(model) for model in (candidate, baseline) if model is not None]
    with stage("load the data"):
        shape = _output_shape(candidate)
        use = next((use for use in stated if use), {})
        if use.get("output", {}).get("task") == "embedding":
            raise InputError("`--data`: a gate does not judge embeddings: leave it out to compare latency, and judge them with compress.")
        loaded = load_data(
            data,
            preprocessing=_preprocessing(use),
            input_shape=candidate.input_shape,
            num_classes=classes_of(shape),
            mask_shape=shape[2:],
            classes=tuple(use.get("output", {}).get("classes", ())),
        )
    split = _as_read(loaded.test, stated[0] or use)
    new, outputs = _scored(candidate, split, loaded.classes)
    if baseline is not None:
        return Scored(_scored(baseline, _as_read(loaded.test, stated[1] or use), loaded.classes)[0], new, split, outputs)
    if stored is None:
        return Scored(None, new, split, outputs)
    old = _stored_outputs(stored.figures.get("max_drop"), split)
    if isinstance(old, str):
        return Scored(None, new, split, outputs, absent=old)
    if old.shape[1] != shape[1]:
        raise InputError(f"`--candidate` gives {shape[1]} classes and the baseline {old.shape[1]}: compare models of the same classes.")
    from optimize.guard.score import score

    answers = [(old, split.labels)]
    before = score(split.task, answers, loaded.classes, split.patients, split.groups, split.outputs, split.threshold)
    return Scored(before, new, split, outputs)


def model_use(model: Contender) -> Mapping[str, Any]:
    """Return how to use a model, as its manifest states it; empty where it states nothing."""
    artifact: Any = model.model
    return dict(getattr(artifact, "use", {}) or {})


def _output_shape(model: Contender) -> tuple[int, ...]:
    with model.open(None) as session:
        return tuple(session.predict(np.zeros((1, *model.input_shape), dtype=np.float32)).shape)


def _preprocessing(use: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that a manifest states; uint8 over 255 where it states none."""
    from optimize.data.dataset import Preprocessing

    try:
        steps = use.get("input", {}).get("preprocessing", {})
        standardize = (steps.get("standardize") or {}).get("of")
        return Preprocessing(tuple(steps.get("mean", ())), tuple(steps.get("std", ())), int(steps.get("pad", 0)), standardize)
    except (AttributeError, TypeError, ValueError) as problem:  # a manifest comes from outside
        raise InputError(f"`use` of an artifact states no preprocessing that can be read ({problem}): make the artifact again.") from None


def _as_read(split: Split, use: Mapping[str, Any]) -> Split:
    """Return the split as one model reads it: its own preprocessing, and the meaning of its own outputs where it states one."""
    from optimize.data.output_meaning import stated_threshold

    output = use.get("output", {})
    meaning: Meaning = output.get("meaning", split.outputs)
    return replace(split, preprocessing=_preprocessing(use), outputs=meaning, threshold=stated_threshold(output.get("threshold"), meaning))


def _scored(model: Contender, split: Split, classes: tuple[str, ...]) -> tuple[Score, Floats | None]:
    """Return the score, and the outputs of classes, which a stored baseline keeps."""
    from optimize.guard.evaluate import score_split

    kept: list[Floats] = []
    with model.open(None) as session:

        def predict(inputs: Floats) -> Floats:
            outputs = session.predict(inputs)
            if split.task == "classification":
                kept.append(outputs)
            return outputs

        score = score_split(predict, split, classes, f"accuracy of {model.name}")
    return score, np.concatenate(kept) if kept else None


def _stored_outputs(record: Any, split: Split) -> Floats | str:
    """Return the outputs that a stored baseline holds for these cases; a sentence where it holds none."""
    again = "measure it again with --write-baseline and the same --data, or name the model itself as --baseline"
    if not isinstance(record, dict):
        return f"the stored baseline holds no outputs: {again}"
    if record.get("split_sha256") != split.sha256:
        return f"the stored baseline holds outputs of other cases: {again}"
    try:
        outputs = np.frombuffer(base64.b64decode(record["outputs_float32"], validate=True), dtype="<f4").astype(np.float32)
        outputs = outputs.reshape([int(size) for size in record["shape"]])
    except (KeyError, TypeError, ValueError, binascii.Error):
        return f"the stored baseline's outputs are damaged: {again}"
    # one row for each case, or the cases could not be paired
    return outputs if outputs.ndim == 2 and len(outputs) == len(split) else f"the stored baseline's outputs are damaged: {again}"
