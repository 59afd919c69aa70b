"""The score of a segmentation: Dice of its masks with the true masks, patient by patient.

    Dice = 2 sum(I) / (sum(P) + sum(T))

I are the pixels in both masks, P the predicted and T the true ones, each summed over all images of a patient. So a patient with many images
counts once. The background is not a class. A class's Dice is the mean over patients. A patient with neither true nor predicted pixels of
the class is left out; one with predicted pixels only counts 0. The overall Dice is the mean over the classes.

Example: a patient has two images, with I = 30 and 0, P = 40 and 10, T = 50 and 0 pixels. The Dice is 2 * 30 / (50 + 50) = 0.6.

An image whose outputs are not all finite counts as if every one of its pixels were wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Meaning
from optimize.data.masks import Array, Booleans, foreground, predicted
from optimize.guard.design_effect import as_numbers

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassDice:
    """One class: the number of patients with a Dice for it, and their mean Dice; None where there are none."""

    patients: int
    dice: float | None


@dataclass(frozen=True, eq=False)
class SegmentationScore:
    """A model's masks beside the true ones, on one split of N images with F classes.

    Args:
        both: pixels in both masks, (N, F).
        predicted: pixels in the predicted mask, (N, F).
        true: pixels in the true mask, (N, F).
        masks: the predicted masks, a bit for each pixel: uint8 (N, F, bytes).
        finite: whether all outputs of each image were finite, (N,).
        patients: patient number of each image, (N,), from 0 without gaps.
        classes: names of the F classes.
        groups: subgroup of each image, (N,), by the name of the subgroup column.
    """

    task: ClassVar[str] = "segmentation"

    both: Counts
    predicted: Counts
    true: Counts
    masks: npt.NDArray[np.uint8]
    finite: Booleans
    patients: Counts
    classes: tuple[str, ...]
    groups: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def per_patient(self) -> Doubles:
        """Dice of each patient and class, (patients, F); NaN where neither mask has a pixel."""
        return self._by_patient(self.both, self.predicted + self.true)

    @property
    def overall(self) -> float:
        """Mean over the classes for which any patient has a Dice; 0 where there is none."""
        return float(np.mean(list(self.figures.values()))) if self.figures else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """Dice of each class for which any patient has one."""
        return {name: score.dice for name, score in self.per_class.items() if score.dice is not None}

    @property
    def per_class(self) -> dict[str, ClassDice]:
        """Score of each class by its name."""
        counts, dice = (~np.isnan(self.per_patient)).sum(0), self.mean_dice
        return {name: ClassDice(int(counts[k]), float(dice[k]) if counts[k] else None) for k, name in enumerate(self.classes)}

    def agreement(self, original: SegmentationScore) -> float:
        """Overall Dice with the original's masks in place of the true ones; 1 where neither marks anything."""
        return mean_agreement(self.agreements(original))

    def take(self, rows: Array) -> SegmentationScore:
        """The score of some of the images."""
        images = {name: getattr(self, name)[rows] for name in ("both", "predicted", "true", "masks", "finite")}
        groups = {column: values[rows] for column, values in self.groups.items()}
        return replace(self, **images, patients=as_numbers(self.patients[rows]), groups=groups)

    def parts(self, column: str) -> list[tuple[str, SegmentationScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]

    def as_dict(self, original: SegmentationScore | None = None) -> dict[str, Any]:
        """The form that a report shows; agreement is with `original`, or with itself."""
        return {
            "overall": {"dice": self.overall, "agreement": self.agreement(original or self)},
            "per_class": {name: asdict(score) for name, score in self.per_class.items()},
            "per_group": {
                column: {value: {"patients": len(part.per_patient), "dice": part.overall} for value, part in self.parts(column)}
                for column in self.groups
            },
            "confusion": None,
        }

    def agreements(self, original: SegmentationScore) -> Doubles:
        """Dice of each patient and class with the original's masks in place of the true ones, (patients, F); NaN where both are empty."""
        # Image by image, so that only one image's masks are unpacked to bytes at a time.
        shared = np.array([np.unpackbits(ours & theirs, axis=-1).sum(-1) for ours, theirs in zip(self.masks, original.masks, strict=True)])
        # An image with outputs that are not finite agrees in no pixel, though its stored mask is made of wrong pixels on purpose.
        whole = (self.finite & original.finite)[:, None]
        return self._by_patient(shared * whole, self.predicted + original.predicted)

    @property
    def mean_dice(self) -> Doubles:
        """Mean Dice of each class over the patients who have one, (F,); NaN where none has."""
        return means(self.per_patient)

    def _by_patient(self, both: Counts, marked: Counts) -> Doubles:
        sums = np.zeros((2, int(self.patients.max()) + 1, len(self.classes)))
        for total, pixels in zip(sums, (both, marked), strict=True):
            # `np.add.at` adds up repeated indices; `total[patients] += pixels` would keep only the last image of each patient.
            np.add.at(total, self.patients, pixels)
        return ratio(2 * sums[0], sums[1])


def score_masks(
    answers: Iterable[tuple[Floats, Array]],
    classes: Sequence[str],
    patients: Array | None = None,
    groups: Mapping[str, Array] | None = None,
    meaning: Meaning = "logits",
) -> SegmentationScore:
    """Score batches of outputs, (n, K, *spatial), each with its true masks in either form of `optimize.data.masks`.

    Args:
        answers: the batches. Only a batch's masks are kept, as bits: 8 times smaller than booleans, 32 times smaller than outputs.
        classes: names of the F classes.
        patients: patient id of each image over all batches, (N,); without it each image is a patient of its own.
        groups: subgroup of each image, (N,), by the name of the subgroup column.
        meaning: whether the outputs are logits or probabilities.
    """
    parts = [_compared(outputs, masks, len(classes), meaning) for outputs, masks in answers]
    both, predicted, true, bits, finite = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    # Images of unknown patients count as independent, which makes bounds too narrow if they are not; the report says so.
    numbers = np.arange(len(both)) if patients is None else as_numbers(patients)
    return SegmentationScore(both, predicted, true, bits, finite, numbers, tuple(classes), dict(groups or {}))


def _compared(
    outputs: Floats, masks: Array, classes: int, meaning: Meaning
) -> tuple[Counts, Counts, Counts, npt.NDArray[np.uint8], Booleans]:
    # All spatial axes become one, so the same code scores images (H, W) and volumes (D, H, W).
    truth = foreground(masks, classes).reshape(len(outputs), classes, -1)
    finite = np.asarray(np.isfinite(outputs).reshape(len(outputs), -1).all(1))
    # Where outputs are not finite, the mask is the opposite of the true one: every pixel is wrong.
    marked = np.where(finite[:, None, None], predicted(outputs, masks, meaning).reshape(truth.shape), ~truth)
    counts = [pixels.sum(-1, dtype=np.int64) for pixels in (marked & truth, marked, truth)]
    return counts[0], counts[1], counts[2], np.packbits(marked, axis=-1), finite


def mean_agreement(agreements: Doubles) -> float:
    """Mean over the classes of the means over the patients; 1 where neither model marks anything.

    Args:
        agreements: Dice of each patient and class, (patients, F), with NaN as in `SegmentationScore.agreements`.
    """
    per_class = means(agreements)
    known = per_class[~np.isnan(per_class)]
    # Two models that both mark nothing agree entirely.
    return float(known.mean()) if len(known) else 1.0


def means(per_patient: Doubles) -> Doubles:
    """Mean over the patients that are not NaN, (F,); NaN where all are."""
    known = ~np.isnan(per_patient)
    return ratio(np.where(known, per_patient, 0.0).sum(0), known.sum(0))


def ratio(above: Doubles, below: Array) -> Doubles:
    """The quotient above / below; NaN where `below` is 0."""
    # The divisor is a whole number of pixels or patients, so at least 1 where it is not 0; `maximum` only avoids a warning.
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)
