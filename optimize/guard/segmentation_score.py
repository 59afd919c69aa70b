"""How well a model segments: Dice of its masks with the true ones, patient by patient.

    Dice = 2 sum(I) / (sum(P) + sum(T))

with I the pixels in both masks, P those predicted and T the true ones, summed over all images of a patient; a patient with many images
thus counts once. The background is no class. A class's Dice is the mean over patients. A patient without a true or a predicted pixel of
it says nothing about it; one without a true pixel but with predicted ones counts 0. The overall Dice is the mean over the classes.

An image whose outputs are not all finite counts as if every one of its pixels were wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Meaning
from optimize.data.masks import Array, Booleans, foreground, predicted
from optimize.guard.intervals import as_numbers

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassDice:
    """One class: how many patients say something about it, and the mean of their Dice; None where there are none."""

    patients: int
    dice: float | None


@dataclass(frozen=True, eq=False)
class SegmentationScore:
    """How a model's masks lie on the true ones on one split. N images, F classes.

    Args:
        both: pixels in both masks, (N, F).
        predicted: pixels in the predicted mask, (N, F).
        true: pixels in the true mask, (N, F).
        masks: the predicted masks, a bit for each pixel: uint8 (N, F, bytes).
        finite: images whose outputs were all finite, (N,).
        patients: number of each image's patient, (N,), from 0 without gaps.
        classes: names of the F classes.
        groups: column -> subgroup of each image, (N,).
    """

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
        """Dice of each patient and class, (patients, F); NaN where it says nothing."""
        return self._by_patient(self.both, self.predicted + self.true)

    @property
    def overall(self) -> float:
        """Mean over the classes that any patient says something about; 0 where there is none."""
        return float(np.mean(list(self.figures.values()))) if self.figures else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """Dice of each class that any patient says something about."""
        return {name: each.dice for name, each in self.per_class.items() if each.dice is not None}

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
            "per_class": {name: asdict(each) for name, each in self.per_class.items()},
            "per_group": {
                column: {value: {"patients": len(part.per_patient), "dice": part.overall} for value, part in self.parts(column)}
                for column in self.groups
            },
            "confusion": None,
        }

    def agreements(self, original: SegmentationScore) -> Doubles:
        """Dice of each patient and class with the original's masks in place of the true ones, (patients, F); NaN where it says nothing."""
        shared = np.array([np.unpackbits(ours & theirs, axis=-1).sum(-1) for ours, theirs in zip(self.masks, original.masks, strict=True)])
        whole = (self.finite & original.finite)[:, None]
        return self._by_patient(shared * whole, self.predicted + original.predicted)

    @property
    def mean_dice(self) -> Doubles:
        """Mean Dice of each class over the patients who say something about it, (F,); NaN where none does."""
        return means(self.per_patient)

    def _by_patient(self, both: Counts, marked: Counts) -> Doubles:
        sums = np.zeros((2, int(self.patients.max()) + 1, len(self.classes)))
        for total, pixels in zip(sums, (both, marked), strict=True):
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
        answers: the batches; nothing of a batch is kept but its masks, as bits.
        classes: names of the F classes.
        patients: id per image over all batches, (N,); without it each image is its own patient.
        groups: column -> subgroup of each image, (N,).
        meaning: of the outputs.
    """
    parts = [_compared(outputs, masks, len(classes), meaning) for outputs, masks in answers]
    both, predicted, true, bits, finite = (np.concatenate(each) for each in zip(*parts, strict=True))
    numbers = np.arange(len(both)) if patients is None else as_numbers(patients)
    return SegmentationScore(both, predicted, true, bits, finite, numbers, tuple(classes), dict(groups or {}))


def _compared(
    outputs: Floats, masks: Array, classes: int, meaning: Meaning
) -> tuple[Counts, Counts, Counts, npt.NDArray[np.uint8], Booleans]:
    truth = foreground(masks, classes).reshape(len(outputs), classes, -1)
    finite = np.asarray(np.isfinite(outputs).reshape(len(outputs), -1).all(1))
    said = np.where(finite[:, None, None], predicted(outputs, masks, meaning).reshape(truth.shape), ~truth)
    counts = [pixels.sum(-1, dtype=np.int64) for pixels in (said & truth, said, truth)]
    return counts[0], counts[1], counts[2], np.packbits(said, axis=-1), finite


def mean_agreement(agreements: Doubles) -> float:
    """Mean over the classes of the means over the patients, of (patients, F); 1 where neither marks anything."""
    per_class = means(agreements)
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if len(known) else 1.0


def means(per_patient: Doubles) -> Doubles:
    """Mean over the patients who say something, (F,); NaN where none does."""
    known = ~np.isnan(per_patient)
    return ratio(np.where(known, per_patient, 0.0).sum(0), known.sum(0))


def ratio(above: Doubles, below: Array) -> Doubles:
    """Above / below; NaN where there is nothing below."""
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)
