"""How well a model segments: Dice of its masks with the true ones, patient by patient.

    Dice = 2 sum(I) / (sum(P) + sum(T))

with I the pixels in both masks, P those predicted and T the true ones, summed over all images of a patient; a patient with many images
thus counts once. The background is no class. A class's Dice is the mean over patients. A patient without a true or a predicted pixel of
it says nothing about it; one without a true pixel but with predicted ones counts 0. The overall Dice is the mean over the classes.

An image whose outputs are not all finite counts as if every one of its pixels were wrong.

*Few patients.* Of n patients who are all well, one in n / 3 may still lose much, and no interval of what was seen knows of it. So the
verdict's bounds have one more patient in them (`optimize.guard.worst_case`), who lost half of a perfect Dice: that is the assumption about
the tail. A limit of 2 pp then takes 74 patients at the least, one of 6 pp 24.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Meaning
from optimize.data.masks import Array, Booleans, foreground, predicted
from optimize.guard.intervals import as_numbers, mean_of
from optimize.guard.limits import Limits, Relative
from optimize.guard.rail import Rail, drop_rail

SHARES = (0.0, 1.0)
UNSEEN_LOSS = 0.5
"""Dice that a patient is assumed to lose at most if the test set holds no such patient: half of a perfect one."""
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
        counts, dice = (~np.isnan(self.per_patient)).sum(0), self._per_class
        return {name: ClassDice(int(counts[k]), float(dice[k]) if counts[k] else None) for k, name in enumerate(self.classes)}

    def agreement(self, original: Self) -> float:
        """Overall Dice with the original's masks in place of the true ones; 1 where neither marks anything."""
        return _agreed(self._agreements(original))

    def take(self, rows: Array) -> SegmentationScore:
        """The score of some of the images."""
        images = {name: getattr(self, name)[rows] for name in ("both", "predicted", "true", "masks", "finite")}
        groups = {column: values[rows] for column, values in self.groups.items()}
        return replace(self, **images, patients=as_numbers(self.patients[rows]), groups=groups)

    def parts(self, column: str) -> list[tuple[str, SegmentationScore]]:
        """The subgroups of one column, in the order of their names."""
        values = self.groups[column]
        return [(str(value), self.take(values == value)) for value in sorted(set(values.tolist()))]

    def rails(self, before: Self, limits: Limits) -> list[Rail]:
        """Every guard-rail that was asked for, against the original's score of the same images."""
        return [
            self._overall(before, limits, limits.max_drop),
            *self._of_classes(before, limits),
            *(
                new._overall(old, limits, limits.group_drop, column, value)
                for column in self.groups
                for (value, old), (_, new) in zip(before.parts(column), self.parts(column), strict=True)
            ),
            *self._floors(before, limits),
        ]

    def _overall(
        self, before: SegmentationScore, limits: Limits, limit: float, column: str | None = None, value: str | None = None
    ) -> Rail:
        """Of the overall Dice."""
        known, falls = self._falls(before, limit)
        fall = before.overall - self.overall
        worst = fall + _pull(known, UNSEEN_LOSS - _means(np.where(known, falls, np.nan)))
        found = mean_of(_influences(known, falls), limits.confidence, worst, fall, freedom=_freedom(known))
        if column is None:
            return drop_rail(limits, limit, "overall Dice", found, before.overall, self.overall)
        return drop_rail(limits, limit, "Dice", found, before.overall, self.overall, scope="group", name=value, column=column)

    def _of_classes(self, before: Self, limits: Limits) -> Iterator[Rail]:
        known, falls = self._falls(before, limits.max_class_drop)
        old, new = (np.nan_to_num(each._per_class, nan=1.0) for each in (before, self))
        for k, name in enumerate(self.classes):
            found = mean_of(falls[known[:, k], k], limits.confidence, UNSEEN_LOSS, float(old[k] - new[k]))
            yield drop_rail(limits, limits.max_class_drop, "Dice", found, float(old[k]), float(new[k]), scope="class", name=name)

    def _floors(self, before: Self, limits: Limits) -> Iterator[Rail]:
        if limits.min_class_f1:
            wording = f"{100 * limits.min_class_f1:.2f} %"
            for name, dice in self.figures.items():
                values = self.per_patient[:, self.classes.index(name)]
                found = mean_of(values[~np.isnan(values)], limits.confidence, max(0.0, dice - UNSEEN_LOSS), ends=SHARES)
                old = before.figures.get(name)
                yield Rail("Dice", f"Dice of {name}", "floor", limits.min_class_f1, wording, old, dice, found, limits.sure, "class", name)
        if limits.min_agreement:
            agreements = self._agreements(before)
            known = ~np.isnan(agreements)
            each = _influences(known, np.where(known, agreements, 0.0))
            agreed = _agreed(agreements)
            worst = agreed - _pull(known, np.full(len(self.classes), UNSEEN_LOSS))
            found = mean_of(each, limits.confidence, worst, agreed, SHARES, _freedom(known))
            title, wording = "agreement with the original’s masks", f"{100 * limits.min_agreement:.2f} %"
            yield Rail("agreement", title, "floor", limits.min_agreement, wording, None, found.value, found, limits.sure)

    def as_dict(self, original: Self | None = None) -> dict[str, Any]:
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

    def _agreements(self, original: Self) -> Doubles:
        """Dice of each patient and class with the original's masks in place of the true ones, (patients, F); NaN where it says nothing."""
        shared = np.array([np.unpackbits(ours & theirs, axis=-1).sum(-1) for ours, theirs in zip(self.masks, original.masks, strict=True)])
        whole = (self.finite & original.finite)[:, None]
        return self._by_patient(shared * whole, self.predicted + original.predicted)

    @property
    def _per_class(self) -> Doubles:
        return _means(self.per_patient)

    def _falls(self, before: SegmentationScore, limit: float) -> tuple[Booleans, Doubles]:
        """Whom to compare, and how far each fell, both (patients, F); a mask that is rightly empty is worth 1.

        Against a relative limit r the fall of (1 - r) before is looked at, and r of the figure added again: linear in every patient, so
        that the spread of both figures is in it.
        """
        old, new = before.per_patient, self.per_patient
        known, whole = ~(np.isnan(old) & np.isnan(new)), np.nan_to_num(old, nan=1.0)
        falls = whole - np.nan_to_num(new, nan=1.0)
        if isinstance(limit, Relative):
            falls = falls - limit * (whole - _ratio(np.where(known, whole, 0.0).sum(0), known.sum(0)))
        return known, falls

    def _by_patient(self, both: Counts, marked: Counts) -> Doubles:
        sums = np.zeros((2, int(self.patients.max()) + 1, len(self.classes)))
        for total, pixels in zip(sums, (both, marked), strict=True):
            np.add.at(total, self.patients, pixels)
        return _ratio(2 * sums[0], sums[1])


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


def _influences(known: Booleans, values: Doubles) -> Doubles:
    """What each patient adds to the mean over the classes of means over the patients who say something, (patients,), up to a constant.

    A patient who shows a class that few have moves that class's mean, and so the figure, more than others do (the linear term of the figure
    in the patients' weights). Patients who say nothing are left out.

    Args:
        known: who says something about what, (patients, F).
        values: what they say, (patients, F).
    """
    counts = known.sum(0)
    means = np.where(known, values, 0.0).sum(0) / np.maximum(counts, 1)
    said, classes = known.any(1), max(1, int((counts > 0).sum()))
    each = np.where(known, (values - means) / np.maximum(counts, 1), 0.0).sum(1) * said.sum() / classes
    return np.asarray(each[said])


def _pull(known: Booleans, gaps: Doubles) -> float:
    """How far a patient who shows every class, each so far from its mean, lies from the mean over the classes.

    Args:
        known: who says something about what, (patients, F).
        gaps: one of each class, (F,).
    """
    counts = known.sum(0)
    seen = counts > 0
    return float((gaps[seen] / counts[seen]).sum() * known.any(1).sum() / max(1, int(seen.sum())))


def _freedom(known: Booleans) -> int:
    """Degrees of freedom of the spread of such a figure: those of the class that fewest patients say something about."""
    counts = known.sum(0)
    return max(1, int(counts[counts > 0].min(initial=known.shape[0])) - 1)


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
