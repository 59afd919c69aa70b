"""What is said about each image: the class with its probabilities, or the size of each mask and its file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import masks
from .errors import WrongInput
from .model import Model
from .preprocess import Array


class Answers:
    """Answers for batches of images.

    Args:
        model: the model.
        out: folder that masks are written into; None: they are only counted.

    Raises:
        WrongInput: when `out` is given and the model gives no masks, or it cannot be made.
    """

    def __init__(self, model: Model, out: Path | None) -> None:
        self._model, self._out = model, out
        self._written: Counter[str] = Counter()
        if out is None:
            return
        if model.task != "segmentation":
            raise WrongInput("`--out` is for masks, and this model gives classes: leave it out.")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise WrongInput(f"`--out` (={out}) cannot be made ({problem.strerror}): name another folder.") from None

    def __call__(self, batch: Sequence[tuple[Path, int | None, Array]]) -> list[dict[str, Any]]:
        """Return an answer for each image of a batch.

        Args:
            batch: file, place in a stack or None, and image as it was stored, of one image after the other.
        """
        images = np.stack([image for _, _, image in batch])
        inputs = self._model.preprocessing(images)
        outputs = self._model.preprocessing.inner(self._model.compute(inputs))
        decided, probabilities = self._model.decisions(outputs), self._model.decisions.probabilities(outputs)
        answers = []
        for number, (path, place, _) in enumerate(batch):
            answer: dict[str, Any] = {"file": str(path)} | ({} if place is None else {"index": place})
            if not np.isfinite(outputs[number]).all():
                answer["error"] = "the model's outputs for it are not finite: check the image"
            elif self._model.task == "embedding":
                answer["embedding"] = list(map(float, outputs[number]))
            elif self._model.task == "regression":
                answer["values"] = dict(zip(self._model.classes, map(float, outputs[number]), strict=True))
            elif self._model.task != "segmentation":
                answer["class"] = decided[number]
                answer["probabilities"] = dict(zip(self._model.classes, map(float, probabilities[number]), strict=True))
                answer["outputs"] = list(map(float, outputs[number]))
            else:
                answer |= self._masks(path, place, np.asarray(decided[number]))
            if (said := self._out_of_range(inputs[number])) is not None:
                answer["warning"] = said
            answers.append(answer)
        return answers

    def line(self, answer: dict[str, Any]) -> str:
        """Return an answer as a line for people."""
        name = answer["file"] + (f"[{answer['index']}]" if "index" in answer else "")
        warning = f" (warning: {answer['warning']})" if "warning" in answer else ""
        if "error" in answer:
            return f"{name}: {answer['error']}{warning}"
        if "embedding" in answer:
            vector = answer["embedding"]
            shown = ", ".join(f"{value:.4g}" for value in vector[:4]) + (", …" if len(vector) > 4 else "")
            return f"{name}: embedding of {len(vector)} numbers ({shown}){warning}"
        if "values" in answer:
            return f"{name}: {', '.join(f'{label} {value:.6g}' for label, value in answer['values'].items())}{warning}"
        if "class" in answer:
            shares = answer["probabilities"]
            if answer["class"] in shares:
                return f"{name}: {answer['class']} {shares[answer['class']]:.4f}{warning}"
            listed = ", ".join(f"{label} {share:.4f}" for label, share in shares.items())
            return f"{name}: {answer['class'] or 'no label'} ({listed}){warning}"
        pixels = ", ".join(f"{label} {count} pixels" for label, count in answer["pixels"].items())
        written = answer.get("masks")
        return f"{name}: {pixels}{'' if written is None else ' -> ' + ', '.join(written)}{warning}"

    def _masks(self, path: Path, place: int | None, mask: Array) -> dict[str, Any]:
        """Return how many pixels each class has, and the files that were written."""
        classes = self._model.classes
        if mask.dtype == bool:
            layers = dict(zip(classes, mask, strict=True))
            pixels = {label: int(layer.sum()) for label, layer in layers.items()}
        else:
            layers = {"": mask}
            pixels = {label: int((mask == number).sum()) for number, label in enumerate(classes, 1)}
        if self._out is None:
            return {"pixels": pixels}
        stem = self._stem(path, place)
        files = [masks.write(self._out, stem + (f".{_plain(label)}" if label else ""), path, layer) for label, layer in layers.items()]
        return {"pixels": pixels, "masks": list(map(str, files))}

    def _stem(self, path: Path, place: int | None) -> str:
        """Return the name of a mask's file without its ending; images of the same name in several folders are numbered."""
        stem = re.sub(r"\.nii(\.gz)?$", "", path.name) if ".nii" in path.name else path.stem
        stem += "" if place is None else f"-{place}"
        self._written[stem] += 1
        return stem if self._written[stem] == 1 else f"{stem}~{self._written[stem]}"

    def _out_of_range(self, inputs: Array) -> str | None:
        """Return a warning where an image's input lies far outside of what the calibration images had: a sign of another scale."""
        low, high = self._model.checked.artifact.value_range
        found = float(inputs.min()), float(inputs.max())
        # twice the range on either side is allowed: images differ, and only a wrong scale goes further
        if found[0] >= low - 2 * (high - low) and found[1] <= high + 2 * (high - low):
            return None
        return f"input values from {found[0]:.4g} to {found[1]:.4g}, calibration images had {low:.4g} to {high:.4g}: check the scale"


def _plain(label: str) -> str:
    """Return a label that may stand in the name of a file on every system."""
    return re.sub(r"[^\w.-]+", "_", label).strip(".") or "class"
