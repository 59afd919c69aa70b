"""How well a model segments: Dice of its masks with the true ones, patient by patient.

    Dice = 2 sum(I) / (sum(P) + sum(T))

with I the pixels in both masks, P those predicted and T the true ones, summed over all images of a patient; a patient with many images
thus counts once. The background is no class. A class's Dice is the mean over patients. A patient without a true or a predicted pixel of
it says nothing about it; one without a true pixel but with predicted ones counts 0. The overall Dice is the mean over the classes.

An image whose outputs are not all finite counts as if every one of its pixels were wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats
from optimize.guard.drop import PATIENTS, Drop, Floor, mean_chance, mean_drop
from optimize.guard.limits import Limits
from optimize.masks import Array, Booleans, decided, foreground

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassDice:
    """One class: how many patients say something about it, and the mean of their Dice; None where there are none."""

    patients: int
    dice: float | None


@dataclass(frozen=True, eq=False)
class Dice:
    """How a model's masks lie on the true ones on one split. N images, F classes.

    Args:
        both: pixels in both masks, (N, F).
        predicted: pixels in the predicted mask, (N, F).
        true: pixels in the true mask, (N, F).
        masks: the predicted masks, a bit for each pixel: uint8 (N, F, bytes).
        finite: images whose outputs were all finite, (N,).
        patients: number of each image's patient, (N,), from 0 without gaps.
        classes: names of the F classes.
    """

    both: Counts
    predicted: Counts
    true: Counts
    masks: npt.NDArray[np.uint8]
    finite: Booleans
    patients: Counts
    classes: tuple[str, ...]

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
        counts, dice = (~np.isnan(self.per_patient)).sum(0), self._per_class
        return {name: ClassDice(int(counts[k]), float(dice[k]) if counts[k] else None) for k, name in enumerate(self.classes)}

    def agreement(self, original: Self) -> float:
        """Overall Dice with the original's masks in place of the true ones; 1 where neither marks anything."""
        return _agreed(self._agreements(original))

    def drop(self, before: Self, limits: Limits) -> Drop:
        """Of the overall Dice; a patient's difference is the mean over the classes it says something about."""
        known, differences = self._differences(before)
        each = [float(row[said].mean()) for row, said in zip(differences, known, strict=True) if said.any()]
        return mean_drop("overall Dice", limits.max_drop, before.overall - self.overall, each)

    def class_drops(self, before: Self, limits: Limits) -> dict[str, Drop]:
        """Of each class's Dice."""
        known, differences = self._differences(before)
        falls = np.nan_to_num(before._per_class, nan=1.0) - np.nan_to_num(self._per_class, nan=1.0)
        return {
            name: mean_drop(f"Dice of {name}", limits.max_class_drop, float(falls[k]), differences[known[:, k], k].tolist())
            for k, name in enumerate(self.classes)
        }

    def floors(self, before: Self, limits: Limits) -> list[Floor]:
        """Dice of each class that is known, and the agreement with the original."""
        each = [Floor(f"Dice of {name}", dice, limits.min_class_f1) for name, dice in self.figures.items()]
        agreements = self._agreements(before)
        patients = [float(row[~np.isnan(row)].mean()) for row in agreements if not np.isnan(row).all()]
        chance = mean_chance(patients) if len(patients) >= PATIENTS else 0.0
        return [*each, Floor("agreement with the original’s masks", _agreed(agreements), limits.min_agreement, chance)]

    def as_dict(self, original: Self | None = None) -> dict[str, Any]:
        """The form that a report shows; agreement is with `original`, or with itself."""
        return {
            "overall": {"dice": self.overall, "agreement": self.agreement(original or self)},
            "per_class": {name: asdict(each) for name, each in self.per_class.items()},
            "confusion": None,
        }

    def _agreements(self, original: Self) -> Doubles:
        """Dice of each patient and class with the original's masks in place of the true ones, (patients, F); NaN where it says nothing."""
        shared = np.array([np.unpackbits(ours & theirs, axis=-1).sum(-1) for ours, theirs in zip(self.masks, original.masks, strict=True)])
        whole = (self.finite & original.finite)[:, None]
        return self._by_patient(shared * whole, self.predicted + original.predicted)

    @property
    def _per_class(self) -> Doubles:
        return _means(self.per_patient)

    def _differences(self, before: Self) -> tuple[Booleans, Doubles]:
        """Whom to compare, and before minus after, both (patients, F); a mask that is rightly empty is worth 1."""
        old, new = before.per_patient, self.per_patient
        return ~(np.isnan(old) & np.isnan(new)), np.nan_to_num(old, nan=1.0) - np.nan_to_num(new, nan=1.0)

    def _by_patient(self, both: Counts, marked: Counts) -> Doubles:
        sums = np.zeros((2, int(self.patients.max()) + 1, len(self.classes)))
        for total, pixels in zip(sums, (both, marked), strict=True):
            np.add.at(total, self.patients, pixels)
        return _ratio(2 * sums[0], sums[1])


def overlap(answers: Iterable[tuple[Floats, Array]], classes: Sequence[str], patients: Array | None = None) -> Dice:
    """Score batches of outputs, (n, K, *spatial), each with its true masks in either form of `optimize.masks`.

    Args:
        answers: the batches; nothing of a batch is kept but its masks, as bits.
        classes: names of the F classes.
        patients: id per image over all batches, (N,); without it each image is its own patient.
    """
    parts = [_compared(outputs, masks, len(classes)) for outputs, masks in answers]
    both, predicted, true, bits, finite = (np.concatenate(each) for each in zip(*parts, strict=True))
    numbers = np.arange(len(both)) if patients is None else np.unique(patients, return_inverse=True)[1].reshape(-1)
    return Dice(both, predicted, true, bits, finite, numbers.astype(np.int64), tuple(classes))


def _compared(outputs: Floats, masks: Array, classes: int) -> tuple[Counts, Counts, Counts, npt.NDArray[np.uint8], Booleans]:
    truth = foreground(masks, classes).reshape(len(outputs), classes, -1)
    finite = np.asarray(np.isfinite(outputs).reshape(len(outputs), -1).all(1))
    said = np.where(finite[:, None, None], decided(outputs, masks).reshape(truth.shape), ~truth)
    counts = [pixels.sum(-1, dtype=np.int64) for pixels in (said & truth, said, truth)]
    return counts[0], counts[1], counts[2], np.packbits(said, axis=-1), finite


def _agreed(agreements: Doubles) -> float:
    """Mean over the classes of the means over the patients, of (patients, F); 1 where neither marks anything."""
    per_class = _means(agreements)
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if len(known) else 1.0


def _means(per_patient: Doubles) -> Doubles:
    """Mean over the patients who say something, (F,); NaN where none does."""
    known = ~np.isnan(per_patient)
    return _ratio(np.where(known, per_patient, 0.0).sum(0), known.sum(0))


def _ratio(above: Doubles, below: Array) -> Doubles:
    """Above / below; NaN where there is nothing below."""
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)
